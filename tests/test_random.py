"""Random classifiers of ranks 1 to 3: the contract holds for nets nobody thought of."""

from __future__ import annotations

import fullyconv
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import nets
import strategies

# On OpenVINO, the default engine, 220 in all. JAX compiles every operation of every network anew: a share of them.
EXAMPLES = {"openvino": 110, "torch": 60, "tensorflow": 40, "jax": 15}[nets.BACKEND]
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
pytestmark = pytest.mark.numerical


def prepared(spec):
    """The network of a spec; one whose answer hardly depends on the image proves nothing and is passed over."""
    model = strategies.build(spec)
    try:
        return nets.prepare(model, data_format=spec.data_format)
    except AssertionError as error:
        assume("hardly differ" not in str(error))
        raise


def _even_averages(model):
    """Whether an average pooling of this model pads unevenly."""
    pools = (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
    return any(isinstance(layer, pools) and layer.padding == "same" for layer in model.layers)


@SETTINGS
@given(strategies.specs(padded=False))
def test_nets_without_padding_equal_the_classifier_on_every_window(spec):
    model = prepared(spec)
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "exact"
    nets.check_native(model, fcn, spec.data_format)
    strides = keras.tree.flatten(fcn.grids)[0].stride
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
        stride = keras.tree.flatten(fcn.grids)[0].stride[axis]
        nets.check_sizes(model, fcn, spec.data_format, every=max(1, int(stride) // 2), axes=(axis,))
