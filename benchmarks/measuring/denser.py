"""One network at one size and stride: a row of the table of denser maps.

Right: cells of the denser map are held against those that the plain network gives on the image shifted to them, for
every shift along each axis, where the whole receptive field lies inside the shifted image. The images are as long as
the field and four strides along that axis, and as the window along the other, which all share.

- A network without padding is held against the classifier on windows cut out.
- A network of contexts pools them around its denser cells, so the plain network's are others. Its denser map is held
  against the denser map of the shifted image; how far the plain network is from it stands beside.

Time: all variants on one engine, in turns, compilation left out. `shift_and_stitch` runs the plain network on the image
shifted by every multiple of the stride below its own. `windows` cuts windows out, as many as make a good second of
work, and is scaled up to all; at the best of a few batch sizes. The share is how much of the ratio of multiply-adds the
ratio of times reaches.

Memory: what compiling and one run add to a process at their peak, the compiled copy of the weights with them.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import fullyconv
import memory
import nets
import zoo_nets
from fullyconv import pretrained
from measuring.row import photo

VARIANTS = ("dense", "shift_and_stitch", "windows")
BATCHES = (1, 4, 16, 64, 256)
WORK = 2 * 10**11  # multiply-adds of a sample of windows
SAMPLE = (16, 2048)  # windows of a sample, at least and at most
CHECKED = 2048  # windows that a network without padding is held against


class Denser:
    """A network, converted at its own stride and at a denser one, and its image.

    Args:
        name: `NET:SIZE:STRIDE`.
    """

    def __init__(self, name: str) -> None:
        net, size, stride = name.split(":")
        self.net, self.size, self.stride = net, int(size), int(stride)
        chess = net == "chess"
        self.model = chess_logits() if chess else zoo_nets.prepared(net)
        self.plain = fullyconv.convert(self.model)
        self.dense = fullyconv.convert(self.model, stride=self.stride)
        self.image = pretrained.chess_board()[0].astype("float32") if chess else photo(self.size)

    @property
    def cost(self) -> Any:
        """What the denser map costs, beside the other ways to its cells."""
        rows = fullyconv.plan(self.model).strides(self.size)
        return next(row for row in rows if row.stride == self.dense.grid.stride)

    def shifts(self) -> list[tuple[int, ...]]:
        """The shifts of the image that give all cells."""
        return list(itertools.product(*(range(0, s, self.stride) for s in self.plain.grid.stride)))

    def shifted(self, shift: tuple[int, ...]) -> np.ndarray:
        """The image without its first rows and columns; zeros follow, so that all shifts have one size."""
        y, x = shift
        return np.pad(self.image[y:, x:], ((0, y), (0, x), (0, 0)))[None]

    def windows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows of the image here and there, and the cells that stand for them."""
        cells = np.random.default_rng(1).integers(0, self.dense.grid.windows_inside(self.image.shape[:2]), (count, 2))
        rows, columns = self.dense.window
        cut = [self.image[y : y + rows, x : x + columns] for y, x in cells * self.stride]
        return np.stack(cut), cells


def chess_logits() -> keras.Model:
    """The trained network of chess squares without its softmax, as the others are built."""
    model = pretrained.chess_model()
    model.layers[-1].activation = keras.activations.linear
    return model


def measure(name: str, rounds: int) -> dict[str, Any]:
    """The row of one network at one size and stride, without its memory."""
    start, denser = time.perf_counter(), Denser(name)
    row = {
        "model": denser.net,
        "size": denser.size,
        "stride": denser.stride,
        "own_stride": denser.plain.grid.stride[0],
        "load": round(os.getloadavg()[0], 1),
    }
    row |= verified(denser) | timed(denser, rounds)
    return row | {"total_seconds": round(time.perf_counter() - start)}


# -------------------------------------------------------------------------------------------------------------- right


def verified(denser: Denser) -> dict[str, Any]:
    """What the cells were held against, how many, the largest difference, and how far the cells are apart.

    Differences are shares of the largest value. `native_error` is that of the one cell at the window.
    """
    pair = nets.inputs_for(denser.model, 2, 500)
    want = fullyconv.compile(denser.model)(pair)
    found = {"native_error": off(want, denser.dense.predict(pair).reshape(want.shape))}
    exactness = denser.dense.exactness
    if exactness == "exact":
        return found | against_windows(denser)
    if exactness == "native":
        return found | against_shifted(denser, denser.plain)
    beside = against_shifted(denser, denser.plain)
    return found | against_shifted(denser, denser.dense) | {"plain_apart": beside["error"]}


def off(want: np.ndarray, have: np.ndarray) -> float:
    """The largest difference, of the largest value."""
    return float(np.abs(want - have).max() / np.abs(want).max())


def against_windows(denser: Denser) -> dict[str, Any]:
    """The denser map against the classifier on windows."""
    cut, cells = denser.windows(CHECKED)
    want = fullyconv.compile(denser.model)(cut)
    have = denser.dense.predict(denser.image[None])[0][tuple(cells.T)]
    return {"against": "windows", "error": off(want, have), "compared": len(cut), "apart": apart(want)}


def apart(values: np.ndarray) -> float:
    """How far two cells are apart at most, of the largest value."""
    flat = values.reshape(-1, values.shape[-1])
    return float(np.ptp(flat, axis=0).max() / np.abs(flat).max())


def against_shifted(denser: Denser, other: fullyconv.FullyConv) -> dict[str, Any]:
    """The denser map against a network's map of the shifted image, along each axis in turn."""
    pairs = [pair for axis in (0, 1) for pair in along(denser, other, axis)]
    want, have = (np.concatenate(side) for side in zip(*pairs, strict=True))
    own = "the denser map of the shifted image"
    against = own if other is denser.dense else "the plain map of the shifted image"
    return {"against": against, "error": off(want, have), "compared": len(want), "apart": apart(want)}


def along(denser: Denser, other: fullyconv.FullyConv, axis: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each shift along an axis the cells of the other network's map, and those of the denser map."""
    (low, high), own = denser.dense.grid.receptive_field[axis], denser.plain.grid.stride[axis]
    long, step = int(high - low) + 4 * own, int(other.grid.stride[axis])
    image = texture(nets.along(denser.dense.window, axis, long + own))
    whole = lane(denser.dense.predict(image), axis)
    inside = np.array([i for i in range(long // step) if low + i * step >= 0 and high + i * step <= long])
    pairs = []
    for shift in range(denser.stride, own, denser.stride):
        cut = image.take(range(shift, shift + long), 1 + axis)
        pairs.append((lane(other.predict(cut), axis)[inside], whole[(shift + inside * step) // denser.stride]))
    return pairs


def texture(size: tuple[int, ...]) -> np.ndarray:
    """An image with structure at every scale."""
    return nets.images(size, 3, 1, 907)


def lane(cells: np.ndarray, axis: int) -> np.ndarray:
    """The first row or column of a map, along an axis."""
    return np.moveaxis(cells[0], axis, 0)[:, 0]


# --------------------------------------------------------------------------------------------------------------- time


def timed(denser: Denser, rounds: int) -> dict[str, Any]:
    """Seconds of each variant, ratios of times to the denser map's in each round, and the shares of their limits."""
    cost = denser.cost
    work = {"dense": cost.cost.multiply_adds, "shift_and_stitch": cost.shift_and_stitch, "windows": cost.windows}
    batch, classify, cut = best_batch(denser)
    runs = variants(denser, classify, cut, batch)
    scale = {"dense": 1.0, "shift_and_stitch": 1.0, "windows": int(np.prod(cost.cells)) / len(cut)}
    taken = [{kind: seconds(run) * scale[kind] for kind, run in runs.items()} for _ in range(rounds + 1)][1:]
    ratios = {kind: [r[kind] / r["dense"] for r in taken] for kind in VARIANTS[1:]}
    limits = {kind: work[kind] / work["dense"] for kind in ratios}
    return {
        "cells": [int(n) for n in cost.cells],
        "batch": batch,
        "sample": len(cut),
        "multiply_adds": work,
        "seconds": {kind: spread([r[kind] for r in taken]) for kind in VARIANTS},
        "over_dense": {kind: spread(values) for kind, values in ratios.items()},
        "limit": {kind: round(limit, 2) for kind, limit in limits.items()},
        "share": {kind: round(float(np.median(ratios[kind])) / limits[kind], 3) for kind in ratios},
    }


def variants(denser: Denser, classify: Any, cut: np.ndarray, batch: int) -> dict[str, Callable[[], Any]]:
    """What is timed."""
    dense, plain = fullyconv.compile(denser.dense.model), fullyconv.compile(denser.plain.model)
    images = [denser.shifted(shift) for shift in denser.shifts()]
    return {
        "dense": lambda: dense(denser.image[None]),
        "shift_and_stitch": lambda: [plain(image) for image in images],
        "windows": lambda: [classify(cut[i : i + batch]) for i in range(0, len(cut), batch)],
    }


def best_batch(denser: Denser) -> tuple[int, Any, np.ndarray]:
    """The batch size at which windows take the least time, what classifies them, and the windows."""
    least, most = SAMPLE
    count = int(np.clip(WORK // fullyconv.cost(denser.model).multiply_adds, least, most))
    found = [(*paced(denser, batch, count), batch) for batch in BATCHES if batch <= count]
    _, classify, batch = min(found, key=lambda each: each[0])
    return batch, classify, denser.windows(count - count % batch)[0]


def paced(denser: Denser, batch: int, count: int) -> tuple[float, Any]:
    """Seconds a window takes in batches of this size, and what classifies them."""
    classify, cut = fullyconv.compile(denser.model), denser.windows(batch)[0]
    classify(cut)
    turns = max(1, min(3, count // batch))
    return min(seconds(lambda: classify(cut)) for _ in range(turns)) / batch, classify


def seconds(run: Callable[[], Any]) -> float:
    """The time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": round(min(values), 4), "median": round(float(np.median(values)), 4), "max": round(max(values), 4)}


# ------------------------------------------------------------------------------------------------------------- memory


def grown(name: str, kind: str) -> dict[str, Any]:
    """MiB that compiling and one run of a variant add to this process: at the peak, and kept while it is compiled."""
    denser = Denser(name)
    image, model = denser.image[None], {"dense": denser.dense, "shift_and_stitch": denser.plain}.get(kind)
    if model is None:
        image, _ = denser.windows(int(kind.rpartition(" ")[2]))
    source: keras.Model = denser.model if model is None else model.model
    fullyconv.compile(small())(np.zeros((1, 8, 8, 3), "float32"))
    _, found = memory.growth(lambda: ran(fullyconv.compile(source), image))
    return {kind: round(found[kind] / 2**20) for kind in ("peak", "kept")}


def ran(run: Any, image: np.ndarray) -> Any:
    """A compiled network that was run once."""
    run(image)
    return run


def small() -> keras.Model:
    """A network that is run first: what the engine loads on first use is no variant's own."""
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
