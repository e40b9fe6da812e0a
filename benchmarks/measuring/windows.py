"""The way without a fully convolutional network: the classifier on windows, at its best batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from measuring.timing import Timed, clocked, seconds

Run = Callable[[np.ndarray], Any]
LEAST_SECONDS = 1.0


def crops(image: np.ndarray, window: Sequence[int], stride: Sequence[int], count: int) -> np.ndarray:
    """The first windows of an image `(1, rows, columns, channels)`, again from the first where it has fewer."""
    cells = [(n - w) // s + 1 for n, w, s in zip(image.shape[1:3], window, stride, strict=True)]
    corners = [(i // cells[1] * stride[0], i % cells[1] * stride[1]) for i in range(min(count, cells[0] * cells[1]))]
    cut = np.stack([image[0, y : y + window[0], x : x + window[1]] for y, x in corners])
    return np.resize(cut, (count, *cut.shape[1:]))


def best_batch(make: Callable[[], Run], cut: np.ndarray, sizes: Sequence[int]) -> int:
    """The batch size with the least time a window; each has a runner of its own, which is dropped again."""

    def per_window(size: int) -> float:
        run, batch = make(), cut[:size]
        run(batch)
        return min(seconds(lambda: run(batch)) for _ in range(2)) / size

    return min(sizes, key=per_window)


def by_windows(make: Callable[[], Run], cut: np.ndarray, sizes: Sequence[int]) -> tuple[int, Timed]:
    """The best batch size, and what times one batch of it; the windows were cut out before.

    Args:
        make: Returns a new runner of the classifier.
        cut: At least as many windows as the largest batch, `(count, *window, channels)`.
        sizes: The batch sizes to try.
    """
    size = best_batch(make, cut, sizes)
    run, batch = make(), np.ascontiguousarray(cut[:size])
    return size, clocked(lambda: run(batch), LEAST_SECONDS)
