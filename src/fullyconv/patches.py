"""Work on pictures a patch at a time, so that what it takes in between is small however large they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

PIXELS = 1 << 17  # of a patch


def patches(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the patches that a picture consists of.

    Example:
        >>> list(patches(2, 3))
        [(slice(0, 2, None), slice(0, 3, None))]
    """
    wide = max(1, min(width, PIXELS))
    high = max(1, PIXELS // wide)
    for top in range(0, height, high):
        for left in range(0, width, wide):
            yield slice(top, min(top + high, height)), slice(left, min(left + wide, width))


def filled(shape: Sequence[int], dtype: Any, make: Callable[[slice, slice], np.ndarray]) -> np.ndarray:
    """An array whose patches are made one after the other.

    Args:
        shape: Its height, width, and more.
        dtype: Type of its values.
        make: Returns the patch at some rows and columns.

    Example:
        >>> filled((2, 3), int, lambda rows, columns: np.ones((2, 3))).tolist()
        [[1, 1, 1], [1, 1, 1]]
    """
    array = np.empty(tuple(shape), dtype)
    for rows, columns in patches(*array.shape[:2]):
        array[rows, columns] = make(rows, columns)
    return array


def as_bytes(image: np.ndarray) -> np.ndarray:
    """A picture with values 0..255 as bytes: rounded, or itself where it has them already."""
    if image.dtype == np.uint8:
        return image

    def rounded(rows: slice, columns: slice) -> np.ndarray:
        return np.rint(np.clip(image[rows, columns], 0, 255))

    return filled(image.shape, np.uint8, rounded)
