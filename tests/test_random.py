"""Random classifiers of ranks 1 to 3: the contract holds for nets nobody thought of."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

import fullyconv
import nets
import strategies

# PyTorch compiles nothing: 220 networks there. The other backends compile each anew, and get the first of the same.
EXAMPLES = {"torch": 110, "openvino": 40, "tensorflow": 30, "jax": 12}[nets.BACKEND]
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # a failing network is printed as it is: shrinking one takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
pytestmark = pytest.mark.numerical


def prepared(spec):
    """The network of a spec."""
    with passing_over_dull_nets():
        return nets.prepare(strategies.build(spec), data_format=spec.data_format)


@contextlib.contextmanager
def passing_over_dull_nets():
    """A network whose answer hardly depends on the image proves nothing: hypothesis draws another."""
    try:
        yield
    except AssertionError as error:
        assume("hardly differ" not in str(error))
        raise


def _even_averages(model):
    """Whether an average pooling of this model pads unevenly."""
    pools = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
    return any(isinstance(x, pools) and x.padding == "same" and max(x.pool_size) > 2 for x in model.layers)


@SETTINGS
@given(strategies.specs(padded=False))
def test_nets_without_padding_equal_the_classifier_on_every_window(spec):
    model = prepared(spec)
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "exact"
    nets.check_native(model, fcn, spec.data_format)
    strides = keras.tree.flatten(fcn.grids)[0].stride
    with passing_over_dull_nets():
        nets.check_windows(model, fcn, spec.data_format, extra=[s + 1 for s in strides])


@SETTINGS
@given(strategies.specs(padded=True))
def test_padded_nets_are_native_and_hold_at_every_size(spec):
    model = prepared(spec)
    if nets.BACKEND == "torch":  # nets.UNEVEN_AVERAGE
        assume(not _even_averages(model))
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn, spec.data_format)
    axis = int(np.argmin(spec.window))
    if nets.BACKEND != "jax":
        every = max(1, 2 * int(keras.tree.flatten(fcn.grids)[0].stride[axis]) - 1)  # three sizes
        with passing_over_dull_nets():
            nets.check_sizes(model, fcn, spec.data_format, every=every, axes=(axis,))
