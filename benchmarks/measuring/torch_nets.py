"""Torch modules with the weights of a Keras classifier that is a chain of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from keras import layers
from torch import nn

from measuring.timing import seconds

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "softmax": lambda: nn.Softmax(dim=1),
}
FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def classifier(model: keras.Model) -> nn.Sequential:
    """The classifier as it would be written in torch: convolutions, poolings, `Flatten` and `Linear`."""
    return nn.Sequential(*(part for layer in model.layers for part in _parts(layer, model, whole=False))).eval()


def fully_convolutional(model: keras.Model) -> nn.Sequential:
    """The same with convolutions in place of `Flatten` and `Linear`."""
    return nn.Sequential(*(part for layer in model.layers for part in _parts(layer, model, whole=True))).eval()


def best_format(module: nn.Module, x: np.ndarray) -> tuple[Callable[[], np.ndarray], str]:
    """What computes the map, channels last, in the faster of the two memory formats, and that one's name.

    Args:
        module: A module that takes and gives channels first.
        x: Images `(count, rows, columns, channels)`.
    """
    times = {name: _time_in(module, x, name) for name in FORMATS}
    best = min(times, key=times.__getitem__)
    module = module.to(memory_format=FORMATS[best])
    given = to_torch(x).to(memory_format=FORMATS[best])

    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(given).permute(0, 2, 3, 1).numpy()

    return run, best


def to_torch(x: np.ndarray) -> torch.Tensor:
    """Images as torch takes them: channels first."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def _time_in(module: nn.Module, x: np.ndarray, name: str) -> float:
    module, given = module.to(memory_format=FORMATS[name]), to_torch(x).to(memory_format=FORMATS[name])
    with torch.inference_mode():
        module(given)
        return min(seconds(lambda: module(given)) for _ in range(2))


def _parts(layer: keras.Layer, model: keras.Model, whole: bool) -> list[nn.Module]:
    if isinstance(layer, layers.InputLayer | layers.Dropout):
        return []
    if isinstance(layer, layers.Flatten):
        return [] if whole else [nn.Flatten()]
    if isinstance(layer, layers.ZeroPadding2D):
        (top, bottom), (left, right) = layer.padding
        return [nn.ZeroPad2d((left, right, top, bottom))]
    if isinstance(layer, layers.MaxPooling2D) and layer.padding == "valid":
        return [nn.MaxPool2d(layer.pool_size, layer.strides)]
    if isinstance(layer, layers.Conv2D):
        return [_convolution(layer), _activation(layer)]
    if isinstance(layer, layers.Dense):
        return [_head(layer, _area(layer, model), whole), _activation(layer)]
    raise ValueError(f"{layer.name} is a {type(layer).__name__}, of which no torch module is made here.")


def _activation(layer: Any) -> nn.Module:
    return ACTIVATIONS[keras.activations.serialize(layer.activation)]()


def _convolution(layer: layers.Conv2D) -> nn.Conv2d:
    kernel, bias = layer.get_weights()
    padding = 0 if layer.padding == "valid" else (kernel.shape[0] // 2, kernel.shape[1] // 2)
    return _conv2d(kernel, bias, stride=layer.strides, padding=padding, groups=layer.groups)


def _conv2d(kernel: np.ndarray, bias: np.ndarray, groups: int = 1, **options: Any) -> nn.Conv2d:
    made = nn.Conv2d(kernel.shape[2] * groups, kernel.shape[3], kernel.shape[:2], groups=groups, **options)
    return _filled(made, kernel.transpose(3, 2, 0, 1), bias)


def _area(layer: layers.Dense, model: keras.Model) -> tuple[int, int]:
    """The spatial size of the map that a Dense reads flattened; one position for those after the first."""
    flat = next(x for x in model.layers if isinstance(x, layers.Flatten))
    first = next(x for x in model.layers if isinstance(x, layers.Dense))
    return tuple(flat.input.shape[1:3]) if layer is first else (1, 1)


def _head(layer: layers.Dense, area: tuple[int, int], whole: bool) -> nn.Module:
    flat, bias = layer.get_weights()
    kernel = flat.reshape(*area, -1, layer.units)
    if whole:
        return _conv2d(kernel, bias)
    return _filled(nn.Linear(*flat.shape), kernel.transpose(3, 2, 0, 1).reshape(layer.units, -1), bias)


def _filled(module: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        module.bias.copy_(torch.from_numpy(bias))
    return module
