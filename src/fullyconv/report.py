"""How plans, grids and proofs are shown: a table on a terminal, plain lines in a file or a pipe, JSON on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fullyconv.geometry import Grid
    from fullyconv.plan import Plan

MEANINGS = {
    "exact": "every cell equals the classifier on its window",
    "native": "equal at the window; elsewhere cells see real neighbours where the classifier saw padding",
    "approximate": "equal at the window; elsewhere a layer mixes more than the window",
}
COLUMNS = ("layer", "class", "becomes", "shape")


def show_plan(plan: Plan, console: Console) -> None:
    """Print what each layer becomes, then the grid of each output, then the notes."""
    if console.is_terminal:
        console.print(_table(plan))
    else:
        for line in _columns([COLUMNS, *_rows(plan)]):
            show(console, line)
    for name, grid in named_grids(plan.grids):
        for line in describe_grid(name, grid):
            show(console, line)
    for note in plan.notes:
        show(console, f"Note: {note}")


def show(console: Console, text: str) -> None:
    """Print text as it is: no markup, no wrapping by another width than the terminal's."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe_grid(name: str, grid: Grid) -> Iterator[str]:
    """Where the cells of an output lie, and what they are worth."""
    field = " x ".join(_interval(interval) for interval in grid.receptive_field)
    yield f"{name}: window {by(grid.window)}, a cell every {by(grid.stride)} pixels, each sees {field}"
    yield f"{name}: {grid.exactness}: {MEANINGS[grid.exactness]}"
    if grid.reasons:
        more = f" and {len(grid.reasons) - 3} more" if len(grid.reasons) > 3 else ""
        yield f"{name}: because of {', '.join(grid.reasons[:3])}{more}"


def named_grids(grids: Any, name: str = "output") -> Iterator[tuple[str, Grid]]:
    """Each output's grid, under the output's name or number."""
    if isinstance(grids, dict):
        for key, grid in grids.items():
            yield from named_grids(grid, str(key))
    elif isinstance(grids, list | tuple):
        for i, grid in enumerate(grids):
            yield from named_grids(grid, f"{name} {i}" if len(grids) > 1 else name)
    else:
        yield name, grids


def plan_as_json(plan: Plan, size: Sequence[int] | None = None) -> dict[str, Any]:
    """A plan as plain values, with the cells an image of a given size gets."""
    grids = {name: grid_as_json(grid, size) for name, grid in named_grids(plan.grids)}
    steps = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(plan)]
    return {"exactness": plan.exactness, "outputs": grids, "layers": steps, "notes": list(plan.notes)}


def grid_as_json(grid: Grid, size: Sequence[int] | None = None) -> dict[str, Any]:
    """A grid as plain values."""
    found = {
        "window": _plain(grid.window),
        "stride": _plain(grid.stride),
        "offset": _plain(grid.offset),
        "receptive_field": [_plain(interval) for interval in grid.receptive_field],
        "exactness": grid.exactness,
        "reasons": list(grid.reasons),
    }
    if size:
        found |= {
            "size": list(size),
            "cells": list(grid.cells(size)),
            "windows_inside": list(grid.windows_inside(size)),
        }
    return found


def by(size: Sequence[object]) -> str:
    """Sizes as text: 224 x 224."""
    return " x ".join(map(str, size))


def _rows(plan: Plan) -> list[tuple[str, ...]]:
    """The cells of the table, a row a step."""
    return [(step.name, step.source, step.result, str(step.output_shape)) for step in plan.steps]


def _table(plan: Plan) -> Table:
    """The table for a terminal."""
    table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False)
    for row in _rows(plan):
        table.add_row(*row)
    return table


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _interval(interval: Sequence[Any]) -> str:
    """An interval of pixels as text: -90..314."""
    return f"{interval[0]}..{interval[1]}"


def _plain(numbers: Sequence[Any]) -> list[Any]:
    """Numbers JSON has: fractions as floats, and None for an end that there is none of."""
    return [None if abs(n) == float("inf") else float(n) if isinstance(n, Fraction) else n for n in numbers]
