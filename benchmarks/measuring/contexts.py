"""The section on squeeze-and-excite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

TEXT = """
## Squeeze-and-excite

Blocks of EfficientNet and MobileNetV3 weigh their channels by a mean over the whole map. `context="window"` takes that
mean over the window around each position, so that a cell does not depend on what is elsewhere in the photo;
`context="global"` takes it over the whole photo, once. Both equal the classifier at the window.

Work is multiply-adds and the additions of poolings. Near the windows: the share of the windows for which the map and
the classifier name the same class of 1,000, and the correlation of their logits over the windows (1 is equal up to an
offset). The weights are random, so compare the lines, and measure your own network with `fullyconv.verify`.
"""
COLUMNS = (
    "network",
    "context",
    "field",
    "work",
    "milliseconds",
    "of global",
    "processor time",
    "same class",
    "correlation",
)


def section(results: Row) -> str:
    """The section, without the record of the machine."""
    from measuring.table import table  # noqa: PLC0415  it makes its page with this module

    lines = [line for row in results["rows"].values() for line in lines_of(row)]
    sizes = sorted({row["size"] for row in results["rows"].values()})
    photos = " and ".join(f"{n} x {n}" for n in sizes)
    note = f"\nPhotos of {photos} pixels; times and ratios as median (the middle half).\n\n"
    return TEXT + table(COLUMNS, lines) + note


def lines_of(row: Row) -> list[list[str]]:
    """The lines of one network: both contexts, and windows cut out."""
    work, seconds, near = row["work"], row["seconds"], row["near"]
    low, high = row["field"]
    fields = {"window": f"{high - low:,}", "global": "the photo"}
    lines = [
        [
            row["model"] if kind == "window" else "",
            f"`{kind}`",
            fields[kind],
            f"{work[kind] / 1e9:.2f} G ({work[kind] / work['global']:.2f} x)",
            milliseconds(seconds[kind]),
            *(
                spread(seconds[f"{what}window_over_global"]) + " x" if kind == "window" else "1 x"
                for what in ("", "processor_")
            ),
            f"{near[kind]['same_class']:.0%}",
            f"{near[kind]['correlation']:.2f}",
        ]
        for kind in ("window", "global")
    ]
    count = row["windows"]
    cut = {end: value * count for end, value in seconds["cut"].items()}
    ratio = f"{cut['median'] / seconds['global']['median']:.1f} x"
    whole = f"{work['windows'] / 1e9:.1f} G ({work['windows'] / work['global']:.1f} x)"
    return [*lines, ["", f"{count} windows cut out", "the window", whole, milliseconds(cut), ratio, "", "100%", "1.00"]]


def milliseconds(values: Row) -> str:
    """The median of seconds, and the middle half, in milliseconds."""
    median, low, high = (1000 * values[name] for name in ("median", "low", "high"))
    return f"{median:.0f} ({low:.0f} to {high:.0f})"


def spread(values: Row) -> str:
    """The median, and the middle half."""
    return f"{values['median']:.2f} ({values['low']:.2f} to {values['high']:.2f})"
