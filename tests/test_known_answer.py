"""What the well-known 40-line answer ("convert Dense to Conv2D, copy the weights in order") gets wrong.

Each test is named after one fault. The answer walks `model.layers`, adds them to a Sequential, skips Flatten, and
makes a Conv2D of every Dense with `get_weights()` reshaped.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
import nets

pytestmark = pytest.mark.numerical


def sequential(*stack, shape=(20, 18, 3)):
    keras.utils.set_random_seed(2)
    return nets.prepare(keras.Sequential([keras.Input(shape), *stack]))


def trunk():
    return layers.Conv2D(6, 3, activation="relu", name="conv"), layers.MaxPooling2D(2, name="pool")


def check(model, extra=4):
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn)
    nets.check_windows(model, fcn, extra=extra)
    return fcn


@pytest.mark.parametrize("pool", [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])
def test_a_pooling_head(pool):
    fcn = check(sequential(*trunk(), pool(), layers.Dense(5)))
    assert fcn.grid.stride == (2, 2)


def test_a_dense_without_bias():
    model = sequential(
        *trunk(), layers.Flatten(), layers.Dense(8, "relu", use_bias=False), layers.Dense(5, use_bias=False)
    )
    fcn = check(model)
    assert fcn.model.count_params() == model.count_params()


def test_a_functional_graph():
    x = keras.Input((20, 18, 3))
    y = layers.Conv2D(6, 3, activation="relu")(x)
    y = layers.Concatenate()([y, layers.Conv2D(6, 1, activation="relu")(y)])
    check(nets.prepare(keras.Model(x, layers.Dense(5)(layers.Flatten()(y)))))


def test_a_nested_graph():
    x = keras.Input((20, 18, 3))
    backbone = keras.Model(x, layers.MaxPooling2D(2)(layers.Conv2D(6, 3, activation="relu")(x)))
    check(sequential(backbone, layers.Flatten(), layers.Dense(5)))


def test_names_are_kept():
    fcn = check(
        sequential(*trunk(), layers.Flatten(name="flat"), layers.Dense(7, name="fc1"), layers.Dense(5, name="fc2"))
    )
    names = [layer.name for layer in fcn.model.layers]
    assert [name for name in names if name in ("conv", "pool", "fc1", "fc2")] == ["conv", "pool", "fc1", "fc2"]


def test_settings_are_kept():
    dense = layers.Dense(
        5, "tanh", kernel_regularizer="l2", kernel_initializer="he_uniform", name="fc", trainable=False
    )
    made = check(sequential(*trunk(), layers.Flatten(), dense)).model.get_layer("fc")
    assert isinstance(made.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(made.kernel_initializer, keras.initializers.HeUniform)
    assert made.activation is keras.activations.tanh
    assert not made.trainable


def test_the_layer_before_flatten_is_there_once():
    fcn = check(sequential(*trunk(), layers.Flatten(), layers.Dense(5)))
    assert sum(isinstance(layer, layers.MaxPooling2D) for layer in fcn.model.layers) == 1
    assert not any(isinstance(layer, layers.Flatten) for layer in fcn.model.layers)


def test_no_layer_is_shared_with_the_source():
    model = sequential(*trunk(), layers.Flatten(), layers.Dense(5))
    image = nets.images((20, 18), 3)
    before, fcn = nets.run(model, image), fullyconv.convert(model)
    assert not {id(v) for v in model.variables} & {id(v) for v in fcn.model.variables}
    conv = fcn.model.get_layer("conv")
    conv.kernel.assign(np.zeros(conv.kernel.shape, "float32"))
    assert (nets.run(model, image) == before).all()


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_than_three_channels(channels):
    check(sequential(*trunk(), layers.Flatten(), layers.Dense(5), shape=(14, 14, channels)))


@pytest.mark.parametrize("window", [(11, 23), (24, 10)])
def test_a_window_that_is_not_square(window):
    check(
        sequential(*trunk(), layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(5), shape=(*window, 3)),
        extra=(3, 6),
    )


def test_several_outputs():
    x = keras.Input((20, 18, 3))
    y = layers.Flatten()(layers.Conv2D(6, 3, strides=2, activation="relu")(x))
    model = nets.prepare(keras.Model(x, {"kind": layers.Dense(5)(y), "size": layers.Dense(1)(y)}))
    fcn = check(model)
    assert set(fcn.predict(nets.images((20, 18), 3))) == {"kind", "size"}


def test_the_questions_second_network():
    """Global pooling, then several Dense layers: the answer's result has the wrong grid."""
    fcn = check(second_network(), extra=6)
    assert fcn.grid.stride == (2, 2)
    assert fcn.predict(nets.images((26, 24), 3)).shape == (1, 4, 4, 5)


def second_network():
    head = [layers.Dense(12, "relu"), layers.Dropout(0.5), layers.Dense(8, "relu"), layers.Dense(5)]
    return sequential(*trunk(), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), *head)


def test_the_questions_second_network_with_the_pooling_dropped():
    """Only 1x1 convolutions are left of the head: at a cell, the Dense layers applied to the trunk's vector there."""
    model = second_network()
    fcn = fullyconv.convert(model, pool="drop")
    cut = next(i for i, layer in enumerate(model.layers) if isinstance(layer, layers.GlobalAveragePooling2D))
    x = nets.images((26, 24), 3)
    y = x
    for layer in model.layers[:cut]:
        y = nets.run(layer, y)
    size, y = y.shape[1:3], y.reshape(-1, y.shape[-1])
    for layer in model.layers[cut + 1 :]:
        y = nets.run(layer, y)
    have = fcn.predict(x)
    assert have.shape == (1, *size, 5)
    nets.equal(y, have.reshape(-1, 5), float(np.ptp(y)))
    convolutions = [layer for layer in fcn.model.layers if isinstance(layer, layers.Conv2D)]
    assert [layer.kernel_size for layer in convolutions[-3:]] == [(1, 1)] * 3


def test_the_pooling_dropped_before_a_linear_head():
    """With one linear Dense the mean of the map's logits over the window is the classifier's logit."""
    model = sequential(*trunk(), layers.GlobalAveragePooling2D(), layers.Dense(5))
    x = nets.images((20, 18), 3)
    want, have = nets.run(model, x), fullyconv.convert(model, pool="drop").predict(x)
    assert have.shape == (1, 9, 8, 5)
    nets.equal(want, have.mean((1, 2)), float(np.ptp(want)))
