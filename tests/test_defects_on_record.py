"""Defects that other converters are on record for, each tried on ours."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
import nets


@functools.cache
def vgg_like() -> keras.Model:
    """A trunk and three Dense layers with biases that matter, two of them of one shape."""
    keras.utils.set_random_seed(4)
    stack = [
        layers.Conv2D(6, 3, activation="relu", name="block1_conv1"),
        layers.MaxPooling2D(2, name="block1_pool"),
        layers.Flatten(name="flatten"),
        layers.Dense(8, activation="relu", name="fc1"),
        layers.Dropout(0.4, name="dropout1"),
        layers.Dense(8, activation="relu", name="fc2"),
        layers.Dense(8, activation="relu", name="fc3"),
        layers.Dense(5, activation="softmax", name="predictions"),
    ]
    return nets.prepare(keras.Sequential([keras.Input((14, 12, 3)), *stack], name="vgg_like"))


def by_hand(**fc1) -> keras.Model:
    """The same network as somebody writes it: fc3 is made before fc2, which have one size."""
    x = keras.Input((None, None, 3))
    y = layers.MaxPooling2D(2)(layers.Conv2D(6, 3, activation="relu", name="block1_conv1")(x))
    third, second = (layers.Conv2D(8, 1, activation="relu", name=name) for name in ("fc3", "fc2"))
    y = layers.Conv2D(8, activation="relu", name="fc1", **{"kernel_size": (6, 5), **fc1})(y)
    y = third(second(y))
    return keras.Model(x, layers.Conv2D(5, 1, activation="softmax", name="predictions")(y), name="by_hand")


def answers(model: keras.Model) -> np.ndarray:
    return nets.run(model, nets.images((14, 12), 3, 2)).reshape(2, -1)


def numbers(value) -> np.ndarray:
    return keras.ops.convert_to_numpy(value)


@pytest.mark.numerical
def test_biases_dropped_from_the_dense_layers():
    """Keras's own example of an FCN sets the kernels of fc1 and fc2, and leaves their biases at zero."""
    model, fcn = vgg_like(), by_hand()
    fullyconv.load_dense_weights(fcn, model)
    for made in (fcn, fullyconv.convert(model).model):
        for name in ("fc1", "fc2", "fc3", "predictions"):
            bias = numbers(model.get_layer(name).bias)
            assert np.abs(bias).max() > 0
            assert (numbers(made.get_layer(name).bias) == bias).all()
    nets.equal(answers(model), answers(fcn), float(np.ptp(answers(model), axis=0).max()))


def test_a_bias_that_has_no_place_is_not_dropped():
    with pytest.raises(fullyconv.WeightsError, match=r"does not fit") as caught:
        fullyconv.load_dense_weights(by_hand(use_bias=False), vgg_like())
    assert str(caught.value).splitlines()[1] == (
        "  fc1: kernel (180, 8), bias (8,) in the weights, kernel (6, 5, 6, 8) in the network"
    )


@pytest.mark.parametrize("activation", ["softmax", "linear", "tanh"])
def test_dropout_removed_and_a_sigmoid_put_at_the_end(activation):
    """`heatmaps` leaves dropout and reshapes out without a word, and ends every network in a sigmoid."""
    keras.utils.set_random_seed(4)
    stack = [
        layers.Conv2D(6, 3, activation="relu"),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Dropout(0.4, name="dropout"),
        layers.Conv2D(5, 1, name="logits"),
        layers.Reshape((5,), name="reshape"),
        layers.Activation(activation, name="answer"),
    ]
    model = nets.prepare(keras.Sequential([keras.Input((14, 12, 3)), *stack]))
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn)
    assert fcn.model.get_layer("dropout").rate == 0.4
    assert fcn.model.layers[-1].activation is getattr(keras.activations, activation)
    assert [step.result for step in fcn.plan.steps if step.name == "reshape"] == ["nothing"]
    assert fullyconv.to_classifier(fcn).get_layer("dropout").rate == 0.4


def test_weights_of_one_size_in_the_wrong_order():
    """`transplant` pairs layers by the sizes of their weights: fc2 and fc3 have one size."""
    model, fcn = vgg_like(), by_hand()
    fullyconv.load_dense_weights(fcn, model)
    for name in ("fc2", "fc3"):
        assert (numbers(fcn.get_layer(name).kernel)[0, 0] == numbers(model.get_layer(name).kernel)).all()
    with pytest.raises(fullyconv.WeightsError, match="reads a flattened map of 6 x 5 x 6, and the kernel covers 5 x 6"):
        fullyconv.load_dense_weights(by_hand(kernel_size=(5, 6)), model)


@pytest.mark.parametrize("pooling", ["global", "of the map's size"])
def test_pooling_whose_stride_is_its_size(pooling):
    """Made an AveragePooling2D(7) with Keras's default strides, a global pooling turns a stride of 32 into 224."""
    pool = layers.GlobalAveragePooling2D() if pooling == "global" else layers.AveragePooling2D(7)
    stack = [layers.Conv2D(2, 8, strides=8), layers.Conv2D(2, 4, strides=4), pool, layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((224, 224, 1)), *stack])
    grid = fullyconv.plan(model).grids
    assert grid.stride == (32, 32)
    assert grid.cells((288, 256)) == (3, 2)


@pytest.mark.numerical
def test_a_padded_convolution_that_agrees_in_its_centre_only():
    """With padding="same" the head's convolution returns a map of the window's size, one cell of which is right."""
    model = vgg_like()
    fcn = fullyconv.convert(model)
    assert fcn.model.get_layer("fc1").padding == "valid"
    nets.check_native(model, fcn)
    assert nets.check_windows(model, fcn, extra=6) == 16
    padded = by_hand(padding="same")
    loaded = fullyconv.load_dense_weights(padded, model)
    assert loaded.notes == (
        'fc1 pads: of its cells at the window only the centre one is the classifier\'s answer. Use padding="valid".',
    )
    cells = nets.run(padded, nets.images((14, 12), 3, 2))
    apart = np.abs(cells - answers(model)[:, None, None]).max((0, 3))
    assert (apart < 1e-5).sum() == 1
