"""What a model reads: which of its inputs are images, their window, and where their channels are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.errors import UnsupportedModelError, WindowError
from fullyconv.geometry import Axis
from fullyconv.rules import RULES
from fullyconv.rules.rule import Map, Recipe, dropped


def what_enters(model: Any, window: int | Sequence[int] | None) -> Iterable[Map]:
    """What stands for each input of a model."""
    tensors = keras.tree.flatten(_keras.input_structure(model))
    ranks = {len(t.shape) - 2 for t in tensors if len(t.shape) > 2}
    if len(ranks) != 1 or not ranks <= {1, 2, 3}:
        shapes = [tuple(t.shape) for t in tensors]
        raise UnsupportedModelError(
            f"{model.name!r} reads no image: its inputs have the shapes {shapes}.\n"
            f"A classifier of signals, images or volumes has inputs of the shape (None, *spatial, channels)."
        )
    rank, first = ranks.pop(), channels_first(model)
    entering = [_image(model, t, rank, first, window) if len(t.shape) > 2 else _vector(t, rank, first) for t in tensors]
    windows = sorted({x.size for x in entering if x.axes})
    if len(windows) > 1:
        raise UnsupportedModelError(
            f"{model.name!r} reads images of several sizes, {windows}, whose windows cannot move together.\n"
            f"Give all of its images one size."
        )
    return entering


def _image(model: Any, tensor: Any, rank: int, first: bool, window: int | Sequence[int] | None) -> Map:
    shape = tuple(tensor.shape[1:])
    size, channels = (shape[1:], shape[0]) if first else (shape[:-1], shape[-1])
    asked = (int(window),) * rank if isinstance(window, (int, np.integer)) else tuple(window or ())
    known = _window(model, size, asked)
    if channels is None:
        raise WindowError(
            f"{model.name!r} leaves its number of channels open: {tensor.shape}.\nGive its input a number."
        )
    axes = tuple(Axis(n) for n in known)
    recipe = Recipe(None)
    full = (channels, *known) if first else (*known, channels)
    return Map(recipe, full, tensor.dtype, known, channels, first, axes)


def _window(model: Any, size: tuple[int | None, ...], asked: tuple[int, ...]) -> tuple[int, ...]:
    if asked and len(asked) != len(size):
        raise WindowError(
            f"The window {asked} has {len(asked)} sizes, but {model.name!r} has {len(size)} spatial axes."
        )
    if not asked and None in size:
        raise WindowError(
            f"{model.name!r} accepts images of any size, {size}, so its window must be given.\n"
            f"Give the size it was trained on:  fullyconv.convert(model, window={(224,) * len(size)})"
        )
    wrong = [n for n, given in zip(size, asked, strict=False) if n is not None and n != given]
    if wrong or any(n < 1 for n in asked):
        raise WindowError(
            f"The window {asked} contradicts the input of {model.name!r}, which is {size}.\nLeave it out."
        )
    return asked or tuple(n for n in size if n is not None)


def _vector(tensor: Any, rank: int, first: bool) -> Map:
    """A vector that belongs to the whole image, such as metadata, as a map of one cell."""
    channels, recipe = tensor.shape[-1], Recipe(None)
    return Map(recipe, (channels,), tensor.dtype, (1,) * rank, channels, first, (), np.arange(channels))


def image_inputs(model: Any) -> list[bool]:
    """Whether each input of a model is an image (or signal, or volume)."""
    return [len(t.shape) > 2 for t in keras.tree.flatten(_keras.input_structure(model))]


def window_of(model: Any, window: int | Sequence[int] | None = None) -> tuple[int, ...]:
    """Spatial size of a classifier's input, which is given where the model leaves it open."""
    return next(x.size for x in what_enters(model, window) if x.axes)


def channels_first(model: Any) -> bool:
    """Whether the model's images have their channels first, by the first layer that says so."""
    turned = False
    for _, operation in _keras.operations_of(model):
        turned ^= isinstance(operation, keras.layers.Permute) and len(operation.dims) > 1
        turned ^= isinstance(operation, _keras.numpy_operations.Transpose)
        reads_maps = _keras.rule_for(operation, RULES) not in (None, dropped)
        if reads_maps and hasattr(operation, "data_format"):
            return (operation.data_format == "channels_first") != turned
    return keras.config.image_data_format() == "channels_first"
