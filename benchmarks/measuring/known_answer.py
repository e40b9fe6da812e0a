"""The well-known answer to "how do I make my classifier fully convolutional": Dense layers become Conv2D, in order."""

from __future__ import annotations

import keras
from keras import layers


def known_answer(model: keras.Model) -> keras.Model:
    """The network of that answer: a chain of the same layers, without Flatten, on images of any size.

    Right for a chain of layers whose head is Flatten and Dense, as VGG16; `tests/test_known_answer.py` has what it gets
    wrong.

    Args:
        model: A classifier whose layers form a chain.
    """
    fcn = keras.Sequential([keras.Input((None, None, model.input_shape[-1]))])
    area: tuple[int, ...] = (1, 1)
    for layer in model.layers:
        if isinstance(layer, layers.Flatten):
            area = tuple(layer.input.shape[1:3])
        elif isinstance(layer, layers.Dense):
            kernel, bias = layer.get_weights()
            fcn.add(layers.Conv2D(layer.units, area, activation=layer.activation, name=layer.name))
            fcn.layers[-1].set_weights([kernel.reshape(*area, -1, layer.units), bias])
            area = (1, 1)
        elif not isinstance(layer, layers.InputLayer):
            fcn.add(layer)
    return fcn
