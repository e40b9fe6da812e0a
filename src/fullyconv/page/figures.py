"""What is drawn on the photograph, as SVG in its pixels: heat maps, geometry, and where the two ways agree.

The photograph is in the page once, as the element `photo`; every figure uses it. Lines and dots keep their thickness
at any size of the figure, and no text is inside a figure, where it would shrink on a narrow window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fullyconv.comparison import Comparison
from fullyconv.detections import Detection
from fullyconv.heatmap import Heatmap
from fullyconv.page import embedded
from fullyconv.page.markup import Node, node
from fullyconv.render import CellAxis, Scale

Box = Sequence[tuple[float, float]]

_DOTS = 4000  # more centres than this are thinned out
_BEYOND = 0.3  # how far a figure shows what lies beyond the photograph, in parts of its longer side


@dataclass(frozen=True)
class View:
    """The part of the plane a figure shows, in pixels of the photograph: its left, top, width and height."""

    left: float
    top: float
    width: float
    height: float

    @classmethod
    def of(cls, box: Box) -> View:
        """The view of a box."""
        (top, bottom), (left, right) = box
        return cls(float(left), float(top), float(right - left), float(bottom - top))

    def __str__(self) -> str:
        return " ".join(f"{n:g}" for n in (self.left, self.top, self.width, self.height))


def definitions(image: np.ndarray) -> Node:
    """What the figures share: the photograph, and the hatching of what lies beyond it."""
    height, width = image.shape[:2]
    side = f"{max(height, width) / 60:g}"
    photo = {"id": "photo", "href": embedded.photograph(image), "width": width, "height": height}
    hatch = {"id": "hatch", "width": side, "height": side, "patternUnits": "userSpaceOnUse"}
    line = node("path", {"d": f"M0 0V{side}", "class": "hatch"})
    turned = node("pattern", hatch | {"patternTransform": "rotate(45)"}, line)
    inside = node("defs", {}, node("image", photo | {"preserveAspectRatio": "none"}), turned)
    return node("svg", {"class": "unseen", "aria-hidden": "true"}, inside)


def heat(heatmap: Heatmap, peaks: Sequence[Detection], scale: Scale) -> Node:
    """The photograph under the heat map of each class, of which the first is shown."""
    around = [_around(heatmap, end) for end in (CellAxis.covered, CellAxis.seen)]
    classes = [_class(heatmap, peak, scale, i > 0) for i, peak in enumerate(peaks)]
    label = "The photograph with the values of one class over it, in colours, and its best window in a frame."
    return _figure(View.of(_frame(heatmap)), label, _photo("muted"), *around, *classes)


def _around(heatmap: Heatmap, end: Callable[[CellAxis, int], tuple[float, float]]) -> Node:
    """What lies outside the centres of the windows, or outside the windows, darkened."""
    box = [end(axis, n) for axis, n in zip(heatmap.placement.axes, heatmap.placement.size, strict=True)]
    path = _path(_frame(heatmap)) + _path(box)
    return node("path", {"class": f"outside {end.__name__}", "d": path, "fill-rule": "evenodd"})


def _class(heatmap: Heatmap, peak: Detection, scale: Scale, off: bool) -> Node:
    size, axes = heatmap.placement.size, heatmap.placement.axes
    view = View.of([axis.covered(n) for axis, n in zip(axes, size, strict=True)])
    place = {"x": f"{view.left:g}", "y": f"{view.top:g}", "width": f"{view.width:g}", "height": f"{view.height:g}"}
    picture = embedded.heat(heatmap.map[..., peak.class_index], axes, size, scale)
    drawn = node("image", {"class": "heat", "href": picture, "preserveAspectRatio": "none"} | place)
    box = node("path", {"class": "window", "d": _path(peak.box)})
    halo = node("path", {"class": "halo", "d": _path(peak.box)})
    return node("g", {"data-class": peak.class_index, "class": "off" if off else None}, drawn, halo, box)


def geometry(heatmap: Heatmap, peak: Detection) -> Node:
    """The window of a cell, its receptive field, and the centres of all windows."""
    field, shown = _field(heatmap, peak), _shown(heatmap, peak)
    seen = _path([(max(low, first), min(high, last)) for (low, high), (first, last) in zip(field, shown, strict=True)])
    beyond = {
        "class": "padding",
        "d": seen + _path(_frame(heatmap)),
        "fill-rule": "evenodd",
        "clip-path": "url(#field)",
    }
    label = (
        "The photograph with the window of the best cell, the receptive field of that cell, and a dot at the centre of "
        "every window."
    )
    axes = heatmap.placement.axes
    return _figure(
        View.of(shown),
        label,
        node("clipPath", {"id": "field"}, node("path", {"d": seen})),
        _photo("dimmed"),
        node("g", {"data-part": "field"}, node("path", beyond), *_framed("field", seen)),
        node("g", {"data-part": "lattice"}, *_dots(_centres(axes), "halo dot", "centre dot")),
        node("g", {"data-part": "window"}, *_framed("window", _path(peak.box))),
        node("g", {"data-part": "stride"}, *_framed("stride", _steps(axes, peak.cell))),
    )


def shows_field(heatmap: Heatmap, peak: Detection) -> bool:
    """Whether the whole receptive field is in the figure of the geometry."""
    both = zip(_field(heatmap, peak), _shown(heatmap, peak), strict=True)
    return all(first <= low and high <= last for (low, high), (first, last) in both)


def _field(heatmap: Heatmap, peak: Detection) -> Box:
    return [(float(low), float(high)) for low, high in heatmap.grid.cell_to_box(peak.cell, field=True)]


def _frame(heatmap: Heatmap) -> Box:
    """The photograph itself."""
    return [(0.0, float(n)) for n in heatmap.placement.size]


def _shown(heatmap: Heatmap, peak: Detection) -> Box:
    """The photograph and what a field reaches beyond it, as far as a figure shows that."""
    margin = _BEYOND * max(heatmap.placement.size)
    both = zip(_field(heatmap, peak), heatmap.placement.size, strict=True)
    return [(max(-margin, min(0.0, low)), min(n + margin, max(float(n), high))) for (low, high), n in both]


def agreement(heatmap: Heatmap, comparison: Comparison) -> Node:
    """A dot at the centre of each window for which both ways name the same class, a cross where they do not."""
    axes = heatmap.placement.axes
    rows, columns = (a.first + a.step * comparison.cells[:, i] for i, a in enumerate(axes))
    same = comparison.same if comparison.same is not None else np.ones(len(rows), bool)
    points = np.stack([rows, columns], -1)
    arm = min(0.25 * min(axis.step for axis in axes), 0.014 * max(heatmap.placement.size))
    crosses = "".join(_cross(y, x, arm) for y, x in points[~same])
    label = (
        f"The photograph with {same.sum()} dots where both name the same class and {(~same).sum()} crosses elsewhere."
    )
    drawn = [*_dots(points[same], "halo dot", "same dot"), *_framed("other", crosses)]
    return _figure(View.of(_frame(heatmap)), label, _photo("dimmed"), *drawn)


def _figure(view: View, label: str, *children: Node) -> Node:
    ratio = {"style": f"aspect-ratio: {view.width:g} / {view.height:g}"}
    return node("svg", {"viewBox": view, "role": "img", "aria-label": label} | ratio, *children)


def _photo(kind: str) -> Node:
    return node("use", {"href": "#photo", "class": kind})


def _framed(kind: str, path: str) -> list[Node]:
    """A line on a dark one that is wider, so that it shows on any background."""
    return [node("path", {"class": "halo", "d": path}), node("path", {"class": kind, "d": path})]


def _path(box: Box) -> str:
    """The outline of a box."""
    view = View.of(box)
    return f"M{view.left:g} {view.top:g}h{view.width:g}v{view.height:g}h{-view.width:g}z"


def _cross(y: float, x: float, arm: float) -> str:
    a = f"{arm:g}"
    b = f"{2 * arm:g}"
    return f"M{x - arm:g} {y - arm:g}l{b} {b}m-{b} 0l{b} -{b}m-{a} {a}"


def _dots(points: np.ndarray, *kinds: str) -> list[Node]:
    """Dots: lines without length, whose round ends are drawn."""
    path = "".join(f"M{x:g} {y:g}h0" for y, x in points)
    return [node("path", {"class": kind, "d": path}) for kind in kinds]


def _centres(axes: Sequence[CellAxis]) -> np.ndarray:
    """The centres of the windows, `(count, 2)`; every so many of them where there are too many to see."""
    every = spacing(axes)
    rows, columns = (axis.first + axis.step * np.arange(0, axis.count, every) for axis in axes)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def spacing(axes: Sequence[CellAxis]) -> int:
    """Of how many centres along each axis one is drawn."""
    return max(1, math.ceil(math.sqrt(math.prod(axis.count for axis in axes) / _DOTS)))


def _steps(axes: Sequence[CellAxis], cell: Sequence[int]) -> str:
    """A line from a cell's centre to the next one along each axis."""
    (y, dy), (x, dx) = (_step(axis, i) for axis, i in zip(axes, cell, strict=True))
    return f"M{x:g} {y:g}h{dx:g}M{x:g} {y:g}v{dy:g}"


def _step(axis: CellAxis, index: int) -> tuple[float, float]:
    """A cell's centre, and how far it is to the next cell, or at the end to the one before."""
    way = 0 if axis.count == 1 else 1 if index + 1 < axis.count else -1
    return axis.first + axis.step * index, way * axis.step
