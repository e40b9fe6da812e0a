"""What lowering is worth: each net lowered, as Keras traces it, and built channels-first, in one run on one engine.

    KERAS_BACKEND=openvino python benchmarks/engine.py [--runs 7] [NET:SIZE ...]

Prints JSON: seconds of each variant, and per round the ratios `unlowered / lowered` (the gain) and `lowered /
channels_first` (the cost of having been channels-last), as minimum, median and maximum over the rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import keras
import numpy as np

from fullyconv import _openvino, engine
from fullyconv._openvino_core import core

NETS = ["VGG16:512", "ResNet50:1024", "MobileNetV2:1024", "EfficientNetB0:1024"]
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}

Timed = Callable[[], float]


def main() -> None:
    """Measure the nets asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET:SIZE")
    parser.add_argument("--runs", type=int, default=7, help="rounds, at least 5 (default 7)")
    options = parser.parse_args()
    nets = [net.partition(":") for net in options.nets]
    results = [measure(name, int(size), max(5, options.runs)) for name, _, size in nets]
    print(json.dumps({"cpu": cpu(), "precision": "f32", "nets": results}, indent=2))


def cpu() -> str:
    """The processor, as OpenVINO names it."""
    return str(core().get_property("CPU", "FULL_DEVICE_NAME"))


def measure(name: str, size: int, runs: int) -> dict[str, object]:
    """One net at one size, its variants taking turns."""
    last, first = trunk(name, "channels_last"), trunk(name, "channels_first")
    for source, target in zip(last.variables, first.variables, strict=True):
        target.assign(keras.ops.convert_to_numpy(source).reshape(target.shape))
    x = np.random.default_rng(0).uniform(size=(1, size, size, 3)).astype("float32")
    timed = {
        "lowered": through_engine(last, x),
        "unlowered": through_openvino(last, x),
        "channels_first": through_engine(first, np.ascontiguousarray(np.moveaxis(x, -1, 1))),
    }
    rounds = [{kind: run() for kind, run in timed.items()} for _ in range(runs + 1)][1:]
    return {
        "net": name,
        "size": size,
        "seconds": {kind: spread([r[kind] for r in rounds]) for kind in timed},
        "gain": spread([r["unlowered"] / r["lowered"] for r in rounds]),
        "lowered_over_channels_first": spread([r["lowered"] / r["channels_first"] for r in rounds]),
    }


def trunk(name: str, data_format: str) -> keras.Model:
    """A network of `keras.applications` without its head, for images of any size."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    shape = (None, None, 3) if data_format == "channels_last" else (3, None, None)
    try:
        return getattr(keras.applications, name)(weights=None, include_top=False, input_shape=shape)
    finally:
        keras.config.set_image_data_format(before)


def through_engine(model: keras.Model, x: np.ndarray) -> Timed:
    """The time of a run by the package's engine."""
    run = engine.compile(model)

    def timed() -> float:
        run(x)
        return run.run_seconds

    return timed


def through_openvino(model: keras.Model, x: np.ndarray) -> Timed:
    """The time of a run of the graph as Keras traces it, in the same precision."""
    graph, structure = _openvino.trace(model, model.inputs, model.input, [x.shape])
    run = _openvino.compiled(graph, structure, EXACT)

    def timed() -> float:
        start = time.perf_counter()
        run([x])
        return time.perf_counter() - start

    return timed


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": round(min(values), 4), "median": round(float(np.median(values)), 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    main()
