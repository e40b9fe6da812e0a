"""AlexNet as Caffe has it (`bvlc_alexnet`): the network of the headline of the FCN paper."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def alexnet(classes: int = 1000) -> keras.Model:
    """AlexNet for windows of 227 x 227, with random weights, giving logits.

    Convolutions 2, 4 and 5 have two groups, as Caffe's. Caffe's poolings round up: a row and a column of zeros behind
    each map, of which none is negative, does the same. Local response normalisation is left out.

    Args:
        classes: Number of logits.
    """
    x = inputs = keras.Input((227, 227, 3), name="image")
    x = pooled(layers.Conv2D(96, 11, 4, activation="relu", name="conv1")(x), "pool1")
    x = pooled(convolution(x, "conv2", 256, 5, groups=2), "pool2")
    x = convolution(x, "conv3", 384, 3)
    x = convolution(x, "conv4", 384, 3, groups=2)
    x = pooled(convolution(x, "conv5", 256, 3, groups=2), "pool5")
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = layers.Dropout(0.5, name=f"drop_{name}")(layers.Dense(4096, "relu", name=name)(x))
    return keras.Model(inputs, layers.Dense(classes, name="fc8")(x), name="alexnet")


def convolution(x: Any, name: str, filters: int, kernel: int, groups: int = 1) -> Any:
    """A convolution that keeps the size, and its ReLU."""
    return layers.Conv2D(filters, kernel, padding="same", groups=groups, activation="relu", name=name)(x)


def pooled(x: Any, name: str) -> Any:
    """Caffe's pooling: 3 x 3, stride 2, rounding up."""
    return layers.MaxPooling2D(3, 2, name=name)(layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_round_up")(x))
