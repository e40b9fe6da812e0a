"""The parts of the page: a heading, what was measured in words and tables, and the figures with their controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fullyconv.colours import colour_table
from fullyconv.comparison import SURE, Comparison
from fullyconv.detections import Detection
from fullyconv.heatmap import Heatmap
from fullyconv.page import figures
from fullyconv.page.markup import Child, Node, node, table
from fullyconv.plan import Plan, reasons_in_words
from fullyconv.render import Scale, ticks
from fullyconv.report import MEANINGS, by
from fullyconv.units import in_units

if TYPE_CHECKING:
    from fullyconv.geometry import Grid

Work = tuple[float, float]

_NICE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Findings:
    """What a report is about.

    Args:
        plan: What each layer became.
        heatmap: The network's answer to the photograph.
        comparison: The answer beside the windows', or `None` where cells are no windows.
        work: Multiply-adds of one pass over the photograph and of all its windows, or `None` where they are not known.
    """

    plan: Plan
    heatmap: Heatmap
    comparison: Comparison | None = None
    work: Work | None = None

    @property
    def grid(self) -> Grid:
        """Where the cells lie."""
        return self.heatmap.grid

    @property
    def peaks(self) -> list[Detection]:
        """The best window of each class on the page, highest first."""
        return self.heatmap.top


def sections(found: Findings) -> dict[str, Node]:
    """The parts of the page in order, by their headings."""
    parts = {"What it sees": _heat(found), "Where it looks": _geometry(found)}
    if found.comparison is not None:
        parts["Beside windows cut out"] = _agreement(found, found.comparison)
        parts["How long it takes"] = _time(found, found.comparison)
    parts["What each layer became"] = _conversion(found)
    return {title: _section(title, parts[title]) for title in parts}


def anchor(title: str) -> str:
    """The address of a part on the page."""
    return title.lower().replace(" ", "-")


def _section(title: str, children: Sequence[Node]) -> Node:
    label = anchor(title)
    heading = node("h2", {"id": f"{label}-heading"}, title)
    return node("section", {"id": label, "aria-labelledby": f"{label}-heading"}, heading, *children)


def _paragraph(*children: Child, kind: str | None = None) -> Node:
    return node("p", {"class": kind}, *children)


def _region(label: str, child: Node, attributes: dict[str, object] | None = None) -> Node:
    """What scrolls where it is too large, by the keyboard too."""
    own: dict[str, object] = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": label}
    return node("div", own | (attributes or {}), child)


def _split(figure: Node, *controls: Node, below: Sequence[Node] = ()) -> Node:
    """A figure, and its controls beside it or, on a narrow window, below."""
    return node("div", {"class": "split"}, node("figure", {}, figure, *below), node("div", {}, *controls))


# ------------------------------------------------------------------------------------------------------------ summary


def summary(found: Findings) -> Node:
    """The figures that matter most, each with a word beside it."""
    facts = [node("div", {}, node("dt", {}, name), _fact(value, remark)) for name, value, remark in _facts(found)]
    return node("dl", {"class": "facts"}, *facts)


def _fact(value: str, remark: str) -> Node:
    return node("dd", {}, value, node("small", {}, remark))


def _facts(found: Findings) -> Iterator[tuple[str, str, str]]:
    best, grid = found.peaks[0], found.grid
    height, width = found.heatmap.image.shape[:2]
    yield "Best answer", best.label, f"{found.heatmap.kind} {number(best.probability)}"
    yield "Photograph", by((height, width)), "pixels, height x width"
    yield "Window", by(grid.window), f"one every {by(grid.stride)} pixels"
    yield "Cells", by(found.heatmap.map.shape[:2]), f"for {found.heatmap.map.shape[2]:,} classes"
    yield (
        "Exactness",
        grid.exactness,
        "every cell" if grid.exactness == "exact" else "equal at the window; elsewhere near",
    )
    if found.comparison is not None and found.comparison.same is not None:
        yield "Same class as cut windows", f"{found.comparison.agreement:.0%}", f"of {len(found.comparison.cells)}"
    if found.comparison is not None:
        yield "One pass", seconds(found.comparison.seconds), f"{found.comparison.speedup:.1f} times faster than cutting"


# ----------------------------------------------------------------------------------------------------------- heat map


def _heat(found: Findings) -> list[Node]:
    drawn, peaks = found.heatmap, found.peaks
    scale = _scale(drawn, peaks)
    figure = figures.heat(drawn, peaks, scale)
    captions = [_caption(drawn, peak, i > 0) for i, peak in enumerate(peaks)]
    below = [node("div", {"aria-live": "polite"}, *captions)]
    notes = [node("li", {}, note) for note in drawn.notes]
    return [
        _split(figure, _classes(drawn, peaks), _opacity(), _legend(scale), below=below),
        _paragraph(" ".join(drawn.placement.legend())),
        node("ul", {"class": "note"}, *notes),
    ]


def _scale(drawn: Heatmap, peaks: Sequence[Detection]) -> Scale:
    """One scale for all classes: from 0 to a round number for probabilities, else from the least to the greatest."""
    values = drawn.map[..., [peak.class_index for peak in peaks]]
    low, high = float(values.min()), float(values.max())
    if drawn.kind == "probability":
        return Scale(0.0, next((n for n in _NICE if high <= n), 1.0), drawn.kind)
    return Scale(low, high if high > low else low + 1, drawn.kind)


def _caption(drawn: Heatmap, peak: Detection, off: bool) -> Node:
    """The best window of a class in words: what the frame in the figure shows."""
    rows, columns = (f"{float(low):g} to {float(high):g}" for low, high in peak.box)
    text = f": {drawn.kind} {number(peak.probability)} in the {drawn.placement.noun} of rows {rows}, columns {columns}."
    attributes = {"data-class": peak.class_index, "class": "off" if off else None}
    return node("p", attributes, "In the frame: ", node("b", {}, peak.label), text)


def _classes(drawn: Heatmap, peaks: Sequence[Detection]) -> Node:
    choices = []
    for i, peak in enumerate(peaks):
        button = node("input", {"type": "radio", "name": "class", "value": peak.class_index, "checked": i == 0})
        best = node("span", {"class": "number"}, number(peak.probability))
        choices.append(node("label", {"class": "choice"}, button, node("span", {}, peak.label), best))
    legend = node("legend", {}, f"Class, and its best {drawn.kind}")
    return node("fieldset", {"class": "controls"}, legend, *choices)


def _opacity() -> Node:
    slider = {"type": "range", "id": "opacity", "min": 0, "max": 100, "value": 65}
    label = node("label", {"for": "opacity", "class": "title"}, "Opacity of the heat map")
    value = node("output", {"id": "percent", "for": "opacity"}, "65 %")
    return node("div", {"class": "controls"}, node("div", {"class": "slider"}, label, value), node("input", slider))


def _legend(scale: Scale) -> Node:
    colours = colour_table()[np.linspace(0, 255, 17).round().astype(int)]
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours.tolist())
    ends = ticks(scale.low, scale.high) if scale.name == "probability" else [scale.low, scale.high]
    return node(
        "div",
        {},
        node("div", {"class": "title"}, scale.name.capitalize()),
        node("div", {"class": "bar", "style": f"background: linear-gradient(90deg, {stops})"}),
        node("div", {"class": "ticks"}, *(node("span", {}, f"{value:.3g}") for value in ends)),
    )


# ----------------------------------------------------------------------------------------------------------- geometry


def _geometry(found: Findings) -> list[Node]:
    drawn, grid = found.heatmap, found.grid
    peak = found.peaks[0]
    parts = node(
        "fieldset",
        {},
        node("legend", {}, "Drawn on the photograph"),
        *_parts(drawn),
    )
    cell = f"The cell in row {peak.cell[0]}, column {peak.cell[1]} of the map, where {peak.label} is highest."
    cell += "" if figures.shows_field(drawn, peak) else " Its field goes on beyond the figure."
    rows = [
        ("Window", by(grid.window)),
        ("Stride", by(grid.stride)),
        ("Offset", by(grid.offset)),
        ("Receptive field", by(tuple(high - low for low, high in grid.receptive_field))),
        ("Cells inside", by(drawn.map.shape[:2])),
    ]
    numbers = table(("Pixels", "height x width"), rows, "The geometry of the map, in pixels", 1)
    return [
        _split(figures.geometry(drawn, peak), parts, numbers, below=[_paragraph(cell, kind="note")]),
        _paragraph(_about_field(grid)),
    ]


def _parts(drawn: Heatmap) -> Iterator[Node]:
    noun, every = drawn.placement.noun, figures.spacing(drawn.placement.axes)
    thinned = "" if every == 1 else f" (one of {every} each way)"
    names = {
        "window": f"{noun.capitalize()} of the cell",
        "field": "Receptive field: every pixel that can matter to it",
        "lattice": f"Centre of each {noun}{thinned}",
        "stride": "Stride: from a cell to the next",
    }
    colours = {"window": "window", "field": "field", "lattice": "centre dot", "stride": "stride"}
    for part, name in names.items():
        line = node("path", {"class": colours[part], "d": "M3 6.4h18" if part != "lattice" else "M12 6.4h0"})
        swatch = node("svg", {"class": "swatch", "viewBox": "0 0 24 12.8", "aria-hidden": "true"}, line)
        box = node("input", {"type": "checkbox", "name": "part", "value": part, "checked": True})
        yield node("label", {"class": "choice"}, box, node("span", {}, name), swatch)


def _about_field(grid: Grid) -> str:
    """How the receptive field and the window differ, and what that means."""
    if grid.exactness == "exact":
        return "No layer pads: the receptive field lies inside the window."
    return (
        "The receptive field reaches beyond the window. On a window cut out, the classifier sees padding there; in the "
        "photograph the network sees the neighbouring pixels. Hatched: beyond the photograph, where both see padding."
    )


# ---------------------------------------------------------------------------------------------------------- agreement


def _agreement(found: Findings, compared: Comparison) -> list[Node]:
    drawn, grid = found.heatmap, found.grid
    numbers = table(("Measured on", "value"), _measured(compared, drawn.kind), "Agreement with windows cut out", 1)
    figure = figures.agreement(drawn, compared)
    legend = "A dot: both name the same class. A cross: they do not."
    return [
        _paragraph(
            f"Each window of {by(grid.window)} pixels was cut out and classified by the classifier itself, and its "
            f"answer laid beside the cell's. {_about_agreement(grid)}"
        ),
        _split(figure, numbers, below=[_paragraph(legend, kind="note")]) if compared.same is not None else numbers,
    ]


def _measured(compared: Comparison, kind: str) -> Iterator[tuple[str, str]]:
    count = len(compared.cells)
    if count == compared.windows:
        yield "Windows compared", f"{count:,}"
    else:
        yield "Windows compared, drawn at random", f"{count:,} of {compared.windows:,}"
    if compared.same is not None:
        yield "Both name the same class", f"{compared.same.sum():,} of {count:,} ({compared.same.mean():.0%})"
    if compared.same is not None and compared.sure is not None:
        sure = compared.sure
        yield f"… where the classifier is sure (above {SURE})", f"{compared.same[sure].sum():,} of {sure.sum():,}"
    yield f"Largest difference of a {kind}: median", number(float(np.median(compared.difference)))
    yield "… mean", number(float(compared.difference.mean()))
    yield "… greatest", number(float(compared.difference.max()))


def _about_agreement(grid: Grid) -> str:
    meant = f"This network is {grid.exactness}: {MEANINGS[grid.exactness]}."
    if grid.exactness == "exact":
        return f"{meant} The differences below are rounding."
    return f"{meant} Neither is wrong; they need not be the same. The reasons: {reasons_in_words(grid)}."


# --------------------------------------------------------------------------------------------------------------- time


def _time(found: Findings, compared: Comparison) -> list[Node]:
    windows = f"{compared.windows:,} windows cut out, in batches"
    work = found.work or (None, None)
    rows = [
        ("One pass", seconds(compared.seconds), _in_units(work[0]), seconds(compared.seconds / compared.windows)),
        (windows, seconds(compared.cut_seconds), _in_units(work[1]), seconds(compared.cut_seconds / compared.windows)),
    ]
    heading = ("Way", "time", "multiply-adds", "time for each window")
    bars = _bars("Time", compared.seconds, compared.cut_seconds)
    bars += _bars("Multiply-adds", *found.work) if found.work else []
    race = node("div", {"class": "race", "aria-hidden": "true"}, *bars)
    numbers = _region("Times", table(heading, rows, "Time and work of both ways", 1))
    return [
        _paragraph(_about_time(compared, found.work)),
        race,
        numbers,
        _paragraph(_about_timing(compared), kind="note"),
    ]


def _bars(what: str, one: float, cut: float) -> list[Node]:
    """Two bars on one scale, for those who see them; the table below says the same."""
    drawn = []
    for name, value, kind in (("one pass", one, "pass"), ("windows", cut, None)):
        width = {"class": kind, "style": f"width: {100 * value / max(one, cut):.2f}%"}
        drawn += [node("span", {}, f"{what}, {name}"), node("i", width)]
    return drawn


def _in_units(count: float | None) -> str:
    return "not counted" if count is None else in_units(count)


def _about_time(compared: Comparison, work: Work | None) -> str:
    text = f"One pass over the photograph is {compared.speedup:.1f} times faster than cutting its windows out."
    if work is None:
        return text
    limit = work[1] / work[0]
    text += f" It takes {limit:.1f} times fewer multiply-adds, which would be the gain if both ran at one pace: "
    if compared.speedup > limit:
        return f"{text}one large image ran at a better pace than batches of windows."
    return f"{text}{compared.speedup / limit:.0%} of it is reached."


def _about_timing(compared: Comparison) -> str:
    text = f"Medians of passes and of batches of {compared.batch} windows, run in turn."
    count = len(compared.cells)
    return text if count == compared.windows else f"{text} {count:,} windows were cut; their time stands for all."


# --------------------------------------------------------------------------------------------------------- conversion


def _conversion(found: Findings) -> list[Node]:
    steps = found.plan.steps
    kept = [step.result.startswith(step.source) for step in steps]
    rows = [(step.name, step.source, step.result, by(step.output_shape)) for step in steps]
    layers = table(("Layer", "class", "becomes", "at the window"), rows, "What each layer became")
    for same, row in zip(kept, layers[-1], strict=True):
        row.set("class", "same" if same else "new")
    box = node("input", {"type": "checkbox", "id": "changed"})
    only = f"Only the {len(kept) - sum(kept)} of {len(kept)} layers that change"
    return [
        _paragraph(f"{found.plan.exactness.capitalize()}: {MEANINGS[found.plan.exactness]}."),
        node("label", {"class": "choice controls"}, box, node("span", {}, only)),
        _region("Layers", layers, {"id": "layers", "class": "scroll tall"}),
        node("ul", {"class": "note"}, *(node("li", {}, note) for note in found.plan.notes)),
    ]


# ------------------------------------------------------------------------------------------------------------ numbers


def number(value: float) -> str:
    """A value with three digits: 0.943, or 2.1e-07 where it is next to nothing."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:.1e}"


def seconds(value: float) -> str:
    """A time: 1.24 s, 35.1 ms, 420 µs."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"
