"""One photograph answered both ways: in one pass, and by cutting its windows and classifying each.

    compare(model, fcn, heatmap)     how often they agree, how far apart they are, and how long each took

Where a photograph has more windows than `MOST`, that many are drawn at random, always the same ones. Times are medians,
of passes and of batches of windows that are run in turn, so that what else the machine does weighs alike on both.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fullyconv.engine import Compiled, compile
from fullyconv.preprocessing import Mode, preprocess
from fullyconv.reference import at_corners

if TYPE_CHECKING:
    import keras

    from fullyconv.convert import FullyConv
    from fullyconv.heatmap import Heatmap

MOST = 256
SURE = 0.5
_PASSES = 5
_BATCH_PIXELS = 8 * 224 * 224
_LARGEST_BATCH = 64


@dataclass(frozen=True, eq=False)
class Comparison:
    """One pass over a photograph beside its windows, cut out and classified.

    Args:
        windows: How many windows the photograph has.
        cells: The cells that were compared, `(compared, 2)`: rows and columns.
        same: Whether both name the same class, for each; `None` where the values name no class.
        sure: Whether the classifier gives one class more than 0.5, for each; `None` where it gives no probabilities.
        difference: The largest difference of a value, for each.
        seconds: Time of the one pass.
        cut_seconds: Time of cutting all windows and classifying them in batches.
        batch: How many windows were classified at once.
    """

    windows: int
    cells: np.ndarray
    same: np.ndarray | None
    sure: np.ndarray | None
    difference: np.ndarray
    seconds: float
    cut_seconds: float
    batch: int

    @property
    def agreement(self) -> float:
        """Share of the windows for which both name the same class; NaN where the values name none."""
        return math.nan if self.same is None else float(self.same.mean())

    @property
    def speedup(self) -> float:
        """How many times longer cutting takes."""
        return self.cut_seconds / self.seconds


def has_windows(fcn: FullyConv) -> bool:
    """Whether each cell answers for one window, as it does not behind `pool="drop"`, `pool="global"` or `until`."""
    whole = all(axis.native == 1 and not axis.whole and axis.stride == int(axis.stride) for axis in fcn.grid.axes)
    return whole and fcn.options.get("until") is None


def compare(
    model: keras.Model, fcn: FullyConv, heatmap: Heatmap, mode: Mode = None, classify: Compiled | None = None
) -> Comparison:
    """How a network's answer to a photograph compares with its classifier's answers to the windows, one by one.

    Args:
        model: The classifier.
        fcn: What it was converted to, of which `has_windows` holds.
        heatmap: The network's answer to the photograph.
        mode: How its pixels are prepared; see `fullyconv.preprocessing`.
        classify: The classifier compiled, where it is already.
    """
    image = _as_it_enters(heatmap.image, fcn, mode)
    cells = _drawn(heatmap.map.shape[:2])
    corners = [tuple(int(low) for low, _ in fcn.grid.cell_to_box(cell)) for cell in cells]
    run = classify or compile(model)
    batch = max(1, min(_LARGEST_BATCH, _BATCH_PIXELS // math.prod(fcn.window), len(corners)))
    parts = [corners[i : i + batch] for i in range(0, len(corners), batch)]
    cut, seconds, each = _in_turn(
        lambda: fcn.predict(image[None]), lambda part: at_corners(run, model, image, part, fcn.window, batch), parts
    )
    ours, theirs = heatmap.map[tuple(cells.T)], cut.reshape(len(cells), -1)
    windows = math.prod(heatmap.map.shape[:2])
    return Comparison(
        windows=windows,
        cells=cells,
        same=_same(ours, theirs, heatmap.kind),
        sure=theirs.max(-1) > SURE if heatmap.kind == "probability" and theirs.shape[-1] > 1 else None,
        difference=np.abs(ours - theirs).max(-1),
        seconds=seconds,
        cut_seconds=each * windows,
        batch=batch,
    )


def _as_it_enters(pixels: np.ndarray, fcn: FullyConv, mode: Mode) -> np.ndarray:
    """One photograph as the network takes it, without the batch."""
    first = fcn.data_format == "channels_first"
    return preprocess(np.moveaxis(pixels, -1, 0) if first else pixels, mode, fcn.data_format)


def _drawn(shape: tuple[int, ...]) -> np.ndarray:
    """The cells to compare, `(count, 2)`: all of them, or as many as are compared at most."""
    count = math.prod(shape)
    flat = np.arange(count)
    if count > MOST:
        flat = np.sort(np.random.default_rng(0).choice(count, MOST, replace=False))
    return np.stack(np.unravel_index(flat, shape), -1)


def _in_turn(
    one_pass: Callable[[], Any], classify: Callable[[Any], Any], parts: Sequence[Sequence[Any]]
) -> tuple[np.ndarray, float, float]:
    """The answers for all parts, the time of a pass, and that of a window in a full part; first runs do not count."""
    one_pass()
    classify(parts[0])
    answers, passes, windows = [], [], []
    for i, part in enumerate(parts):
        if i % max(1, len(parts) // _PASSES) == 0:
            passes.append(_timed(one_pass)[1])
        answer, took = _timed(partial(classify, part))
        answers.append(answer)
        windows += [took / len(part)] if len(part) == len(parts[0]) else []
    return np.concatenate(answers).astype(np.float32), statistics.median(passes), statistics.median(windows)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its time."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _same(ours: np.ndarray, theirs: np.ndarray, kind: str) -> np.ndarray | None:
    """Whether both name the same class: the highest of several, or the side of 0.5 of the probability of one."""
    if ours.shape[-1] > 1:  # NaN names none
        return (ours.argmax(-1) == theirs.argmax(-1)) & np.isfinite(theirs).all(-1)
    return (ours[:, 0] > SURE) == (theirs[:, 0] > SURE) if kind == "probability" else None
