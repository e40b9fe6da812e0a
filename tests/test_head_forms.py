"""The two forms of a large Dense layer: the convolution, and the same layer on the gathered window of each cell."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
import nets
from fullyconv import _keras
from fullyconv.rules.dense import GATHERED, LARGE
from test_round_trip import described, resaved, tuned

# A map of 4 x 4 x 64 positions, 4 pixels apart, and two Dense layers of 1024 units: both just large enough.
SIZE, UNITS = (4, 64), 1024
NOTE = (
    "fc1: stays a Dense layer, on the 4 x 4 positions under each cell, which crops gather; "
    "JAX, PyTorch and TensorFlow are slow at the convolution, which head='convolution' makes of it."
)


@functools.cache
def source(order: tuple[int, ...] = (1, 2, 3), dtype: str = "float32") -> keras.Model:
    """A prepared classifier with two large Dense layers and a small one, made once and never changed."""
    keras.utils.set_random_seed(5)
    stack = [
        layers.Conv2D(64, 3, strides=2, activation="relu", dtype=dtype, name="conv"),
        layers.MaxPooling2D(2, dtype=dtype, name="pool"),
        layers.Permute(order, dtype=dtype, name="permute"),
        layers.Flatten(dtype=dtype, name="flat"),
        layers.Dense(UNITS, "relu", kernel_constraint=keras.constraints.MaxNorm(9.0), dtype=dtype, name="fc1"),
        layers.Dropout(0.3, dtype=dtype, name="drop"),
        layers.Dense(
            UNITS, "relu", use_bias=False, kernel_regularizer=keras.regularizers.OrthogonalRegularizer(), name="fc2"
        ),
        layers.Dense(5, "softmax", name="fc3"),
    ]
    return nets.prepare(keras.Sequential([keras.Input((17, 18, 3)), *stack], name="large"))


def names_of(fcn: fullyconv.FullyConv) -> dict[str, str]:
    """The class of each layer of the head."""
    return {name: type(fcn.model.get_layer(name)).__name__ for name in ("fc1", "fc2", "fc3")}


@pytest.mark.numerical
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_both_forms_give_the_same_numbers(order):
    model = source(order)
    forms = [fullyconv.convert(model, head=head) for head in ("convolution", "dense")]
    assert [list(names_of(fcn).values()) for fcn in forms] == [["Conv2D"] * 3, ["Dense", "Dense", "Conv2D"]]
    assert forms[0].grid == forms[1].grid
    one, other = (nets.Runner(_keras_without_softmax(fcn.model), dynamic=True) for fcn in forms)
    for size in ((17, 18), (21, 33), (38, 27)):
        image = nets.images(size, 3, seed=size[1])
        expected, actual = one(image), other(image)
        assert actual.shape[1:3] == forms[0].grid.cells(size)
        nets.equal(expected, actual, float(np.ptp(expected)))
    nets.check_native(model, forms[1])
    nets.check_windows(model, forms[1], extra=9)


def _keras_without_softmax(model: keras.Model) -> keras.Model:
    last = _keras.clone(model)
    for new, old in zip(last.weights, model.weights, strict=True):
        new.assign(nets.to_numpy(old))
    last.get_layer("fc3").activation = keras.activations.linear
    return last


def test_what_the_layers_keep():
    """All of a Dense layer stays: its kernel as it is, and settings that a convolution cannot hold."""
    model = source()
    fcn = fullyconv.convert(model, head="dense")
    for name in ("fc1", "fc2"):
        old, new = (m.get_layer(name) for m in (model, fcn.model))
        assert new.get_config() == old.get_config()
        assert new is not old
        for a, b in zip(old.weights, new.weights, strict=True):
            assert (nets.to_numpy(a) == nets.to_numpy(b)).all()
    assert not any("Orthogonal" in note for note in fcn.plan.notes)


def test_the_plan_says_so():
    plan = fullyconv.plan(source(), head="dense")
    assert [s.result for s in plan.steps[-4:]] == [
        "Concatenate + Dense, 1024 units",
        "Dropout",
        "Dense, 1024 units",
        "Conv2D 1 x 1, 5 filters",
    ]
    assert plan.notes == (NOTE,)
    other = fullyconv.plan(source(), head="convolution")
    assert other.steps[-4].result == "Conv2D 4 x 4, 1024 filters"
    for size in (None, 40):
        assert plan.cost(size).multiply_adds == other.cost(size).multiply_adds
        assert plan.cost(size).parameters == other.cost(size).parameters
    assert plan.cost(40).peak_activation == fullyconv.convert(plan).cost(40).peak_activation


def test_the_form_is_chosen_by_the_backend():
    expected = "convolution" if nets.BACKEND == "openvino" else "dense"
    assert fullyconv.plan(source()).options["head"] == expected
    with pytest.raises(ValueError, match=r"head") as caught:
        fullyconv.plan(source(), head="flat")
    assert str(caught.value) == "head must be 'convolution' or 'dense', or None for the faster one, not 'flat'."


def test_small_layers_are_convolutions():
    x = keras.Input((12, 12, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3, strides=2)(x))
    model = keras.Model(x, layers.Dense(5, name="fc")(y))
    assert 5 * y.shape[-1] < LARGE
    assert isinstance(fullyconv.convert(model, head="dense").model.get_layer("fc"), layers.Conv2D)


def test_memory_is_bounded():
    """Where cells are dense, so many values would be gathered that the convolution stays."""
    values = SIZE[0] ** 2 * SIZE[1]
    assert values > GATHERED * 2**2
    fcn = fullyconv.convert(source(), head="dense", stride=2)
    assert list(names_of(fcn).values()) == ["Conv2D", "Dense", "Conv2D"]
    nets.check_windows(source(), fcn, extra=5)


def test_channels_first_stays_a_convolution():
    """There a Dense layer's last axis is no channel axis."""
    x = keras.Input((64, 4, 4))
    y = layers.ZeroPadding2D(0, data_format="channels_first")(x)
    flat = layers.Flatten(data_format="channels_first")(y)
    plan = fullyconv.plan(keras.Model(x, layers.Dense(UNITS)(flat)), head="dense")
    assert plan.steps[-1].result == "Conv2D 4 x 4, 1024 filters"


@pytest.mark.parametrize("way", ["the source", "the graph alone", "like"])
def test_the_way_back(way, tmp_path):
    """From the plan, from the graph alone, and from a file that does not say which form it has."""
    model = source((3, 1, 2))
    fcn = tuned(fullyconv.convert(model, head="dense"))
    grid = fcn.grid
    fcn = fcn if way == "the source" else resaved(fcn, tmp_path)
    assert fcn.grid.axes == grid.axes
    assert fcn.exactness == "exact"
    back = fullyconv.to_classifier(fcn, like=model if way == "like" else None)
    x = nets.inputs_for(back, 2, 3)
    want, have = nets.run(fcn.model, x)[:, 0, 0], nets.run(back, x)
    nets.equal(want, have, float(np.abs(want[0] - want[1]).max()))
    assert [type(layer) for layer in back.layers if layer.weights] == [layers.Conv2D, *[layers.Dense] * 3]
    assert sum(isinstance(layer, layers.Flatten) for layer in back.layers) == 1
    if way == "the graph alone":
        assert [layer.name for layer in back.layers[1:]] == ["conv", "pool", "flatten", "fc1", "drop", "fc2", "fc3"]
    else:
        assert described(back) == described(model)


def test_a_file_that_says_its_form_comes_back_on_another_backend(tmp_path):
    """`like` is planned as the file says, whatever this backend would choose."""
    model = source()
    for head in ("convolution", "dense"):
        fullyconv.convert(model, head=head).save(tmp_path / f"{head}.keras")
        loaded = fullyconv.load(tmp_path / f"{head}.keras")
        assert loaded.options["head"] == head
        assert described(fullyconv.to_classifier(loaded, like=model)) == described(model)


CONVERT = """
import sys, keras, fullyconv
fcn = fullyconv.convert(keras.models.load_model(sys.argv[1], compile=False))
assert type(fcn.model.get_layer("fc1")) is keras.layers.Dense
fcn.save(sys.argv[2])
"""


@pytest.mark.skipif(nets.BACKEND == "torch", reason="the other backends open a file that was converted on PyTorch")
def test_converted_on_pytorch_and_opened_here(tmp_path):
    model = source()
    paths = [str(tmp_path / name) for name in ("classifier.keras", "fcn.keras")]
    model.save(paths[0])
    env = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", CONVERT, *paths], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    stock = keras.models.load_model(paths[1])
    image = nets.images((33, 26), 3)
    want = nets.run(fullyconv.convert(model, head="convolution").model, image)
    nets.equal(want, nets.run(stock, image), float(np.ptp(want)))
    nets.check_native(model, fullyconv.load(paths[1]))
