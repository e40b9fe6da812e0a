"""Networks of TF-slim, their layers one by one, whose receptive fields have been published; with few channels.

Keras's own ResNets differ: they have their strides at the beginning of a block.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

import nets

CHANNELS = 2


def conv(x: Any, size: Any, stride: int = 1, padding: str = "same", name: str | None = None) -> Any:
    """A convolution; `SAME` as TensorFlow pads, unless said."""
    return layers.Conv2D(CHANNELS, size, strides=stride, padding=padding, name=name)(x)


def max_pool(x: Any, size: int, stride: int, padding: str = "valid", name: str | None = None) -> Any:
    """A max pooling."""
    return layers.MaxPooling2D(size, strides=stride, padding=padding, name=name)(x)


def vgg16(x: Any) -> Any:
    """Up to pool5."""
    for block, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        for _ in range(convolutions):
            x = conv(x, 3)
        x = max_pool(x, 2, 2, name=f"pool{block}")
    return x


def alexnet_v2(x: Any) -> Any:
    """Up to pool5."""
    x = max_pool(conv(x, 11, 4, "valid"), 3, 2)
    x = max_pool(conv(x, 5), 3, 2)
    return max_pool(conv(conv(conv(x, 3), 3), 3), 3, 2, name="pool5")


def resnet_v1(x: Any, units: tuple[int, ...]) -> Any:
    """The blocks, each with its stride in its last unit; the last has none."""
    x = max_pool(_padded_conv(x, 7, 2), 3, 2, "same")
    for block, count in enumerate(units):
        for unit in range(count):
            last = unit == count - 1 and block < len(units) - 1
            x = _bottleneck(x, 2 if last else 1, widens=unit == 0)
    return x


def _padded_conv(x: Any, size: int, stride: int) -> Any:
    """Slim's `conv2d_same`: where it strides, padded alike at every size."""
    if stride == 1:
        return conv(x, size)
    before = (size - 1) // 2
    return conv(layers.ZeroPadding2D(((before, size - 1 - before),) * 2)(x), size, stride, "valid")


def _bottleneck(x: Any, stride: int, widens: bool) -> Any:
    shortcut = conv(x, 1, stride) if widens else x if stride == 1 else max_pool(x, 1, stride)
    return layers.Add()([shortcut, conv(_padded_conv(conv(x, 1), 3, stride), 1)])


def mobilenet_v1(x: Any) -> Any:
    """Up to the last separable convolution."""
    x = conv(x, 3, 2)
    for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1):
        x = conv(layers.DepthwiseConv2D(3, strides=stride, padding="same")(x), 1)
    return x


def inception_v3(x: Any) -> Any:
    """Up to Mixed_7c. The first layers and all that stride do not pad, as in slim by default."""
    x = max_pool(conv(conv(conv(x, 3, 2, "valid"), 3, padding="valid"), 3), 3, 2)
    x = max_pool(conv(conv(x, 1), 3, padding="valid"), 3, 2)
    for _ in range(3):
        x = _join(conv(x, 1), _chain(x, 1, 5), _chain(x, 1, 3, 3), _pooled(x))
    x = _join(conv(x, 3, 2, "valid"), conv(_chain(x, 1, 3), 3, 2, "valid"), max_pool(x, 3, 2))
    for _ in range(4):
        long = _chain(x, 1, (7, 1), (1, 7), (7, 1), (1, 7))
        x = _join(conv(x, 1), _chain(x, 1, (1, 7), (7, 1)), long, _pooled(x))
    first, second = conv(conv(x, 1), 3, 2, "valid"), conv(_chain(x, 1, (1, 7), (7, 1)), 3, 2, "valid")
    x = _join(first, second, max_pool(x, 3, 2))
    for _ in range(2):
        short, long = conv(x, 1), _chain(x, 1, 3)
        wide = [conv(y, size) for y in (short, long) for size in ((1, 3), (3, 1))]
        x = _join(conv(x, 1), *wide, _pooled(x))
    return x


def _chain(x: Any, *sizes: Any) -> Any:
    for size in sizes:
        x = conv(x, size)
    return x


def _pooled(x: Any) -> Any:
    return conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), 1)


def _join(*branches: Any) -> Any:
    return layers.Concatenate()(list(branches))


# Stride, effective padding and receptive field, as published by Araujo, Norris and Sim, "Computing Receptive Fields of
# Convolutional Neural Networks", Distill 2019.
PUBLISHED = {
    "vgg16": (vgg16, 32, 90, 212),
    "alexnet_v2": (alexnet_v2, 32, 64, 195),
    "resnet_v1_50": (lambda x: resnet_v1(x, (3, 4, 6, 3)), 32, 239, 483),
    "resnet_v1_101": (lambda x: resnet_v1(x, (3, 4, 23, 3)), 32, 511, 1027),
    "inception_v3": (inception_v3, 32, 618, 1311),
    "mobilenet_v1": (mobilenet_v1, 32, 126, 315),
}


def published(name: str, size: int = 224) -> keras.Model:
    """A network of the table, on even sizes throughout."""
    x = keras.Input((size, size, 1))
    return keras.Model(x, PUBLISHED[name][0](x), name=name)


# ---------------------------------------------------------------------------------------------------------------------
# What cells really see
# ---------------------------------------------------------------------------------------------------------------------
def make_positive(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights and activations with which what a cell sees shows: returned is the same model, changed in place.

    Kernels are positive, and nothing is added anywhere. An image of zeros gives zeros, and a pixel above zero gives
    something else in every cell that sees it: no unit is dead, no larger value hides it in a maximum, and sums do not
    cancel. Activations are cut off at 6, so that the many paths to the centre of a field stay in the range of float32
    where the one path to its edge does.
    """
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            _set_positive(layer, variable, rng)
        if isinstance(layer, layers.ReLU):
            layer.max_value = 6.0
        elif getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear:
            layer.activation = keras.activations.relu6
    return model


def _set_positive(layer: keras.Layer, variable: Any, rng: np.random.Generator) -> None:
    if any(name in variable.name for name in ("bias", "beta", "mean")):
        variable.assign(np.zeros(variable.shape, "float32"))
    elif "variance" in variable.name:
        variable.assign(np.ones(variable.shape, "float32"))
    elif "float" in variable.dtype:  # ones would leave a LayerNormalization no variance
        variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype("float32"))


def seen_by(fcn: Any, layer: Any, width: int, border: int = 0, axis: int = 0) -> None:
    """Asserts that a cell of a converted, positive network sees exactly its receptive field along one axis.

    Four images of zeros have a line of ones each, on both sides of both ends of the field of a cell. Every cell whose
    field the line is in must answer, and no other; `border` cells at both ends are left out.
    """
    (low, high), stride = layer.receptive_field[axis], layer.stride[axis]
    cell = max(0, -((low - 1) // stride))
    start, end = int(low + cell * stride), int(high + cell * stride)
    lines = (start - 1, start, end - 1, end)
    images = np.zeros((4, max(int(end + 2 * stride), width), width, 3), "float32")
    for image, line in zip(images, lines, strict=True):
        image[line] = np.random.default_rng(line).uniform(0.5, 1.5, (width, 3))
    images = images if axis == 0 else images.swapaxes(1, 2)
    answers = np.moveaxis(nets.run(fcn.model, images), 1 + axis, 1)
    assert np.isfinite(answers).all(), "not all answers are numbers"
    answering = (answers != 0).reshape(4, answers.shape[1], -1).any(-1)
    assert answering[:, cell].tolist() == [False, True, True, False], f"cell {cell} sees {answering[:, cell]}"
    for found, line in zip(answering, lines, strict=True):
        cells = range(border, len(found) - border)
        seen, expected = (
            [k for k in cells if found[k]],
            [k for k in cells if low + k * stride <= line < high + k * stride],
        )
        assert seen == expected, f"line {line} is seen by {seen}, not {expected}"


def perturbed(model: keras.Model, fcn: Any, layer: Any, axis: int = 0) -> tuple[float, float, float]:
    """How much a cell whose field lies inside an image changes, relative to the map, with lines of the image.

    Returns:
        The change with all lines outside its receptive field, with the first line inside, and with the last.
    """
    (low, high), stride = layer.receptive_field[axis], layer.stride[axis]
    cell = max(0, -((low - 1) // stride))
    start, end = int(low + cell * stride), int(high + cell * stride)
    size = nets.along(nets.window_of(model), axis, max(end + 2 * stride, nets.window_of(model)[axis]))
    base, other = (np.moveaxis(nets.images(size, 3, seed=seed)[0], axis, 0) for seed in (1, 2))
    outside, first, last = other.copy(), base.copy(), base.copy()
    outside[start:end] = base[start:end]
    first[start], last[end - 1] = 30 * other[start], 30 * other[end - 1]
    seen = nets.Runner(fcn.model)  # one image after another: a field of tens of thousands of pixels fills the memory
    maps = [seen(np.moveaxis(image, 0, axis)[None]) for image in (base, outside, first, last)]
    cells = np.concatenate(maps).take(cell, 1 + axis)
    return tuple(np.abs(cells[1:] - cells[0]).reshape(3, -1).max(1) / np.abs(cells[0]).max())
