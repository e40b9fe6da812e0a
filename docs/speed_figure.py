"""Speed-up, time and memory against size, from benchmarks/results/sizes.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "sizes.json"
COLOURS = ("#5b2a86", "#d9601a")
NAMES = {"EfficientNetLite0": "EfficientNet-Lite0"}

Row = Mapping[str, Any]


def curves(results: Path = RESULTS) -> plt.Figure:
    """Three panels with a line for each network; limits and bounds are dashed.

    Args:
        results: What `benchmarks/sizes.py` has written.
    """
    rows = [row for row in json.loads(results.read_text())["rows"].values() if "speedup" in row]
    figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="compressed")
    for name, colour in zip(dict.fromkeys(row["net"] for row in rows), COLOURS, strict=False):
        points = sorted((row for row in rows if row["net"] == name), key=lambda row: row["size"])
        for panel, draw in zip(panels, (speedup, time, memory), strict=True):
            draw(panel, points, {"color": colour, "label": NAMES.get(name, name)})
    finish(panels)
    return figure


def speedup(panel: plt.Axes, points: list[Row], style: dict[str, str]) -> None:
    """How many times faster than windows, and the ratio of multiply-adds."""
    sizes = [row["size"] for row in points]
    line(panel, sizes, [row["speedup"] for row in points], style)
    panel.plot(sizes, [row["limit"] for row in points], "--", color=style["color"], linewidth=1)


def time(panel: plt.Axes, points: list[Row], style: dict[str, str]) -> None:
    """Seconds of the map against its cells."""
    line(panel, [row["cells"] for row in points], [row["seconds"]["map"] for row in points], style)


def memory(panel: plt.Axes, points: list[Row], style: dict[str, str]) -> None:
    """Memory of a graph's first run, and its weights with the largest sum of activations alive at once."""
    sizes, mib = [row["size"] for row in points], 2**20
    panel.plot(sizes, [row["memory"] / mib for row in points], "o-", markersize=4, **style)
    bound = [(row["weights"] + row["activations"]) / mib for row in points]
    panel.plot(sizes, bound, "--", color=style["color"], linewidth=1)


def line(panel: plt.Axes, x: list[int], spreads: list[Row], style: dict[str, str]) -> None:
    """The medians, and what lies between the least and the most."""
    panel.plot(x, [s["median"] for s in spreads], "o-", markersize=4, **style)
    low, high = ([s[end] for s in spreads] for end in ("min", "max"))
    panel.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)


def finish(panels: list[plt.Axes]) -> None:
    """Titles and axes."""
    panels[0].set(title="times faster than cutting windows", xlabel="edge of the image, pixels", ylim=0)
    panels[1].set(title="seconds of the map", xlabel="cells", xscale="log", yscale="log")
    panels[2].set(title="memory, MiB", xlabel="edge of the image, pixels", yscale="log")
    panels[0].plot([], [], "--", color="#777", linewidth=1, label="multiply-adds say")
    panels[2].plot([], [], "--", color="#777", linewidth=1, label="weights + activations")
    for panel in (panels[0], panels[2]):
        panel.legend(frameon=False, fontsize=9)
    for panel in panels:
        panel.grid(alpha=0.25)
