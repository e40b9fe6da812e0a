"""The page of the coverage table, from the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from zoo_nets import CLASSIFIERS

Row = Mapping[str, Any]

HEAD = """---
hide:
  - toc
---

# The zoo

Every classifier of `keras.applications`, converted and measured. This page is made by `make zoo` from
`benchmarks/results/zoo.json`; each row is a process of its own.

The weights are random, since none are shipped: BatchNormalization has statistics of a batch, jittered, and biases are
not zero, so that a mistake in the trunk shows in the logits. Kernels are scaled until their outputs have unit spread;
those of contexts and of heads less, since means over whole maps hardly differ between images, and blown up they would
carry their rounding along. Two images differ by at least a tenth of the largest logit. How far maps of *trained*
networks agree with windows cut out is on the page [what is exact and what is not](guides/exactness.md).
"""

GEOMETRY = """
## What each becomes

The field is how many pixels one cell sees. It is larger than the window in all of them: none of these networks is
*exact*, all are equal to the classifier at the window. The cause is layers that pad and, for *approximate*, contexts.
A context is a squeeze-and-excite: with the default `context="window"` it widens the field at every block
(`benchmarks/context.py` measures what it costs).

What **cells see** was found by changing pixels, on each network built for small images and up to its last map: a line
of pixels is answered by the cells whose field it is in and by no other (*exactly it*). A context does not show that
way; there, changing every pixel outside a cell's field changes nothing (*nothing outside it*).
"""

MEASURED = """
## What was measured

- **Error**: the largest difference from the classifier at the window, of the largest logit, both through the engine;
  1e-5 is allowed. **Rounding**: how far the classifier's own logits move when every pixel changes by one unit in its
  last place: deep random networks amplify rounding, so that no two ways to compute them agree much better.
  EfficientNetB6 is near the limit: with its head at unit spread and other seeds its error is 1.0e-5 to 1.6e-5, where
  jax and torch, given the classifier alone, differ by 1.7e-5.
- **Images apart**: how many times larger than the error the difference between two images is.
- **Windows**: of 25 or 9 windows cut out of a photo, the share for which map and classifier name the same class among
  1,000. With random weights it says little: borders padded with zeros stand out as in no trained network.
- **Reloaded**: the largest difference after `save` and `keras.models.load_model`, no custom objects given.
"""

SIZES = """
## Other sizes, and what a conversion takes

- **Cells** compared between a long thin image and those that begin it, in the plain Keras model, at every **residue**
  of the size or at the number given, and the **largest change** of one, of the largest logit. They are compared **at**
  the smallest window that pads as the network's own does.
- **Seconds** of the conversion, and the **memory** that it added at its peak, of what is allowed for weights: the new
  ones, and 1.5 times the largest. {beyond}
"""

HUB = """
## KerasHub

`python benchmarks/zoo.py --hub` builds every convolutional image classifier and backbone of KerasHub small, with random
weights, and converts it; it needs `pip install '.[hub]'`, which brings all of TensorFlow along. Many of its networks
are made of layers that call layers of their own; those are converted layer by layer. Refused are layers of its own that
have weights and no rule, a resizing inside a network, and vision transformers.
"""

GEOMETRY_COLUMNS = (
    *("network", "window", "stride", "field", "cells see"),
    *("exactness", "contexts", "layers that pad", "parameters"),
)
MEASURED_COLUMNS = ("network", "error", "rounding", "images apart", "windows", "reloaded")
SIZES_COLUMNS = ("network", "cells", "residues", "at", "largest change", "seconds", "memory, MiB")
HUB_COLUMNS = ("network", "becomes", "stride", "field", "error at the window")


def write_page(path: Path, zoo: Row, fields: Row, hub: Row, contexts: Row) -> None:
    """Write the page.

    Args:
        path: Where it goes.
        zoo: What the result file of `keras.applications` says.
        fields: That of what cells see.
        hub: That of KerasHub.
        contexts: That of squeeze-and-excite.
    """
    rows = {name: zoo["rows"].get(name, {"model": name}) for name in CLASSIFIERS}
    seen = {name: row.get("sees", why_not(row)) for name, row in fields["rows"].items()}
    lines = [geometry(row, seen.get(name, "not measured yet")) for name, row in rows.items()]
    parts = [HEAD, GEOMETRY, table(GEOMETRY_COLUMNS, lines), "\n", record(fields)]
    parts += [MEASURED, table(MEASURED_COLUMNS, map(measured, rows.values()))]
    parts += [
        SIZES.format(beyond=beyond(rows.values())),
        table(SIZES_COLUMNS, map(sizes, rows.values())),
        "\n",
        record(zoo),
    ]
    if contexts["rows"]:
        parts += [context_section(contexts)]
    if hub["rows"]:
        parts += [HUB, table(HUB_COLUMNS, map(hub_row, hub["rows"].values())), refusals(hub), record(hub)]
    path.write_text("".join(parts))


def beyond(rows: Iterable[Row]) -> str:
    """How many conversions take more than the weights allow, and why, in a sentence."""
    measured = [row for row in rows if "peak_mib" in row]
    more = [row["peak_mib"] - row["allowed_mib"] for row in measured if row["peak_mib"] > row["allowed_mib"]]
    if not more:
        return "None takes more."
    return (
        f"The layers themselves, hundreds of them, are not weights: {len(more)} of {len(measured)} networks, those "
        f"without a large weight, take {min(more):.0f} to {max(more):.0f} MiB more than that."
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def geometry(row: Row, seen: str) -> list[str]:
    """The line of one network in the first table, and what its cells were seen to see."""
    if "stride" not in row:
        return [row["model"], str(row.get("window", "")), why_not(row), *[""] * (len(GEOMETRY_COLUMNS) - 3)]
    low, high = row["field"]
    because = [str(row[kind] or "") for kind in ("contexts", "layers_that_pad")]
    size = f"{row['parameters'] / 1e6:,.1f} M"
    grid = [str(row["window"]), str(row["stride"]), f"{high - low:,}"]
    return [row["model"], *grid, seen, row["exactness"], *because, size]


def measured(row: Row) -> list[str]:
    """The line of one network in the second table."""
    if "native_error" not in row:
        return [row["model"], why_not(row), *[""] * (len(MEASURED_COLUMNS) - 2)]
    return [
        row["model"],
        f"{row['native_error']:.1e}",
        f"{row['rounding']:.1e}" if "rounding" in row else "",
        f"{row['discrimination']:,.0f}",
        f"{row['agreement']:.0%} of {row['windows']}",
        error(row["reload_error"]),
    ]


def sizes(row: Row) -> list[str]:
    """The line of one network in the third table."""
    if "cells" not in row:
        return [row["model"], why_not(row), *[""] * (len(SIZES_COLUMNS) - 2)]
    return [
        row["model"],
        f"{row['cells']:,}",
        "all" if row["residues"] == row["stride"] else str(row["residues"]),
        str(row["sizes_window"]),
        error(row["size_error"]),
        f"{row['convert_seconds']:.1f}",
        f"{row['peak_mib']:,.0f} of {row['allowed_mib']:,.0f}",
    ]


def error(value: float) -> str:
    """An error; none at all is 0."""
    return f"{value:.1e}" if value else "0"


def why_not(row: Row) -> str:
    """Why there are no figures."""
    return row.get("failed") or row.get("refused") or "not measured yet"


def hub_row(row: Row) -> list[str]:
    """The line of one network of KerasHub."""
    if "refused" in row or "failed" in row:
        return [row["model"], "refused" if "refused" in row else row["failed"], "", "", ""]
    low, high = row["field"]
    return [
        row["model"],
        row["exactness"],
        f"{row['stride']:g}",
        f"{high - low:,.0f}",
        error(row["native_error"]),
    ]


def refusals(hub: Row) -> str:
    """Every refusal, whole, to be folded out."""
    refused = [row for row in hub["rows"].values() if "refused" in row]
    texts = [f'??? quote "{row["model"]}"\n{indent(fenced(row["refused"]), "    ")}\n' for row in refused]
    return "\n### The refusals\n\n" + "\n".join(texts) + "\n" if texts else "\n"


def fenced(text: str) -> str:
    """Text to be shown as it is."""
    return f"```text\n{text}\n```"


def context_section(contexts: Row) -> str:
    """What squeeze-and-excite costs and is worth."""
    from measuring.contexts import section  # noqa: PLC0415  it makes tables with this module

    return section(contexts) + record(contexts)


def record(results: Row) -> str:
    """With what the rows were measured."""
    if not results["rows"]:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    dates = sorted({row["date"] for row in results["rows"].values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"`{results['command']}`, {when}: {results['machine']}; {versions}.\n"
