"""Every reason for which a layer is refused, on the smallest network that gives it: the whole text.

Refusals that take a larger network to show, and several at once, are in test_refusals.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import fullyconv

Built = tuple[keras.Model, dict[str, Any]]


def net(*steps: Callable[[Any], Any], size: tuple[int, ...] = (8, 8, 2), **options: Any) -> Callable[[], Built]:
    """Makes a chain of layers and functions on an image, and the options of its plan."""

    def build() -> Built:
        x = y = keras.Input(size, name="image")
        for step in steps:
            y = step(y)
        return keras.Model(x, y, name="net"), options

    return build


def lazy(kind: type, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A layer that is created when it is called: the table holds none."""
    return lambda x: kind(*args, **kwargs)(x)


class Own(layers.Layer):
    """A layer without a rule."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


class Subclassed(keras.Model):
    """A model that only Python can read."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


def forgetful(layer, x, *, site, **_):
    """A user's rule that halves the channels and does not say which values are left."""
    return x.then(x.recipe, channels=x.channels // 2)


def pooled(x):
    return layers.GlobalAveragePooling2D()(x)


def gated(x, shape):
    """The map times its own mean, which is given a shape."""
    return layers.Multiply()([x, layers.Reshape(shape)(pooled(x))])


def turned(x):
    """A convolution of the map with its channels first, added to the map."""
    first = layers.Conv2D(2, 1, data_format="channels_first")(layers.Permute((3, 1, 2))(x))
    return layers.Add()([x, first])


def coarse_and_fine(x):
    """A map made coarser and larger again, as many positions at the window as the map behind a plain pooling."""
    larger = layers.UpSampling2D(4)(layers.MaxPooling2D(4)(x))
    return layers.Add()([larger, layers.MaxPooling2D(3, strides=1)(x)])


UNTIL = "Convert the part before it with `until`."
LAST_AXIS = (
    "multiplies along the last axis of a tensor of shape (2, 8, 8), which is not the channels of a map.\n"
    "Move the channels last before it, or flatten."
)
CHANNELS = "Apply it to the channels of a map, or to a flattened tensor after a Dense."
REDUCE = "Reduce over all spatial axes, or over the channels with keepdims=True."
DIFFERENT_GRIDS = "Give its inputs the same stride, or merge them behind their poolings."

REFUSED: dict[str, tuple[Callable[[], Built], str]] = {
    # no rule at all
    "a layer": (
        net(lazy(Own)),
        "is a layer that has no rule, and holds weights of its own.\n"
        "Build it with the functional API, or say what it becomes: rules={Own: rule}.",
    ),
    "an operation": (
        net(ops.sin),
        "is an operation that has no rule.\nSay what it becomes: rules={Sin: rule}.",
    ),
    "a subclassed model": (
        net(lazy(Subclassed)),
        "is a subclassed model, and holds weights of its own.\n"
        "Build it with the functional API, or say what it becomes: rules={Subclassed: rule}.",
    ),
    "a wrapped layer": (
        net(lazy(layers.SpectralNormalization, layers.Conv2DTranspose(2, 3))),
        "wraps a layer that has no rule (Conv2DTranspose).\nSay what that becomes: rules={Conv2DTranspose: rule}.",
    ),
    "upsampling by weights": (
        net(lazy(layers.Conv2DTranspose, 2, 3)),
        f"makes a map larger, which no part of a classifier does.\n{UNTIL}",
    ),
    "words": (
        net(lazy(layers.Embedding, 3, 2)),
        "reads words or categories, not an image.\nConvert the image branch alone with `until`.",
    ),
    "a wave": (
        net(lazy(layers.STFTSpectrogram, frame_length=8, frame_step=4, fft_length=8), size=(32, 1)),
        "turns a wave into an image of a fixed size.\nCompute the spectrogram first, and convert what follows.",
    ),
    "the range of the image": (
        net(lazy(layers.AutoContrast)),
        "measures the whole image.\nApply it to the image first, and convert what follows.",
    ),
    "a vector repeated": (
        net(pooled, lazy(layers.RepeatVector, 3)),
        f"repeats a vector a fixed number of times.\n{UNTIL}",
    ),
    "bounding boxes": (
        net(lazy(layers.MaxNumBoundingBoxes, 2)),
        "works on bounding boxes, not on an image.\nLeave it out of the model.",
    ),
    # convolutions, paddings, upsampling
    "a quantized convolution": (
        net(lazy(layers.Conv2D, 2, 3, dtype="int8_from_float32")),
        "is quantized.\nConvert the float model, then quantize the result.",
    ),
    "bicubic": (
        net(lazy(layers.UpSampling2D, 2, interpolation="bicubic")),
        'interpolates by bicubic.\nUse interpolation="nearest" or "bilinear".',
    ),
    "a mirror": (
        net(lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")),
        "pads by mode 'reflect', which two backends cannot do on a map of unknown size.\nPad with zeros.",
    ),
    "padded channels": (
        net(lambda x: ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))),
        "pads the batch or the channels.\nPad positions only.",
    ),
    "two data formats": (
        net(lazy(layers.MaxPooling2D, 2), lazy(layers.MaxPooling2D, 2, data_format="channels_first")),
        "reads its input as channels_first, but the map is channels_last.\n"
        "Give both the same data_format, or put a Permute between them.",
    ),
    # Dense layers and rearrangements
    "a Dense over columns": (net(lazy(layers.Permute, (3, 1, 2)), lazy(layers.Dense, 3)), LAST_AXIS),
    "an EinsumDense over columns": (
        net(lazy(layers.Permute, (3, 1, 2)), lazy(layers.EinsumDense, "abcd,de->abce", output_shape=(2, 8, 3))),
        LAST_AXIS,
    ),
    "an EinsumDense over two axes": (
        net(lazy(layers.EinsumDense, "abcd,cde->abe", output_shape=(8, 3))),
        "computes 'abcd,cde->abe', which is more than a product over channels.\nUse a Dense layer.",
    ),
    "a rule without its index": (
        net(pooled, lazy(layers.ReLU), lazy(layers.Dense, 3), rules={layers.ReLU: forgetful}),
        "reads 2 values, where the map before it holds 1.\n"
        "Let the rule that returned the map give its `index` too, a position for each value.",
    ),
    "the batch moved": (
        net(lambda x: ops.swapaxes(x, 0, 1)),
        "moves the batch axis.\nKeep the batch first.",
    ),
    # merges
    "merged data formats": (
        net(turned, size=(2, 2, 2)),
        "merges maps of different data formats.\nGive all layers the same data_format.",
    ),
    "a vector along the rows": (
        net(lambda x: gated(x, (2, 1, 1)), size=(2, 4, 2)),
        "merges a vector of shape (2, 1, 1) along an axis of a map that is not its channels.\n"
        "Reshape the vector to one value a channel first.",
    ),
    "rows of a map": (
        net(lambda x: layers.Add()([x, layers.AveragePooling2D((1, 8))(x)])),
        "merges maps of 8 x 1 and 8 x 8 positions.\n"
        "Give its inputs the same size, or pool one of them over all of its positions.",
    ),
    "a vector of a finer map": (
        net(lambda x: layers.Multiply()([layers.MaxPooling2D(4)(x), layers.Reshape((1, 1, 2))(pooled(x))])),
        f"merges cells 1 x 1 pixels apart onto positions 4 x 4 apart.\n{DIFFERENT_GRIDS}",
    ),
    "strides": (
        net(lambda x: layers.Concatenate()([pooled(layers.MaxPooling2D(n)(x)) for n in (2, 3)])),
        f"merges maps of strides 2 x 2 and 3 x 3 pixels, which cannot be made to agree.\n{DIFFERENT_GRIDS}",
    ),
    "lengths": (
        net(coarse_and_fine, size=(10, 10, 2)),
        "cannot crop its inputs to one size: each of the merged branches is the longer one for some image sizes.\n"
        "Merge them behind their poolings, or leave out the upsampling.",
    ),
    "a pooling left out": (
        net(
            lambda x: layers.Concatenate()([pooled(x), layers.Dense(2)(layers.Flatten()(x))]),
            pool="drop",
        ),
        "merges a pooling that was left out (pool='drop') with a vector of a window.\nUse pool='window'.",
    ),
    "a concatenation of images": (
        net(lambda x: ops.concatenate([x, layers.MaxPooling2D(3, strides=1, padding="same")(x)], axis=0)),
        "concatenates along the batch.\nConcatenate channels.",
    ),
    "a concatenation of an image with itself": (
        net(lambda x: ops.concatenate([x, x], axis=0)),
        "concatenates along the batch.\nConcatenate channels.",
    ),
    "one channel and a constant of several": (
        net(lambda x: ops.add(x, np.ones(3)), size=(8, 8, 1)),
        "makes 3 channels of one.\nUse a Dense layer or a 1x1 convolution.",
    ),
    "a product of maps": (
        net(lambda x: layers.Dot(axes=-1)([x, x])),
        "multiplies tensors of shapes (8, 8, 2) and (8, 8, 2).\n"
        "Give it vectors, such as those of a global pooling or a Dense layer.",
    ),
    "other ranks": (
        net(lambda x: ops.multiply(x, pooled(x))),
        "broadcasts shapes (8, 8, 2) and (2,).\nReshape both to the same rank.",
    ),
    # constants, activations, normalisations
    "a constant": (
        net(lambda x: ops.add(x, np.ones((8, 8, 2), "float32"))),
        "holds a constant of shape (8, 8, 2) for a tensor of shape (8, 8, 2).\nGive it one value, or one a channel.",
    ),
    "along rows": (
        net(lazy(layers.Softmax, axis=1)),
        f"works along axis 1 of a tensor of shape (8, 8, 2), not along its channels.\n{CHANNELS}",
    ),
    "along all positions": (
        net(lazy(layers.Softmax, axis=(1, 2))),
        f"works along axes 1 and 2 of a tensor of shape (8, 8, 2), not along its channels.\n{CHANNELS}",
    ),
    "over the image, denser": (
        net(lazy(layers.Conv2D, 2, 3, strides=2), lazy(layers.GroupNormalization, 1), stride=1),
        "normalises over the whole image, so that its map cannot be made denser.\nLeave stride out.",
    ),
    # poolings and reductions
    "unequal blocks": (
        net(lazy(layers.AdaptiveAveragePooling2D, 3)),
        "pools 8 x 8 positions into 3 x 3 unequal blocks.\nUse an output size that divides 8 x 8.",
    ),
    "a mean of rows": (
        net(lambda x: ops.mean(x, axis=1)),
        f"reduces axis 1 of a tensor of shape (8, 8, 2).\n{REDUCE}",
    ),
    "a maximum of everything": (
        net(ops.max),
        f"reduces axes 1, 2 and 3 of a tensor of shape (8, 8, 2).\n{REDUCE}",
    ),
    # parts
    "every second row": (
        net(lambda x: x[:, ::2]),
        "takes a part of a tensor of shape (8, 8, 2).\nSlice channels, or positions at the ends.",
    ),
    "entries": (
        net(lambda x: ops.take(x, np.array([1, 0]), axis=1)),
        "takes entries of a tensor.\nSlice channels, or crop with a Cropping layer.",
    ),
    "each step of time": (
        net(lambda x: layers.TimeDistributed(layers.Dense(2))(x)),
        "applies its layer to each step of one axis, not to a map.\n"
        "Apply the layer itself: a Dense layer takes maps, and works along the channels.",
    ),
    "a turned image": (
        net(lambda x: ops.flip(x, axis=2)),
        "turns the image round.\nLeave it out, and turn the images before they enter.",
    ),
    "stacked maps": (
        net(lambda x: ops.stack([x, x], axis=1)[:, 0]),
        "stacks tensors of shape (8, 8, 2).\nConcatenate the channels of maps.",
    ),
    "halves of the rows": (
        net(lambda x: ops.split(x, 2, axis=1)[0]),
        "splits a tensor of shape (8, 8, 2) along axis 1.\nSplit channels into equal parts.",
    ),
    "running sums": (
        net(lambda x: ops.cumsum(x, axis=1)),
        "is an operation that has no rule for maps.\nSay what it becomes: rules={Cumsum: rule}.",
    ),
    "a line": (
        net(lambda x: ops.exp(x[0, :, 0, 0])),
        "computes with a single line of a map.\nLeave that computation out.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_whole_text(name):
    build, text = REFUSED[name]
    model, options = build()
    with pytest.raises(fullyconv.UnsupportedLayerError, match=r"\w") as caught:
        fullyconv.plan(model, **options)
    (refusal,) = caught.value.refusals
    said = str(caught.value).partition("\n")[2].partition("\n  To convert the part before it:")[0]
    place = f"  {refusal.name!r} ({refusal.kind}, layer {refusal.place}) "
    assert said == place + text.replace("\n", "\n    ")
