"""One image size: the time of its map, of its windows, and the memory of running it."""

from __future__ import annotations

from typing import Any

import fullyconv
import memory
from measuring.figures import scaled, windows_and_limit
from measuring.networks import batches, image, network
from measuring.timing import clocked, digits, each, interleaved, ratios
from measuring.windows import by_windows, crops


def at_size(name: str, size: int, rounds: int) -> dict[str, Any]:
    """A point of each curve.

    Memory is what the first run adds to the resident memory of the process at its peak: the compiled graph with its
    copy of the weights, and the activations. `activations` is the bound that `fullyconv.cost` gives for the latter.
    """
    model = network(name)
    fcn = fullyconv.convert(model)
    cells, limit = windows_and_limit(fcn, size)
    x, sizes = image(name, size), batches(model)
    run = fullyconv.compile(fcn.model)
    _, grown = memory.growth(lambda: run(x))
    cut = crops(x, fcn.window, [int(s) for s in fcn.grid.stride], max(sizes))
    batch, windows = by_windows(lambda: fullyconv.compile(model), cut, sizes)
    taken = interleaved({"map": clocked(lambda: run(x)), "windows": scaled(windows, cells / batch)}, rounds)
    cost = fcn.cost(size)
    points = {"net": name, "size": size, "cells": cells, "batch": batch, "limit": digits(limit)}
    times = {"seconds": each(taken), "speedup": ratios(taken, "windows", "map")}
    held = {"memory": grown["peak"], "activations": cost.peak_activation, "weights": 4 * cost.parameters}
    return points | times | held
