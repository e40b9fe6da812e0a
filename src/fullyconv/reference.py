"""The definition, slow on purpose: the classifier on every window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from fullyconv.engine import compile
from fullyconv.errors import InputTooSmallError
from fullyconv.inputs import channels_first, image_inputs, whole_numbers, window_of

Corner = tuple[int, ...]


def reference(
    model: keras.Model,
    image: Any,
    stride: int | Sequence[int],
    *,
    window: int | Sequence[int] | None = None,
    batch_size: int = 32,
) -> Any:
    """The classifier's answer on every window of an image: what a conversion is compared with.

    Args:
        model: The classifier.
        image: One image `(*spatial, channels)`, or channels first as the model has it; for several inputs, one each in
            the model's input structure.
        stride: Pixels from one window to the next.
        window: Size of the window, where the model leaves it open.
        batch_size: Windows that are run at once.

    Returns:
        An array `(*cells, *output)`, in the outputs' structure.

    Raises:
        InputTooSmallError: the image is smaller than the window.
        GeometryError: the stride is not a whole number above 0.
        WindowError: the window is missing, or contradicts the model.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.reference(model, np.zeros((10, 12, 3)), stride=2).shape
        (2, 3, 5)
    """
    size = window_of(model, window)
    strides = whole_numbers(stride, len(size), "stride", example=32)
    extent = spatial_size(model, image)
    if any(n < w for n, w in zip(extent, size, strict=True)):
        raise InputTooSmallError(extent, size)
    cells = tuple((n - w) // s + 1 for n, w, s in zip(extent, size, strides, strict=True))
    corners = [tuple(i * s for i, s in zip(index, strides, strict=True)) for index in np.ndindex(*cells)]
    rows = at_corners(compile(model), model, image, corners, size, batch_size)
    return keras.tree.map_structure(lambda a: a.reshape((*cells, *a.shape[1:])), rows)


def at_corners(
    run: Callable[[Any], Any],
    model: keras.Model,
    image: Any,
    corners: Sequence[Corner],
    window: Corner,
    batch_size: int = 32,
) -> Any:
    """What `run` returns for the windows at these corners, in batches: arrays `(corners, *output)`."""
    chunks = [run(windows(model, image, part, window)) for part in _chunks(corners, batch_size)]
    flat = [np.concatenate(parts) for parts in zip(*map(keras.tree.flatten, chunks), strict=True)]
    return keras.tree.pack_sequence_as(chunks[0], flat)


def windows(model: keras.Model, image: Any, corners: Sequence[Corner], window: Corner) -> Any:
    """The windows of an image at these corners, as a batch in the model's input structure."""
    arrays = keras.tree.flatten(image)
    first = channels_first(model)
    flags = image_inputs(model)
    cut = [
        _cut(a, corners, window, first) if f else np.stack([a] * len(corners))
        for a, f in zip(arrays, flags, strict=True)
    ]
    return cut[0] if len(cut) == 1 else keras.tree.pack_sequence_as(image, cut)


def spatial_size(model: keras.Model, image: Any) -> Corner:
    """Spatial size of an image."""
    array = next(a for a, f in zip(keras.tree.flatten(image), image_inputs(model), strict=True) if f)
    return tuple(array.shape[1:] if channels_first(model) else array.shape[:-1])


def _cut(array: Any, corners: Sequence[Corner], window: Corner, first: bool) -> Any:
    lead = (slice(None),) if first else ()
    return np.stack([array[(*lead, *(slice(c, c + w) for c, w in zip(at, window, strict=True)))] for at in corners])


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
