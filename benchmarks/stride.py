"""What denser maps cost: one pass of the denser network, beside the ways to have the same cells without it.

    KERAS_BACKEND=openvino python benchmarks/stride.py [--runs 5] [NET:SIZE:STRIDE ...]

`shift_and_stitch` runs the plain network on the image shifted by every multiple of the stride below the network's own;
`windows` cuts windows out and runs the classifier on them (the chess network only): a sample of them, whose time is
scaled up to all. All run on one engine and take turns. Weights are random, but for the chess network's. Prints JSON:
the machine with its load before, seconds of each, and per round the ratio of each to the denser network, as minimum,
median and maximum over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import openvino as ov

import fullyconv
from fullyconv import pretrained

NETS = [f"{net}:512:{k}" for net in ("VGG16", "ResNet50", "MobileNetV2", "EfficientNetB0") for k in (16, 8)]
NETS.append("chess:400:1")
BATCH, SAMPLE = 256, 2048  # windows at a time, and in all


def main() -> None:
    """Measure the nets asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET:SIZE:STRIDE")
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    options = parser.parse_args()
    machine = {
        "cpu": str(ov.Core().get_property("CPU", "FULL_DEVICE_NAME")),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "backend": keras.backend.backend(),
        "command": " ".join(["python", *sys.argv]),
    }
    nets = [net.split(":") for net in options.nets]
    results = [measure(name, int(size), int(stride), options.runs) for name, size, stride in nets]
    print(json.dumps({"machine": machine, "nets": results}, indent=2))


def measure(name: str, size: int, stride: int, runs: int) -> dict[str, Any]:
    """One net at one size and stride, its variants taking turns."""
    model = pretrained.chess_model() if name == "chess" else getattr(keras.applications, name)(weights=None)
    plain, dense = fullyconv.convert(model), fullyconv.convert(model, stride=stride)
    image = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype("float32")
    shifts = list(itertools.product(*(range(0, s, stride) for s in plain.grid.stride)))
    variants: dict[str, Callable[[], int]] = {
        "dense": lambda: cells(dense.predict(image)),
        "shift_and_stitch": lambda: sum(cells(plain.predict(shifted(image, shift))) for shift in shifts),
    }
    if name == "chess":
        classify = fullyconv.compile(model)
        variants["windows"] = lambda: by_windows(classify, image, model.input_shape[1:3])
    counts = {kind: run() for kind, run in variants.items()}  # compiles, and warms up
    scale = {kind: counts["dense"] / SAMPLE if kind == "windows" else 1.0 for kind in variants}
    rounds = [{kind: seconds(run) * scale[kind] for kind, run in variants.items()} for _ in range(runs)]
    return {
        "net": name,
        "size": size,
        "stride": stride,
        "own_stride": plain.grid.stride[0],
        "cells": counts,
        "seconds": {kind: spread([r[kind] for r in rounds]) for kind in variants},
        "over_dense": {kind: spread([r[kind] / r["dense"] for r in rounds]) for kind in variants if kind != "dense"},
    }


def shifted(image: np.ndarray, shift: tuple[int, ...]) -> np.ndarray:
    """The image without its first rows and columns; zeros follow, so that every shift has the same size."""
    y, x = shift
    return np.pad(image[:, y:, x:], ((0, 0), (0, y), (0, x), (0, 0)))


def by_windows(classify: Callable[[np.ndarray], Any], image: np.ndarray, window: tuple[int, int]) -> int:
    """The classifier on windows here and there in the image, a batch at a time."""
    corners = np.random.default_rng(1).integers(
        0, [n - w + 1 for n, w in zip(image.shape[1:3], window, strict=True)], (SAMPLE, 2)
    )
    for i in range(0, SAMPLE, BATCH):
        classify(np.stack([image[0, y : y + window[0], x : x + window[1]] for y, x in corners[i : i + BATCH]]))
    return SAMPLE


def cells(maps: np.ndarray) -> int:
    """The number of cells of a map."""
    return int(np.prod(maps.shape[1:-1]))


def seconds(run: Callable[[], int]) -> float:
    """The time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": round(min(values), 3), "median": round(float(np.median(values)), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
