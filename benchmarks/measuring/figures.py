"""The figures of the target table that one process can measure, each with the seconds that its ratio is made of."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import fullyconv
import memory
from fullyconv import _openvino
from fullyconv._openvino_core import core
from measuring.judging import judged
from measuring.networks import batches, image, network
from measuring.timing import Timed, clocked, digits, each, interleaved, ratios, spread
from measuring.windows import by_windows, crops

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}

Row = dict[str, Any]


def at_the_window(name: str, rounds: int) -> Row:
    """The converted network at the window beside the classifier: on the engine, or through Keras's `predict`."""
    model = network(name)
    fcn = fullyconv.convert(model)
    x = image(name, model.input_shape[1])
    runs = {kind: clocked(_on_one(m, x)) for kind, m in {"fcn": fcn.model, "classifier": model}.items()}
    taken = interleaved(runs, rounds)
    most = 1.05 if keras.backend.backend() == "openvino" else 1.3
    return {"seconds": each(taken), **judged(ratios(taken, "fcn", "classifier"), most=most)}


def _on_one(model: keras.Model, x: np.ndarray) -> Callable[[], Any]:
    if keras.backend.backend() != "openvino":
        return lambda: model.predict(x, verbose=0)
    run = fullyconv.compile(model)
    return lambda: run(x)


def own_interface(name: str, size: int, rounds: int) -> Row:
    """The map beside that of the same network built channels first, run by OpenVINO itself at a known shape."""
    last, first = _whole(name, "channels_last"), _whole(name, "channels_first")
    for source, target in zip(last.weights, first.weights, strict=True):
        target.assign(keras.ops.convert_to_numpy(source).reshape(target.shape))
    x = image(name, size)
    run, own = fullyconv.compile(last), by_openvino(first, np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    difference = np.abs(run(x) - np.moveaxis(own(), 1, -1)).max() / np.abs(run(x)).max()
    taken = interleaved({"engine": clocked(lambda: run(x)), "own": clocked(own)}, rounds)
    compared = judged(ratios(taken, "engine", "own"), most=1.1)
    return {"seconds": each(taken), "difference": digits(float(difference)), **compared}


def _whole(name: str, data_format: str) -> keras.Model:
    """A network of `keras.applications`, converted, whose images have their channels last or first."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        model = (
            network(name)
            if data_format == "channels_last"
            else getattr(keras.applications, name)(weights=None, classifier_activation=None)
        )
        return fullyconv.convert(model).model
    finally:
        keras.config.set_image_data_format(before)


def by_openvino(model: keras.Model, x: np.ndarray) -> Callable[[], np.ndarray]:
    """The graph as Keras traces it, compiled for one shape and called through OpenVINO's own request."""
    graph, _ = _openvino.trace(model, model.inputs, model.input, [x.shape])
    request = core().compile_model(graph, "CPU", EXACT).create_infer_request()
    return lambda: request.infer([x])[0]


def over_windows(name: str, size: int, rounds: int) -> Row:
    """The speed-up of the map over cutting its windows, beside the ratio of their multiply-adds."""
    model = network(name)
    fcn = fullyconv.convert(model)
    cells, limit = windows_and_limit(fcn, size)
    x, sizes = image(name, size), batches(model)
    cut = crops(x, fcn.window, [int(s) for s in fcn.grid.stride], max(sizes))
    batch, windows = by_windows(lambda: fullyconv.compile(model), cut, sizes)
    run = fullyconv.compile(fcn.model)
    taken = interleaved({"map": clocked(lambda: run(x)), "windows": scaled(windows, cells / batch)}, rounds)
    speedup = ratios(taken, "windows", "map")
    share = {end: digits(value / limit) for end, value in speedup.items()}
    facts = {"cells": cells, "batch": batch, "sample": digits(batch / cells), "limit": digits(limit)}
    return {**facts, "seconds": each(taken), "speedup": speedup, **judged(share, least=0.9)}


def windows_and_limit(fcn: Any, size: int) -> tuple[int, float]:
    """How many windows lie inside an image, and how many times the multiply-adds of the map theirs are."""
    return math.prod(fcn.grid.windows_inside((size, size))), fcn.plan.speedup(size)


def scaled(run: Timed, factor: float) -> Timed:
    """The seconds of a sample, scaled to all."""
    return lambda: factor * run()


def conversion(name: str, rounds: int) -> Row:
    """The time of a conversion beside `clone_model` with `set_weights`, the least that makes a second network."""
    model = network(name)
    taken = interleaved(
        {"convert": _freed(lambda: fullyconv.convert(model)), "clone": _freed(lambda: _clone(model))}, rounds
    )
    return {"seconds": each(taken), **judged(ratios(taken, "convert", "clone"), most=1.2)}


def _clone(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _freed(make: Callable[[], Any]) -> Timed:
    """The seconds of making something, without those of letting it go."""

    def run() -> float:
        gc.collect()
        start = time.perf_counter()
        made = make()
        taken = time.perf_counter() - start
        del made
        return taken

    run()
    return run


def conversion_memory(name: str, rounds: int) -> Row:
    """The memory that a conversion adds at its peak beside what contract C7 allows: weights, and 1.5 of the largest."""
    memory.warmed_up()
    model, peaks = network(name), []
    for _ in range(max(5, rounds)):
        fcn, grown = memory.growth(lambda: fullyconv.convert(model))
        peaks.append(grown["peak"])
        weights = memory.weights_of(fcn.model)
        del fcn
    allowed = weights["weights"] + 1.5 * weights["largest"]
    mib = {"allowed": allowed, "weights": weights["weights"]}
    facts = {f"{kind}_mib": round(value / 2**20) for kind, value in mib.items()}
    return {**facts, **judged(spread([peak / allowed for peak in peaks]), most=1.0)}
