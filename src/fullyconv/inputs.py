"""What a model reads: which of its inputs are images, their window, and where their channels are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.errors import GeometryError, InputTooSmallError, UnsupportedModelError, WindowError
from fullyconv.geometry import Axis
from fullyconv.rules import RULES
from fullyconv.rules.order import turns
from fullyconv.rules.rule import VALUES, Map, Recipe, describe_size, dropped
from fullyconv.rules.unconverted import UNCONVERTED


def integers(
    value: object, rank: int, name: str, error: type[GeometryError] = GeometryError, example: int = 224
) -> tuple[int, ...]:
    """Integers from one, which then holds for every spatial axis, or from several.

    Args:
        value: What was given.
        rank: Number of spatial axes.
        name: What it is called, such as "size".
        error: What is raised.
        example: A number for the message.

    Raises:
        GeometryError: it is something else.
    """
    several: Any = (value,) * rank if isinstance(value, Integral) else value
    listed = isinstance(several, Iterable) and not isinstance(several, str | bytes)
    if not listed or any(isinstance(n, bool) or not isinstance(n, Integral) for n in several):
        raise error(_no_integers(value, rank, name, example))
    return tuple(int(n) for n in several)


def whole_numbers(
    value: object, rank: int, name: str, error: type[GeometryError] = GeometryError, example: int = 224
) -> tuple[int, ...]:
    """As `integers`, each above 0, as many as there are spatial axes.

    Example:
        >>> from fullyconv.inputs import whole_numbers
        >>> whole_numbers(224, 2, "size"), whole_numbers([224, 320], 2, "size")
        ((224, 224), (224, 320))
    """
    numbers = integers(value, rank, name, error, example)
    if len(numbers) != rank or any(n < 1 for n in numbers):
        raise error(_no_integers(value, rank, name, example))
    return numbers


def image_size(size: object, window: Sequence[int]) -> tuple[int, ...]:
    """The size of an image for a network with this window, which it has by default.

    Raises:
        InputTooSmallError: it is smaller than the window.
        GeometryError: it is not one whole number above 0, or one for each spatial axis.
    """
    extent = tuple(window) if size is None else whole_numbers(size, len(window), "size")
    if any(n < least for n, least in zip(extent, window, strict=True)):
        raise InputTooSmallError(extent, window)
    return extent


def _no_integers(value: object, rank: int, name: str, example: int) -> str:
    each = f", or {rank} of them, one for each spatial axis" if rank > 1 else ""
    sizes = f" or {name}={(example,) * rank}" if rank > 1 else ""
    return (
        f"The {name} must be a whole number of pixels above 0{each}, not {value!r}.\nGive {name}={example}{sizes}, say."
    )


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
    asked = () if window is None else integers(window, rank, "window", WindowError)
    if len(asked) == rank:
        asked = whole_numbers(window, rank, "window", WindowError)
    known = _window(model, size, asked)
    _check_numbers(model, tensor, channels)
    values = math.prod(known) * channels
    if values > VALUES:
        raise UnsupportedModelError(
            f"{model.name!r} reads images of {describe_size(known)} with {channels:,} channels: {values:,} values, and "
            f"the limit is {VALUES:,}.\nGive a classifier of smaller images."
        )
    axes = tuple(Axis(n) for n in known)
    recipe = Recipe(None)
    full = (channels, *known) if first else (*known, channels)
    return Map(recipe, full, tensor.dtype, known, channels, first, axes)


def _check_numbers(model: Any, tensor: Any, channels: int | None) -> None:
    """Refuse an image of an open number of channels, or of texts."""
    if channels is None:
        raise WindowError(
            f"{model.name!r} leaves its number of channels open: {tensor.shape}.\nGive its input a number."
        )
    if tensor.dtype == "string":
        raise UnsupportedModelError(
            f"{model.name!r} reads text, not numbers: its input {tensor.name!r} has the dtype 'string'.\n"
            f"Give a classifier of images."
        )


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
    if wrong:
        raise WindowError(
            f"The window {asked} contradicts the input of {model.name!r}, which is {size}.\nLeave it out."
        )
    return asked or tuple(n for n in size if n is not None)


def _vector(tensor: Any, rank: int, first: bool) -> Map:
    """A vector that belongs to the whole image, such as metadata, as a map of one cell."""
    channels, recipe = tensor.shape[-1], Recipe(None)
    return Map(recipe, (channels,), tensor.dtype, (1,) * rank, channels, first, (), np.arange(channels))


def image_inputs(model: Any) -> list[bool]:
    """Whether each input of a model is an image (or signal, or volume), of numbers."""
    tensors = keras.tree.flatten(_keras.input_structure(model))
    for tensor in (t for t in tensors if len(t.shape) > 2):
        _check_numbers(model, tensor, tensor.shape[1 if channels_first(model) else -1])
    return [len(t.shape) > 2 for t in tensors]


def window_of(model: Any, window: int | Sequence[int] | None = None) -> tuple[int, ...]:
    """Spatial size of a classifier's input, which is given where the model leaves it open."""
    return next(x.size for x in what_enters(model, window) if x.axes)


@dataclass(frozen=True)
class _Order:
    """Whether the channels of a tensor are at the other end than those of the images."""

    turned: bool = False


def channels_first(model: Any) -> bool:
    """Whether the model's images have their channels first: by the first layer that says so, or by the open sizes."""
    rules: dict[type, Any] = {**RULES, **UNCONVERTED}
    found: list[bool] = []

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = keras.tree.flatten(operation.output)
        turned = any(x.turned for x in keras.tree.flatten((args, kwargs)) if isinstance(x, _Order))
        reads_maps = _keras.rule_for(operation, rules) not in (None, dropped)
        if not found and reads_maps and hasattr(operation, "data_format"):
            found.append((operation.data_format == "channels_first") != turned)
        return [_Order(turned != turns(operation, len(outputs[0].shape)))] * len(outputs)

    _keras.walk(model, [_Order() for _ in model.inputs], visit)
    opened = [tuple(t.shape[1:]) for t in model.inputs if len(t.shape) > 2 and None in t.shape[1:]]
    if not found and opened:
        return opened[0][-1] is None
    return found[0] if found else keras.config.image_data_format() == "channels_first"
