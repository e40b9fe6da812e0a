"""The page of denser maps, from the results of stride.py and localisation.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring.store import Store
from measuring.table import error, record, table, why_not

Row = Mapping[str, Any]
PAGE = Path(__file__).parents[2] / "docs" / "strides.md"

HEAD = """---
hide:
  - toc
---

# Denser maps, measured

What `stride=` does is explained in [the guide](guides/denser.md). This page is made by `benchmarks/stride.py` and
`benchmarks/localisation.py` from their results.
"""

PLACES = """
## What one gains

A cup and a cat, cut out of photos with soft edges, are pasted onto photos of other things at places drawn at random,
and EfficientNet-Lite0 looks for them. **Off** is how far the centre of the best window for the right class is from the
object's, in pixels: the median, and what nine in ten stay below. **Upsampled** is the same for the best pixel of that
stride's map upsampled bilinearly. **Value** is the median of the best probability, and **found** in how many pictures
it is at least 0.5.
"""

PLACES_READ = """
Denser maps find more of the objects, since some window frames them as the network has learnt to see them. (The largest
of more values is larger in any case, for wrong classes too.) The place does **not** become better: a window of 224
pixels holds an object of 180 wherever it begins within 44 pixels, the network is nearly as sure of it at most of these
places, and the one that it is surest of need not be the middle. Upsampling adds nothing: between four cells a bilinear
map is nowhere higher than at the best of them.
"""

SQUARES = """
The network of chess squares has no such freedom: its window is the square. Two boards were cut at random, so that their
squares begin anywhere, and the cell nearest to each square names it.
"""

RIGHT = """
## Right

The weights are random, but for the network of chess squares; [the zoo's page](zoo.md) says how they are prepared. Cells
are held **against** those of the plain network on the image shifted to them, for every shift, where nothing of what
they see is beyond the border; where no layer pads, against the classifier on windows cut out. The **error** is the
largest difference, as a share of the largest logit, and **apart** how far the compared cells are from each other.

A network of contexts pools these around its denser cells, so that the plain network's cells are others, by as much as
the note says. Its denser map is held against the denser map of the shifted image.
"""

COST = """
## What it costs

One pass of the denser network, and how many times longer the same cells take otherwise: by **shift and stitch**, the
plain network on every shifted image, and by **cutting windows**, a sample of them at the best batch size, scaled up to
all. The median (least to most) of rounds in which they take turns, on one engine. The **share** is how much of the
ratio of multiply-adds is reached.
"""

MEMORY = """
## Memory

What compiling and one run add to a process, in MiB: at their peak, and in brackets what the compiled graph keeps until
it is dropped: a copy of the weights, and the memory of its last run.
"""


def write() -> None:
    """Write the page from the results there are."""
    places, strides = (Store(name, "").read() for name in ("localisation", "stride"))
    parts = [HEAD]
    if places["rows"]:
        parts += gains(places)
    if strides["rows"]:
        parts += sections(strides)
    PAGE.write_text("".join(parts))


def gains(results: Row) -> list[str]:
    """The two tables of localisation.py."""
    objects = [row for row in results["rows"].values() if "cell" in row]
    squares = [row for row in results["rows"].values() if "squares" in row]
    columns = ("stride", "cells", "off", "nine in ten", "upsampled", "nine in ten", "value", "found")
    read = [[str(row["stride"]), f"{row['right']:,} of {row['squares']:,}"] for row in squares]
    tables = [PLACES, table(columns, map(place, objects)), PLACES_READ, SQUARES]
    return [*tables, table(("stride", "squares read right"), read), "\n", record(results)]


def sections(results: Row) -> list[str]:
    """The three tables of stride.py."""
    rows = [row for row in results["rows"].values() if "failed" not in row]
    failed = [f"\n{row['model']}: {why_not(row)}\n" for row in results["rows"].values() if "failed" in row]
    right = ("network", "stride", "against", "cells", "error", "apart", "error at the window", "note")
    cost = ("network", "image", "stride", "cells", "seconds", "shift and stitch", "share", "cutting windows", "share")
    memory = ("network", "image", "stride", "denser map", "shift and stitch", "cutting windows")
    return [
        *(RIGHT, table(right, map(verified, rows))),
        *(COST, table(cost, map(timed, rows))),
        *(MEMORY, table(memory, map(grown, rows))),
        *failed,
        "\n",
        record(results),
    ]


def place(row: Row) -> list[str]:
    """The line of one stride in the table of places."""
    cell, pixel = row["cell"], row["upsampled"]
    return [
        str(row["stride"]),
        f"{row['cells']:,}",
        *(f"{each[kind]:.0f}" for each in (cell, pixel) for kind in ("median", "nine_in_ten")),
        f"{row['sure']:.2f}",
        f"{row['found']} of {row['places']}",
    ]


def verified(row: Row) -> list[str]:
    """The line of one network in the first table."""
    note = f"the plain map differs by {row['plain_apart']:.1%}" if "plain_apart" in row else ""
    return [
        row["model"],
        str(row["stride"]),
        row["against"],
        f"{row['compared']:,}",
        error(row["error"]),
        f"{row['apart']:.2f}",
        error(row["native_error"]),
        note,
    ]


def timed(row: Row) -> list[str]:
    """The line of one network in the second table."""
    ratios = [(row["over_dense"][kind], row["share"][kind]) for kind in ("shift_and_stitch", "windows")]
    return [
        row["model"],
        f"{row['size']} x {row['size']}",
        str(row["stride"]),
        " x ".join(map(str, row["cells"])),
        f"{row['seconds']['dense']['median']:.2f}",
        *(text for ratio, share in ratios for text in (times(ratio), f"{share:.2f}")),
    ]


def times(ratio: Row) -> str:
    """A ratio with its range."""
    return f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"


def grown(row: Row) -> list[str]:
    """The line of one network in the third table."""
    found = row["memory_mib"]
    kinds = [found[kind] for kind in ("dense", "shift_and_stitch", "windows")]
    amounts = [f"{kind['peak']:,} ({kind['kept']:,})" if "peak" in kind else kind["failed"] for kind in kinds]
    return [row["model"], f"{row['size']} x {row['size']}", str(row["stride"]), *amounts]
