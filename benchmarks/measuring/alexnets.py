"""The headline of the FCN paper on this machine: AlexNet on a window, on 100 windows, and over 500 x 500 pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import fullyconv
from measuring.judging import judged
from measuring.networks import image, network
from measuring.timing import clocked, digits, each, interleaved, ratios
from measuring.windows import by_windows, crops

SIZE, CELLS = 500, 100  # the map is 10 x 10; the windows of its last row and column reach beyond the image
BATCHES = (1, 10, 25)

Run = Callable[[np.ndarray], Any]
Row = dict[str, Any]


def forward(rounds: int) -> Row:
    """Forward, on this package's engine."""
    return _compared(fullyconv.compile, rounds)


def forward_jax(rounds: int) -> Row:
    """Forward, compiled by jax."""
    return _compared(_jitted_forward, rounds)


def backward_jax(rounds: int) -> Row:
    """Forward and backward: the gradients of all weights, compiled by jax, and the difference to forward alone."""
    row, alone = _compared(_jitted_gradients, rounds), forward_jax(rounds)
    medians = {kind: row["seconds"][kind]["median"] - alone["seconds"][kind]["median"] for kind in row["seconds"]}
    return row | {"backward": {kind: digits(value) for kind, value in medians.items()}}


def _compared(make: Callable[[keras.Model], Run], rounds: int) -> Row:
    """One window, the map, and 100 windows at the best batch size, in turns."""
    model = network("AlexNet")
    fcn = fullyconv.convert(model)
    x = image("AlexNet", SIZE)
    assert math.prod(fcn.grid.cells((SIZE, SIZE))) == CELLS
    cut = crops(x, fcn.window, [int(s) for s in fcn.grid.stride], max(BATCHES))
    batch, windows = by_windows(lambda: make(model), cut, BATCHES)
    on_map, on_one = make(fcn.model), make(model)
    runs = {
        "map": clocked(lambda: on_map(x)),
        "window": clocked(lambda: on_one(cut[:1])),
        "windows": lambda: CELLS / batch * windows(),
    }
    taken = interleaved(runs, rounds)
    limit = CELLS * fullyconv.cost(model).multiply_adds / fcn.cost(SIZE).multiply_adds
    speedup = {kind: ratios(taken, kind, "map", scale) for kind, scale in (("windows", 1.0), ("window", float(CELLS)))}
    facts = {"batch": batch, "limit": digits(limit), "one_by_one": speedup["window"]}
    return {**facts, "seconds": each(taken), **judged(speedup["windows"], least=5.0)}


def _jitted_forward(model: keras.Model) -> Run:
    import jax  # noqa: PLC0415  one of the rows needs it

    state, call = _state(model), _call(model)
    compiled = jax.jit(call)
    return lambda x: jax.block_until_ready(compiled(state, x))


def _jitted_gradients(model: keras.Model) -> Run:
    import jax  # noqa: PLC0415

    state, call = _state(model), _call(model)
    compiled = jax.jit(jax.grad(lambda weights, x: (call(weights, x) ** 2).mean()))
    return lambda x: jax.block_until_ready(compiled(state, x))


def _state(model: keras.Model) -> list[Any]:
    return [v.value for v in model.trainable_variables]


def _call(model: keras.Model) -> Callable[[Any, Any], Any]:
    fixed = [v.value for v in model.non_trainable_variables]
    return lambda weights, x: model.stateless_call(weights, fixed, x, training=False)[0]


FIGURES: dict[str, Callable[[int], Row]] = {
    "forward, this package": forward,
    "forward, jax": forward_jax,
    "forward and backward, jax": backward_jax,
}
