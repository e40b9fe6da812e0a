"""Squeeze-and-excite: `context="window"` beside `context="global"`, and both beside windows cut out.

    KERAS_BACKEND=openvino python benchmarks/context.py [--rounds 7] [--size 512] [NET ...]

Multiply-adds with the additions of poolings, seconds with known shapes (in turns, one pair a round), and how near each
map is to the classifier on every window. Writes results/context.json, from which docs/zoo.md has its table.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
from measuring.page import write
from measuring.row import photo
from measuring.store import Store

import fullyconv
import zoo_nets

NETS = ["EfficientNetB0", "MobileNetV3Large"]


def main() -> None:
    """Measure the nets asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs, at least 5 (default 7)")
    parser.add_argument("--size", type=int, default=512, help="edge of the image in pixels (default 512)")
    options = parser.parse_args()
    store = Store(
        "context",
        f"KERAS_BACKEND=openvino python benchmarks/context.py --rounds {options.rounds} --size {options.size}",
    )
    for name in options.nets:
        store.put(name, measure(name, options.size, max(5, options.rounds)))
    write()


def measure(name: str, size: int, rounds: int) -> dict[str, Any]:
    """One network with both kinds of context."""
    model = zoo_nets.prepared(name)
    kinds = {kind: fullyconv.convert(model, context=kind) for kind in ("window", "global")}
    image = photo(size)
    cut = fullyconv.reference(model, image, kinds["window"].grid.stride)
    windows = cut.shape[0] * cut.shape[1]
    own = work(fullyconv.cost(model))
    return {
        "model": name,
        "size": size,
        "windows": windows,
        "field": [int(end) for end in kinds["window"].grid.receptive_field[0]],
        "work": {kind: work(fcn.cost(size)) for kind, fcn in kinds.items()} | {"windows": own * windows},
        "load": os.getloadavg()[0],
        "seconds": timed(model, kinds, image, rounds),
        "near": {kind: near(cut, fcn.predict(image[None])[0]) for kind, fcn in kinds.items()},
    }


def work(cost: Any) -> int:
    """Multiply-adds, and what poolings add."""
    return int(cost.multiply_adds + cost.additions)


def timed(model: Any, kinds: dict[str, Any], image: np.ndarray, rounds: int) -> dict[str, Any]:
    """Seconds of each, a window of 16 cut out among them, and per round the ratio of window to global.

    Processor time stands beside it: on a machine with other work its ratio holds where that of seconds scatters.
    """
    runs = {kind: fullyconv.compile(fcn.model) for kind, fcn in kinds.items()} | {"cut": fullyconv.compile(model)}
    crops = np.stack([image[i : i + model.input_shape[1], : model.input_shape[2]] for i in range(16)])
    fed = {"window": image[None], "global": image[None], "cut": crops}
    taken = [{kind: seconds(run, fed[kind]) for kind, run in runs.items()} for _ in range(rounds + 1)][1:]
    ratios = [[r["window"][i] / r["global"][i] for r in taken] for i in (0, 1)]
    return {
        **{kind: spread([r[kind][0] / (16 if kind == "cut" else 1) for r in taken]) for kind in runs},
        "window_over_global": spread(ratios[0]),
        "processor_window_over_global": spread(ratios[1]),
    }


def seconds(run: Any, x: np.ndarray) -> tuple[float, float]:
    """The time of one run without compilation, and the processor time of all threads."""
    start = time.process_time()
    run(x)
    return run.run_seconds, time.process_time() - start


def near(cut: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """How near a map is to the classifier on every window: the same class, and the correlation of the logits."""
    maps = whole[: cut.shape[0], : cut.shape[1]]
    same = float((cut.argmax(-1) == maps.argmax(-1)).mean())
    apart = [(x - x.mean((0, 1))).ravel() for x in (cut, maps)]
    return {"same_class": same, "correlation": float(np.corrcoef(*apart)[0, 1])}


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, quartiles and maximum."""
    names = ("min", "low", "median", "high", "max")
    return {k: round(float(v), 4) for k, v in zip(names, np.percentile(values, (0, 25, 50, 75, 100)), strict=True)}


if __name__ == "__main__":
    main()
