"""How plans, grids and proofs are shown: a table on a terminal, plain lines in a file or a pipe, JSON on request."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fullyconv.errors import InputTooSmallError

if TYPE_CHECKING:
    from fullyconv.geometry import Grid
    from fullyconv.heatmap import Heatmap
    from fullyconv.plan import Plan
    from fullyconv.verify import Verification

Row = tuple[str, str, str, str]

# How remedies that are written for Python read on the command line.
IN_COMMANDS = (
    (r"fullyconv\.(?:convert|load)\((?:model|path), (.*)\)", r"\1"),
    (r"window=\((\d[\d, ]*?),?\)", lambda found: "--window " + found[1].replace(", ", "x")),
    (r"window=(\d+)", r"--window \1"),
    (r"(until|skip)='([^']*)'", r"--\1 \2"),
    (r"with `until`", "with --until LAYER"),
    (r"values='(\w+)'", r"--\1"),
)


def in_commands(text: str) -> str:
    """A message, its remedies as options of the command line.

    Example:
        >>> fullyconv.report.in_commands("Give it:  fullyconv.convert(model, window=(224, 224))")
        'Give it:  --window 224x224'
    """
    for pattern, replacement in IN_COMMANDS:
        text = re.sub(pattern, replacement, text)
    return text


MEANINGS = {
    "exact": "every cell equals the classifier on its window",
    "native": "equal at the window; elsewhere cells see real neighbours where the classifier saw padding",
    "approximate": "equal at the window; elsewhere a layer mixes more than the window",
}


def terminal() -> Console:
    """Where reports go: as wide as the terminal, or as wide as it takes."""
    return Console() if sys.stdout.isatty() else Console(width=500)


def verdict(proof: Verification) -> str:
    """What a proof says, in a sentence or two."""
    if proof.ok:
        return f"It holds: {MEANINGS[proof.exactness]}."
    wrong = {
        "the two differ at the window": proof.native_ok,
        "cells change with what lies beyond their receptive field": proof.size_ok,
        "the windows do not bear out what the grid says": proof.window_ok,
    }
    found = "; ".join(reason for reason, holds in wrong.items() if not holds)
    return f"It does NOT hold: {found}.\nIs FCN the conversion of this very MODEL, with these weights?"


def show_plan(plan: Plan, console: Console, fold: bool = False) -> None:
    """Print what each layer becomes, the grid of each output with its causes, the notes, and what the class means.

    Args:
        plan: The plan.
        console: Where to print.
        fold: One line for layers in a row that stay what they are.
    """
    rows = [(step.name, step.source, step.result, by(step.output_shape)) for step in plan.steps]
    rows = list(_folded(rows)) if fold else rows
    show_table(("layer", "class", "becomes", "at the window"), rows, console)
    show(console, "\n" + str(plan).partition("\n\n")[2])
    show(console, f"{plan.exactness.capitalize()} means: {MEANINGS[plan.exactness]}.")


def show_table(heading: Sequence[str], rows: Iterable[Sequence[str]], console: Console, right: int = 99) -> None:
    """Print a table.

    Args:
        heading: Names of the columns.
        rows: The cells.
        console: Where to print.
        right: The first of the columns that are aligned to the right.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(heading):
        table.add_column(name, justify="right" if i >= right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    with console.capture() as printed:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def _folded(rows: Sequence[Row]) -> Iterator[Row]:
    """Rows with one in the place of each run of layers that stay what they are."""
    for same, group in itertools.groupby(rows, key=lambda row: row[2].startswith(row[1])):
        run = list(group)
        if same and len(run) > 2:
            yield (f"{run[0][0]} to {run[-1][0]}", f"{len(run)} layers", "the same", run[-1][3])
        else:
            yield from run


def show_peaks(heatmap: Heatmap, console: Console) -> None:
    """Print the detections where there is a threshold, else the best window of each class drawn or of the best five."""
    listed = heatmap.top if heatmap.threshold is None else heatmap.detections(heatmap.threshold)
    if not listed:
        show(console, f"No {heatmap.placement.noun} has a {heatmap.kind} of at least {heatmap.threshold:g}.")
    for peak in listed:
        corner = ", ".join(f"{float(low):g}..{float(high):g}" for low, high in peak.box)
        show(console, f"{peak.probability:8.4f}  {peak.label}  (rows {corner.replace(', ', ', columns ')})")


def show(console: Console, text: str) -> None:
    """Print text as it is: no markup, no wrapping by another width than the terminal's."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def cells_of(plan: Plan, size: Sequence[int]) -> Iterator[str]:
    """How many cells an image of this size gets, a line an output.

    Raises:
        InputTooSmallError: it is smaller than the window.
    """
    for name, grid in named_grids(plan.grids):
        cells, inside = grid.cells(size), grid.windows_inside(size)
        if any(n < least for n, least in zip(size, grid.smallest_input, strict=True)):
            raise InputTooSmallError(size, grid.smallest_input)
        yield f"{name}: an image of {by(size)} gives {by(cells)} cells, {by(inside)} of them windows inside the image."


def named_grids(grids: Any, name: str = "output") -> Iterator[tuple[str, Grid]]:
    """Each output's grid, under the output's name or number."""
    if isinstance(grids, dict):
        for key, grid in grids.items():
            yield from named_grids(grid, str(key))
    elif isinstance(grids, list | tuple):
        for i, grid in enumerate(grids):
            yield from named_grids(grid, f"{name} {i}")
    else:
        yield name, grids


def plan_as_json(plan: Plan, size: Sequence[int] | None = None) -> dict[str, Any]:
    """A plan as plain values, with the cells an image of a given size gets."""
    grids = {name: grid_as_json(grid, size) for name, grid in named_grids(plan.grids)}
    steps = [
        {"layer": step.name, "class": step.source, "becomes": step.result, "shape": list(step.output_shape)}
        for step in plan.steps
    ]
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


def _plain(numbers: Sequence[Any]) -> list[Any]:
    """Numbers JSON has: fractions as floats, and None for an end that there is none of."""
    return [None if abs(n) == float("inf") else float(n) if isinstance(n, Fraction) else n for n in numbers]
