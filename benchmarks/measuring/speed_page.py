"""The page on speed, from the results of targets.py, peers.py, headline.py, sizes.py and where.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measuring.speed_rows import PARTS
from measuring.store import Store

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "speed.md"

Results = Mapping[str, Any]

HEAD = """---
hide:
  - toc
---

# Speed

One pass over the image computes what neighbouring windows share once. How much that saves is a matter of counting
multiply-adds (`fullyconv plan MODEL --size 512x512`); how much of it turns into time is on this page, which is made
from the results of the scripts in `benchmarks/` that it names.

Both sides of each ratio take turns, at least five times, in float32, with the same weights and image. A figure is the
median, with the least and the most in brackets. Compare ratios; seconds are those of one machine at one time. Windows
are cut out before the clock starts, run at the best of a few batch sizes on a graph compiled for it, and one batch of
them is scaled to all. What is shorter than 0.2 s is repeated, and its mean counts.
"""

TARGETS = """
## Targets

What was aimed at, and whether the median gets there. `window`: the converted network at the window beside the
classifier, on the default engine; `predict`: the same through Keras's `predict`. `own`: the map beside that of the same
network built channels first and called through OpenVINO's own interface. `windows`: the share of the
multiply-add limit that the speed-up over cutting windows reaches; it is more than 1 where small windows use the machine
less well than a map. `backends`: how many times longer the best of Keras's other backends takes for the map.
`conversion`: time beside `clone_model` and `set_weights`; `memory`: what is added at the peak, of the weights and 1.5
times the largest. `import`: seconds up to `fullyconv.convert`, where Keras is imported already. Denser maps have
[a page of their own](strides.md). Reading images larger than memory is still to come, and so is its row.
"""

PEERS = """
## Other ways to the same map

How many times longer they take than this package. The limit is the ratio of multiply-adds, of all windows for those
that cut windows; the share of it is what the machine makes of them. *Known answer* is the network of the well-known
recipe: Dense layers replaced by Conv2D, in order. *Our network* is the converted network in Keras on that backend.
PyTorch runs a `torch.nn.Module` with the same weights in inference mode, in the better of two memory formats. MONAI's
`sliding_window_inference` cuts windows for that module's classifier; one row of windows is timed. The difference is
the largest from our map, of its largest value; PyTorch and OpenVINO can share their kernels, to the last bit.
"""

HEADLINE = """
## The paper's headline, again

Long, Shelhamer and Darrell give for AlexNet, on a GPU of 2014, 1.2 ms for a window of 227 x 227 and 22 ms for a map of
10 x 10 over 500 x 500 pixels: "more than 5 times faster" than the windows; backward 2.4 and 37 ms. That is
`100 x 1.2 / 22 = 5.5` times, windows one by one. Here is Caffe's AlexNet, with its groups and with poolings that round
up, which is how 500 pixels come to 10 cells; local response normalisation is left out, and weights are random.
"""

SIZES = """
## Size

The points are medians; memory is what the first run of a graph adds to the process, with its copy of the weights.
"""

WHERE = """
## Where the time goes

The share of each kind of operation in the time of a map, by OpenVINO's own counters. A network whose convolutions are
large runs at the speed of the machine's multiplication of matrices; one of depthwise convolutions moves more data than
it computes. The engine lowers channels-last networks to channels-first before it compiles them, which leaves no
transposes between layers: left as Keras traces them, 32 to 72 % of the time of these maps is spent on transposing.
"""

SECTIONS = {"targets": TARGETS, "peers": PEERS, "headline": HEADLINE, "sizes": SIZES, "where": WHERE}


def write() -> None:
    """Write the page from the results there are."""
    PAGE.write_text(page(lambda name: Store(name, "").read()))


def page(read: Callable[[str], Results]) -> str:
    """The page.

    Args:
        read: Returns what a result file says, given its name.
    """
    return HEAD + "".join(_section(name, read(name)) for name in SECTIONS)


def _section(name: str, results: Results) -> str:
    text = SECTIONS[name]
    if not results["rows"]:
        return f"{text}\nNot measured yet: `python benchmarks/{name}.py`.\n"
    return f"{text}{PARTS[name](results['rows'])}\n{_record(results)}"


def _record(results: Results) -> str:
    """With what the rows were measured, and while how much else was running."""
    rows = results["rows"].values()
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    dates = sorted({row["date"] for row in rows})
    loads = sorted(row["load"] for row in rows if "load" in row) or [0.0]
    machine = results["machine"].removesuffix(", shared with other work")
    load = f"load before each row {loads[0]} to {loads[-1]}"
    return f"`{results['command']}`, {' to '.join(sorted({dates[0], dates[-1]}))}: {machine}, {load}; {versions}.\n"
