"""MONAI's `sliding_window_inference` as a way to run a classifier at every position of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch
from monai.inferers import sliding_window_inference

from measuring.contestants import Contestant
from measuring.timing import seconds
from measuring.torch_nets import classifier, to_torch
from measuring.windows import LEAST_SECONDS


def sliding_windows(model: keras.Model, x: np.ndarray, stride: Sequence[int], batches: Sequence[int]) -> Contestant:
    """The classifier on the windows of the map, cut out by MONAI, at the best batch size.

    The predictor keeps each window's answer: MONAI itself averages where windows overlap, and has no map of one cell a
    window. One row of windows is timed, and scaled to all.

    Args:
        model: The classifier, a chain of layers.
        x: An image `(1, rows, columns, channels)` of which the last windows end where it ends.
        stride: Pixels from one window to the next.
        batches: The batch sizes to try.
    """
    window, module = model.input_shape[1:3], classifier(model)
    rows = (x.shape[1] - window[0]) // stride[0] + 1
    strip = to_torch(x[:, : window[0]])
    make = {size: _over(module, strip, window, stride, size) for size in batches}
    expected = (x.shape[2] - window[1]) // stride[1] + 1
    found = len(make[batches[0]]())
    assert found == expected, f"MONAI cut {found} windows, not {expected}"
    size = min(batches, key=lambda n: min(seconds(make[n]) for _ in range(2)))
    return Contestant(make[size], {"batch": size}, rows, LEAST_SECONDS)


def _over(
    module: Any, x: torch.Tensor, window: Sequence[int], stride: Sequence[int], batch: int
) -> Callable[[], torch.Tensor]:
    # MONAI rounds window * (1 - overlap) down: half a pixel more keeps it from landing one below the stride
    overlap = [1 - (s + 0.5) / w for s, w in zip(stride, window, strict=True)]

    def run() -> torch.Tensor:
        answers = []

        def predictor(cut: torch.Tensor) -> torch.Tensor:
            answers.append(module(cut))
            return cut[:, :1]

        with torch.inference_mode():
            sliding_window_inference(x, tuple(window), batch, predictor, overlap=overlap)
        return torch.cat(answers)

    return run
