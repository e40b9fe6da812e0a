"""How plans, grids and proofs are shown: a table on a terminal, plain lines in a file or a pipe, JSON on request."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fullyconv.errors import UnsupportedLayerError
from fullyconv.printable import LONGEST, inline, printable
from fullyconv.units import in_bytes, in_units

if TYPE_CHECKING:
    from fullyconv.cost import Cost, Size, StrideCost
    from fullyconv.geometry import Grid
    from fullyconv.heatmap import Heatmap
    from fullyconv.plan import Plan
    from fullyconv.verify import Verification
    from fullyconv.walk import Step

Row = tuple[str, str, str]
_LONGEST_CELL = 500  # characters; those of longer ones take rich seconds to lay out

# How remedies that are written for Python read on the command line.
IN_COMMANDS = (
    (r"fullyconv\.(?:convert|load)\((?:model|path), (.*)\)", r"\1"),
    (r"fullyconv\.convert\(model\)\.save\(path\)", "fullyconv convert MODEL -o FCN.keras"),
    (r"fullyconv\.to_classifier\(fcn, like=classifier\)", "--like MODEL"),
    (r"keras\.Model\(model\.inputs, model\.outputs\[0\]\)", "--until LAYER"),
    (r"window=\((\d[\d, ]*?),?\)", lambda found: "--window " + found[1].replace(", ", "x")),
    (r"window=(\d+)", r"--window \1"),
    (r"size=\d+ or size=\((\d[\d, ]*?)\), say", lambda found: "--size " + found[1].replace(", ", "x")),
    (r"\b(window|not|is) \((\d+(?:, \d+)+)\)", lambda found: f"{found[1]} {found[2].replace(', ', 'x')}"),
    (r"(until|skip|preprocess|pool)=(['\"])(.*?)\2", r"--\1 \3"),
    (r"format=('\w+'(?:, '\w+')* or '\w+')", lambda found: "--format " + found[1].replace("'", "")),
    (r"(rules=\{.*?: rule\})", r"\1 in Python"),
    (r"with `until`", "with --until LAYER"),
    (r"The `(\w+)` argument takes", r"--\1 takes"),
    (r"\b([Ll])eave `?(window|like|stride)`? out", r"\1eave --\2 out"),
    (r"values='(\w+)'", r"--\1"),
    (r"\boverwrite=True\b", "--overwrite"),
)


def in_commands(text: str) -> str:
    """A message, its remedies as options of the command line.

    Example:
        >>> fullyconv.report.in_commands("Give it:  fullyconv.convert(model, window=(224, 224))")
        'Give it:  --window 224x224'
    """
    return "\n".join(line if len(line) > LONGEST else _in_commands(line) for line in text.split("\n"))


def _in_commands(line: str) -> str:
    for pattern, replacement in IN_COMMANDS:
        line = re.sub(pattern, replacement, line)
    return line


MEANINGS = {
    "exact": "every cell equals the classifier on its window",
    "native": "equal at the window; elsewhere cells see real neighbours where the classifier saw padding",
    "approximate": "equal at the window; elsewhere a layer mixes more than the window",
}


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


def terminal() -> Console:
    """Where reports go: as wide as the terminal, or as wide as it takes."""
    return Console() if sys.stdout.isatty() else Console(width=500)


def show_plan(plan: Plan, console: Console, fold: bool = False) -> None:
    """Print what each layer becomes, the grid of each output with its causes, the notes, and what the class means.

    Args:
        plan: The plan.
        console: Where to print.
        fold: One line for layers in a row that stay what they are.
    """
    rows = list(_folded(plan.steps)) if fold else [(s.name, _becomes(s), by(s.output_shape)) for s in plan.steps]
    show_table(("layer", "becomes", "at the window"), rows, console, wraps=1)
    _show_meaning(plan, console)


def show_costed_plan(plan: Plan, console: Console, size: Size | None = None) -> None:
    """As `show_plan`, with multiply-adds, and for an image of a size the cost of the map and of the alternatives to it.

    Args:
        plan: The plan.
        console: Where to print.
        size: Spatial size of the image; without one, costs are those of the window.

    Raises:
        InputTooSmallError: the size is smaller than the window.
    """
    cost = plan.cost(size)
    steps = zip(plan.steps, plan.work(cost), strict=True)
    rows = [(s.name, _becomes(s), by(s.output_shape), in_units(work) if work else "") for s, work in steps]
    show_table(("layer", "becomes", "at the window", "multiply-\nadds"), rows, console, right=3, wraps=1)
    _show_meaning(plan, console)
    show(console, f"\nFor {'an image' if size else 'a window'} of {by(cost.size)}:")
    for line in _cells_of(plan, cost.size) if size else ():
        show(console, f"  {line}")
    for line in _cost_in_words(cost):
        show(console, f"  {line}")
    if size:
        _show_strides(plan, cost.size, console)
    else:
        show(console, "\n--size HxW says what an image costs, at this stride and at denser ones, and what it saves.")


def _becomes(step: Step) -> str:
    """What a layer becomes, after its class where that is another."""
    return step.result if _stays(step) else f"{step.source} -> {step.result}"


def _stays(step: Step) -> bool:
    return step.result.startswith(step.source)


def _show_meaning(plan: Plan, console: Console) -> None:
    show(console, in_commands("\n" + str(plan).partition("\n\n")[2]))
    show(console, f"{plan.exactness.capitalize()} means: {MEANINGS[plan.exactness]}.")


def _cost_in_words(cost: Cost) -> Iterator[str]:
    """Lines on the cost of a network."""
    yield f"{in_units(cost.multiply_adds)} multiply-adds, and {in_units(cost.additions)} additions in poolings"
    yield f"{in_units(cost.parameters)} parameters"
    yield f"{in_bytes(cost.peak_activation)} of activations at the peak, for one image"
    if cost.uncounted:
        yield f"not counted: the work of {inline(', '.join(cost.uncounted))}"


def _show_strides(plan: Plan, size: Sequence[int], console: Console) -> None:
    """Print what one pass saves over cutting windows, and the same for every stride."""
    strides = plan.strides(size)
    mine = next(row for row in strides if row.stride in {grid.stride for _, grid in named_grids(plan.grids)})
    if mine.speedup is not None:
        show(
            console,
            f"  at most {mine.speedup:.1f} times faster than cutting {math.prod(mine.cells):,} windows "
            f"({in_units(mine.windows or 0)} multiply-adds)",
        )
    if len(strides) > 1:
        show(console, "\nMultiply-adds at each --stride; in brackets how many times those of one pass:")
        heading = ("stride", "cells", "one pass", "memory", "shift and stitch", "cutting windows")
        show_table(heading, [_stride_row(row) for row in strides if row.cost], console, right=2)
    for row in strides:
        if row.refused:
            show(console, f"Stride {_once(row.stride)} is refused: {row.refused}.")


def _stride_row(row: StrideCost) -> tuple[str, ...]:
    cost = cast("Cost", row.cost)

    def beside(other: int | None) -> str:
        return f"{in_units(other)} ({other / cost.multiply_adds:.1f})" if other and cost.multiply_adds else "-"

    passes, memory = in_units(cost.multiply_adds), in_bytes(cost.peak_activation)
    return (_once(row.stride), by(row.cells), passes, memory, beside(row.shift_and_stitch), beside(row.windows))


def _once(sizes: Sequence[object]) -> str:
    """Sizes as text, once where they are equal: 32."""
    return str(sizes[0]) if len(set(sizes)) == 1 else by(sizes)


def show_table(
    heading: Sequence[str], rows: Iterable[Sequence[str]], console: Console, right: int = 99, wraps: int = -1
) -> None:
    """Print a table.

    Args:
        heading: Names of the columns.
        rows: The cells.
        console: Where to print.
        right: The first of the columns that are aligned to the right.
        wraps: The column whose cells go on in another line where the terminal is too narrow.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(heading):
        table.add_column(name, justify="right" if i >= right else "left", no_wrap=i != wraps)
    for row in rows:
        table.add_row(*(Text(inline(cell, _LONGEST_CELL)) for cell in row))
    with console.capture() as printed:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def _folded(steps: Sequence[Step]) -> Iterator[Row]:
    """Rows with one in the place of each run of layers that stay what they are."""
    for same, group in itertools.groupby(steps, key=_stays):
        run = list(group)
        if same and len(run) > 2:
            yield (f"{run[0].name} to {run[-1].name}", f"{len(run)} layers, the same", by(run[-1].output_shape))
        else:
            yield from ((s.name, _becomes(s), by(s.output_shape)) for s in run)


def show_peaks(heatmap: Heatmap, console: Console) -> None:
    """Print the detections where there is a threshold, else the best window of each class drawn or of the best five."""
    listed = heatmap.top if heatmap.threshold is None else heatmap.detections(heatmap.threshold)
    if not listed:
        show(console, f"No {heatmap.placement.noun} has a {heatmap.kind} of at least {heatmap.threshold:g}.")
    for peak in listed:
        corner = ", ".join(f"{float(low):g}..{float(high):g}" for low, high in peak.box)
        show(console, f"{peak.probability:8.4f}  {inline(peak.label)}  (rows {corner.replace(', ', ', columns ')})")


def show(console: Console, text: str) -> None:
    """Print text as it is: no markup, no wrapping by another width than the terminal's, and nothing that it obeys."""
    console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def _cells_of(plan: Plan, size: Sequence[int]) -> Iterator[str]:
    """How many cells an image of this size gets, a line an output."""
    named = list(named_grids(plan.grids))
    for name, grid in named:
        cells, inside = grid.cells(size), grid.windows_inside(size)
        which = "all" if cells == inside else by(inside)
        output = f"{name}: " if len(named) > 1 else ""
        yield f"{output}{by(cells)} cells, {which} of them windows inside the image"


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


def plan_as_json(plan: Plan, size: Size | None = None) -> dict[str, Any]:
    """A plan as plain values, with its cost for the window, or for an image of a given size with the alternatives.

    Raises:
        InputTooSmallError: the size is smaller than the window.
    """
    cost = plan.cost(size)
    grids = {name: grid_as_json(grid, cost.size if size else None) for name, grid in named_grids(plan.grids)}
    steps = [
        {"layer": s.name, "class": s.source, "becomes": s.result, "shape": list(s.output_shape), "multiply_adds": work}
        for s, work in zip(plan.steps, plan.work(cost), strict=True)
    ]
    return {
        "exactness": plan.exactness,
        "outputs": grids,
        "layers": steps,
        "notes": list(plan.notes),
        "cost": _cost_as_json(cost),
        "speedup": plan.speedup(size) if size else None,
        "strides": [_stride_as_json(row) for row in plan.strides(size)] if size else [],
    }


def _cost_as_json(cost: Cost) -> dict[str, Any]:
    """A cost as plain values, the layers left out."""
    return {field.name: getattr(cost, field.name) for field in fields(cost) if field.name != "layers"}


def _stride_as_json(row: StrideCost) -> dict[str, Any]:
    """The cost at a stride as plain values: None where there is none."""
    found = {field.name: getattr(row, field.name) for field in fields(row) if field.name != "cost"}
    sums = {name: getattr(row.cost, name, None) for name in ("multiply_adds", "additions", "peak_activation")}
    return {**found, "stride": _plain(row.stride), **sums, "speedup": row.speedup, "refused": row.refused or None}


def refusals_as_json(error: UnsupportedLayerError) -> dict[str, Any]:
    """All refusals of a model as plain values, each with its remedy, and the last layer before them."""
    refusals = [asdict(refusal) | {"remedy": in_commands(refusal.remedy)} for refusal in error.refusals]
    return {"refusals": refusals, "until": error.before}


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
