"""Rows in which processes take turns: this package's engine against something else, with the same network and image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from measuring.judging import judged
from measuring.timing import digits, each, interleaved, ratios
from measuring.workers import Worker, WorkerError, prepared

Row = dict[str, Any]
OTHERS = ("jax", "torch", "tensorflow")


def duel(folder: Path, ours: Worker, backend: str, kind: str, rounds: int) -> Row:
    """Seconds of a contestant beside ours, in turns; why not, where it fails.

    Args:
        folder: Where `prepared` has left the network and the image.
        ours: The worker of `ours`, which has left its map there.
        backend: Keras's backend in the contestant's process.
        kind: Its name among the contestants.
        rounds: How often both run.
    """
    try:
        with Worker(backend, kind, folder) as theirs:
            taken = interleaved({"ours": ours, "theirs": theirs}, rounds)
            return {**theirs.facts, "seconds": each(taken), "ratio": ratios(taken, "theirs", "ours")}
    except WorkerError as error:
        return {"failed": str(error)}


def backends(name: str, size: int, rounds: int) -> Row:
    """The map on the engine beside the best of Keras's other backends."""
    folder = prepared(name, size)
    with Worker("openvino", "ours", folder) as ours:
        found = {backend: duel(folder, ours, backend, "our network", rounds) for backend in OTHERS}
    ran = {backend: row["ratio"] for backend, row in found.items() if "ratio" in row}
    if not ran:
        return {"failed": "; ".join(row["failed"] for row in found.values())}
    best = min(ran, key=lambda backend: ran[backend]["median"])
    return {"best": best, "backends": found, **judged(ran[best], least=2.0)}


def against_peer(name: str, size: int, backend: str, kind: str, rounds: int) -> Row:
    """One contestant beside ours, with the limit of what cutting windows can lose and the share of it that is lost.

    The limit is the ratio of the multiply-adds: of all windows and the map for a contestant that cuts windows, else 1.
    """
    folder = prepared(name, size)
    with Worker("openvino", "ours", folder) as ours:
        row = duel(folder, ours, backend, kind, rounds)
        limit = ours.facts["limit"] if "batch" in row else 1.0
        return ours.facts | row | {"limit": limit} | shares(row, limit)


def shares(row: Row, limit: float) -> Row:
    """The ratio of seconds as a share of the ratio of multiply-adds: 1 where both compute equally fast."""
    return {"share": {end: digits(value / limit) for end, value in row["ratio"].items()}} if "ratio" in row else {}
