"""Ways to have the same map, each in a process of its own: what `measuring.workers` runs.

Each takes the folder where `prepare` has left `model.keras` and `image.npy`, and returns what to time. Those that
give a map leave it in `map.npy` (`ours`), or say how far theirs is from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

import fullyconv
from measuring.known_answer import known_answer
from measuring.networks import batches, image, network
from measuring.timing import LEAST_SECONDS, digits
from measuring.windows import LEAST_SECONDS as LEAST_OF_WINDOWS
from measuring.windows import best_batch, crops


@dataclass(frozen=True)
class Contestant:
    """Something to time.

    Args:
        call: What is timed.
        facts: What to say of it; its map's `difference` from ours, of the largest value, where it has one.
        scale: How many times a call takes the whole map.
        least: Seconds that a measurement lasts.
    """

    call: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    least: float = LEAST_SECONDS


def prepare(folder: str, name: str, size: int) -> Contestant:
    """Writes the network, then the image."""
    network(name).save(Path(folder, "model.keras"))
    np.save(Path(folder, "image.npy"), image(name, size))
    return Contestant(lambda: None)


def ours(folder: str) -> Contestant:
    """The converted network on this package's engine."""
    model, x = loaded(folder)
    fcn = fullyconv.convert(model)
    run = fullyconv.compile(fcn.model)
    np.save(Path(folder, "map.npy"), run(x))
    size = x.shape[1:3]
    facts = {"cells": math.prod(fcn.grid.windows_inside(size)), "limit": digits(fcn.plan.speedup(size) or 1.0)}
    return Contestant(lambda: run(x), facts | {"multiply_adds": fcn.cost(size).multiply_adds})


def our_network(folder: str) -> Contestant:
    """The converted network through Keras's `predict`."""
    model, x = loaded(folder)
    fcn = fullyconv.convert(model).model
    return on_map(folder, lambda: fcn.predict(x, verbose=0))


def known(folder: str) -> Contestant:
    """The network of the well-known answer, through Keras's `predict`."""
    model, x = loaded(folder)
    fcn = known_answer(model)
    return on_map(folder, lambda: fcn.predict(x, verbose=0))


def engine_windows(folder: str) -> Contestant:
    """Windows, on this package's engine."""
    model, x = loaded(folder)
    return on_windows(model, x, lambda: fullyconv.compile(model))


def predict_windows(folder: str) -> Contestant:
    """Windows, through Keras's `predict`."""
    model, x = loaded(folder)
    return on_windows(model, x, lambda: lambda cut: model.predict(cut, batch_size=len(cut), verbose=0))


def torch_map(folder: str) -> Contestant:
    """A torch module with the same weights, in inference mode, in the better of two memory formats."""
    from measuring.torch_nets import best_format, fully_convolutional  # noqa: PLC0415  torch is not in every process

    model, x = loaded(folder)
    run, kept = best_format(fully_convolutional(model), x)
    return on_map(folder, run, memory_format=kept)


def monai_windows(folder: str) -> Contestant:
    """MONAI's sliding window over a torch module of the classifier with the same weights."""
    from measuring.monai_windows import sliding_windows  # noqa: PLC0415

    model, x = loaded(folder)
    grid = fullyconv.plan(model).grids
    return sliding_windows(model, x, [int(s) for s in grid.stride], batches(model))


def onnx_runtime(folder: str) -> Contestant:
    """The converted network, exported to ONNX, on ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415

    model, x = loaded(folder)
    path = Path(folder, "fcn.onnx")
    fullyconv.export(fullyconv.convert(model), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    path.unlink()
    name = session.get_inputs()[0].name
    return on_map(folder, lambda: session.run(None, {name: x})[0])


def loaded(folder: str) -> tuple[keras.Model, np.ndarray]:
    """The network and the image."""
    return keras.models.load_model(Path(folder, "model.keras"), compile=False), np.load(Path(folder, "image.npy"))


def on_map(folder: str, run: Callable[[], Any], **facts: Any) -> Contestant:
    """A contestant that gives a map, compared with ours where the two have the same cells."""
    mine, theirs = np.load(Path(folder, "map.npy")), np.asarray(run())
    if mine.shape != theirs.shape:
        return Contestant(run, facts | {"shape": list(theirs.shape[1:-1])})
    return Contestant(run, facts | {"difference": digits(float(np.abs(mine - theirs).max() / np.abs(mine).max()))})


def on_windows(model: keras.Model, x: np.ndarray, make: Callable[[], Callable[[np.ndarray], Any]]) -> Contestant:
    """A contestant that runs windows at the best batch size: one batch is timed, and scaled to all."""
    grid, sizes = fullyconv.plan(model).grids, batches(model)
    cut = crops(x, grid.window, [int(s) for s in grid.stride], max(sizes))
    size = best_batch(make, cut, sizes)
    run, batch = make(), np.ascontiguousarray(cut[:size])
    scale = math.prod(grid.windows_inside(x.shape[1:3])) / size
    return Contestant(lambda: run(batch), {"batch": size}, scale, LEAST_OF_WINDOWS)


CONTESTANTS: dict[str, Callable[..., Contestant]] = {
    "prepare": prepare,
    "ours": ours,
    "our network": our_network,
    "known answer": known,
    "windows on the engine": engine_windows,
    "windows by predict": predict_windows,
    "torch": torch_map,
    "MONAI": monai_windows,
    "ONNX Runtime": onnx_runtime,
}
