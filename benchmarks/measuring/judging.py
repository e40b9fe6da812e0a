"""Ratios beside their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALLOWANCE = 0.1  # what a guard lets the median of the ratios miss its target by: noise of a machine


def judged(ratio: Mapping[str, float], *, most: float | None = None, least: float | None = None) -> dict[str, Any]:
    """The entries of a row that say whether its ratio meets a target.

    Args:
        ratio: Minimum, median and maximum over the rounds.
        most: What the median must not exceed.
        least: What it must reach.
    """
    met = ratio["median"] <= most if most is not None else ratio["median"] >= (least or 0)
    return {"ratio": dict(ratio), **({"most": most} if most is not None else {"least": least}), "met": met}


def holds(row: Mapping[str, Any]) -> bool:
    """Whether a row passes its guard: its target is met but for noise. Rows without a ratio have none to fail."""
    if "failed" in row:
        return False
    if "ratio" not in row or row.get("unit") == "s":
        return True
    median = row["ratio"]["median"]
    if "most" in row:
        return median <= row["most"] * (1 + ALLOWANCE)
    return "least" not in row or median >= row["least"] * (1 - ALLOWANCE)
