"""Seconds of several things that take turns, and what is said of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Timed = Callable[[], float]
Rounds = list[dict[str, float]]
Spread = dict[str, float]

LEAST_ROUNDS = 5
LEAST_SECONDS = 0.2  # what is shorter is repeated


def clocked(call: Callable[[], Any], least: float = LEAST_SECONDS) -> Timed:
    """A function that returns the seconds of one call, as the mean of as many as take `least` seconds.

    The call is made twice before: once to compile, once to know how long it takes.
    """
    call()
    count = max(1, min(200, math.ceil(least / seconds(call))))

    def run() -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    return run


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(runs: Mapping[str, Timed], rounds: int) -> Rounds:
    """Seconds of each, round after round, every other round in reverse order."""
    names = list(runs)
    return [{name: runs[name]() for name in names[:: -1 if i % 2 else 1]} for i in range(max(LEAST_ROUNDS, rounds))]


def ratios(rounds: Rounds, above: str, below: str, scale: float = 1.0) -> Spread:
    """The ratio of two within each round, times `scale`, over the rounds."""
    return spread([scale * r[above] / r[below] for r in rounds])


def each(rounds: Rounds) -> dict[str, Spread]:
    """The seconds of each over the rounds."""
    return {name: spread([r[name] for r in rounds]) for name in rounds[0]}


def spread(values: Sequence[float]) -> Spread:
    """Minimum, median and maximum, to four digits."""
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return {"min": digits(ordered[0]), "median": digits(middle), "max": digits(ordered[-1])}


def digits(value: float) -> float:
    """A number to four significant digits."""
    return float(f"{value:.4g}")
