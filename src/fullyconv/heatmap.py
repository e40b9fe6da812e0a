"""A photograph in, the map of every class out, and a picture, boxes and files of it.

fullyconv.heatmap(fcn, "coffee.png", classes="espresso").save("coffee-heat.png")
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fullyconv import detections, map_files, render
from fullyconv.detections import Box, Detection, Found
from fullyconv.errors import GeometryError, LabelError
from fullyconv.labels import find_class
from fullyconv.patches import filled
from fullyconv.placement import Placement
from fullyconv.preprocessing import Mode
from fullyconv.printable import inline
from fullyconv.reading import Labels, Reader, Values

if TYPE_CHECKING:
    from fullyconv.convert import FullyConv
    from fullyconv.geometry import Grid

_SHOWN = 5  # how many classes `top` lists when none were asked for
_NICE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)  # upper ends of the colour bar for probabilities
_PANELS = 12
_OVERLAP = 0.2

Peak = Detection  # what `top` lists


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """What a network sees where: the value of every class in every window of a photograph.

    A notebook shows it as a picture. Cells whose windows reach beyond the photograph are left out.

    Args:
        map: Values `(rows, columns, classes)`, float32.
        grid: Where the cells are, in pixels of the photograph.
        image: The photograph `(height, width, channels)`, 0..255, as the network took it before preprocessing.
        classes: Indices of the classes that are drawn; `None` for the one with the highest value, or with a threshold
            for those that are detected.
        labels: Names of the classes, if there are any.
        kind: `"probability"`, `"logit"` where these were asked for, or `"score"` where the values are neither.
        notes: What was assumed, and what was changed in the picture; one sentence each.
        name: What the picture is called: the name of its file, if it had one.
        threshold: Value from which on detections are drawn; `None` draws the best window.
        per_class: Whether detections of different classes leave each other alone.
        noun: What a channel of the map is: `"class"`, or `"channel"` behind `until`.
    """

    map: np.ndarray
    grid: Grid
    image: np.ndarray
    classes: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None
    kind: str = "probability"
    notes: tuple[str, ...] = ()
    name: str = ""
    threshold: float | None = None
    per_class: bool = False
    noun: str = "class"

    @property
    def top(self) -> list[Detection]:
        """The best window of each class drawn, highest first; of the five highest classes where none were chosen."""
        highest = self.map.max(axis=(0, 1))
        chosen = self.classes if self.classes is not None else np.argsort(-highest, kind="stable")[:_SHOWN]
        return sorted((self._best(int(c)) for c in chosen), key=lambda best: -best.probability)

    def detections(
        self, threshold: float = 0.5, overlap: float = _OVERLAP, *, per_class: bool | None = None
    ) -> list[Detection]:
        """The windows in which a class has a local maximum, without those that overlap a better one.

        Args:
            threshold: The least value, in the map's own values.
            overlap: Largest intersection over union of two windows that are both kept, 0..1.
            per_class: Whether windows of different classes leave each other alone; `None` takes what the heat map was
                made with, by default that one place has one name.

        Returns:
            Detections of the classes chosen, or of all of them, highest first.

        Raises:
            GeometryError: A threshold that is no number, or an overlap outside 0..1.

        Example:
            >>> from fullyconv.geometry import Axis, Grid
            >>> grid = Grid((Axis(8).slide(8, 4), Axis(8).slide(8, 4)))
            >>> values = np.array([[[0.1], [0.9], [0.2], [0.7]]])
            >>> found = Heatmap(values, grid, np.zeros((8, 20, 3))).detections()
            >>> [(d.probability, d.box) for d in found]
            [(0.9, ((0, 8), (4, 12))), (0.7, ((0, 8), (12, 20)))]
        """
        _check_numbers(threshold, overlap)
        chosen = np.arange(self.map.shape[-1]) if self.classes is None else np.array(self.classes)
        found = detections.local_maxima(self.map[..., chosen], threshold)
        boxes = np.array([_corners(self.placement.box((int(i), int(j)))) for i, j, _ in found]).reshape(-1, 4)
        apart = self.per_class if per_class is None else per_class
        groups = found[:, 2] if apart else np.zeros(len(found))
        kept = found[detections.suppress(boxes, groups, overlap)]
        return [self._detection(int(chosen[k]), (int(i), int(j))) for i, j, k in kept]

    def label(self, class_index: int) -> str:
        """The name of a class, or `"class 7"` where there are no names; behind `until`, `"channel 7"`."""
        return self.labels[class_index] if self.labels else f"{self.noun} {class_index}"

    def upsampled(self, class_index: int) -> np.ndarray:
        """A class's values at every pixel of the photograph, for display: `(height, width)`, float32.

        They are interpolated bilinearly between the centres of the windows, and are no answers of the network. NaN
        where no cell is near: more than half a stride beyond the outermost centres.
        """
        size, axes = self.image.shape[:2], self.placement.axes
        ends = [axis.covered(n) for axis, n in zip(axes, size, strict=True)]

        def patch(*place: slice) -> np.ndarray:
            at = [np.arange(part.start, part.stop) + 0.5 for part in place]
            values = render.interpolate(self.map[..., class_index], axes, *at)
            near = [(positions >= low) & (positions < high) for positions, (low, high) in zip(at, ends, strict=True)]
            values[~(near[0][:, None] & near[1])] = np.nan
            return values

        return filled(size, np.float32, patch)

    def picture(self) -> Image.Image:
        """The photograph with the drawn classes over it, a panel each, as a Pillow image."""
        found = None if self.threshold is None else self.detections(self.threshold)
        shown = self._shown(found)
        panels = [self._panel(self._best(c), found) for c in shown[:_PANELS]]
        return render.draw(self.image, panels, self.placement.axes, self._scale(panels), self._footer(len(shown)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture: a PNG, or whatever the suffix says (.jpg, .webp).

        Raises:
            OutputError: It cannot be written there.
        """
        render.save(self.picture(), path)

    def save_map(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the values of all classes, with where the cells lie: `.npz`, `.tif` or `.zarr`.

        What is in the file beside the values is what `fullyconv.map_files` lists: window, stride, offset, receptive
        field, exactness, labels, kind, name and size of the picture, and the notes.

        Args:
            path: The file, which replaces one that is there; its ending says which form.
            overwrite: Whether a Zarr array, which is a folder, replaces one that this method wrote.

        Raises:
            OutputError: The ending is unknown, its package is missing, or it cannot be written there.
        """
        facts = map_files.grid_facts(self.grid) | {
            "labels": list(self.labels or ()),
            "kind": self.kind,
            "picture": self.name,
            "picture_size": list(self.image.shape[:2]),
            "notes": list(self.notes),
        }
        map_files.save_map(path, self.map, facts, overwrite=overwrite)

    def save_detections(self, path: str | os.PathLike[str], threshold: float = 0.5, **options: Any) -> None:
        """Write the detections: `.csv`, `.json`, or `.geojson` with polygons in pixels.

        Args:
            path: The file; its ending says which form.
            threshold: The least value.
            **options: The others of `detections`.

        Raises:
            OutputError: The ending is unknown, or it cannot be written there.
        """
        detections.save_detections(path, [self.found(threshold, **options)])

    def found(self, threshold: float = 0.5, **options: Any) -> Found:
        """The detections together with the picture they are in, as `detections.save_detections` takes them."""
        found = tuple(self.detections(threshold, **options))
        return Found(self.name, self.placement.size, self.kind, threshold, found)

    @property
    def placement(self) -> Placement:
        """Where the cells lie on the photograph."""
        return Placement(self.grid, self.map.shape[:2], self.image.shape[:2])

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.picture().save(buffer, "png")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        listed = self.top if self.threshold is None else self.detections(self.threshold)
        rows = "".join(
            f"<tr><td>{html.escape(d.label)}</td><td>{d.probability:.3f}</td><td>{_in_words(d.box)}</td></tr>"
            for d in listed
        )
        encoded = base64.b64encode(self._repr_png_()).decode()
        alternative = html.escape(f"{self!r}", quote=True)
        notes = "<br>".join(map(html.escape, self.notes))
        return (
            f'<img src="data:image/png;base64,{encoded}" alt="{alternative}">'
            f"<table><tr><th>{self.noun}</th><th>{self.kind}</th><th>{self.placement.noun}</th></tr>{rows}</table>"
            f"<p>{notes}</p>"
        )

    def __repr__(self) -> str:
        rows, columns, classes = self.map.shape
        best = self.top[0]
        return (
            f"<Heatmap of {rows} x {columns} cells, {classes} classes; "
            f"best: {inline(best.label)} {best.probability:.3g} in cell {best.cell}>"
        )

    def _best(self, class_index: int) -> Detection:
        values = self.map[..., class_index]
        row, column = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
        return self._detection(class_index, (row, column))

    def _detection(self, class_index: int, cell: tuple[int, int]) -> Detection:
        value = float(self.map[(*cell, class_index)])
        return Detection(class_index, self.label(class_index), value, cell, self.placement.box(cell))

    def _shown(self, found: Sequence[Detection] | None) -> Sequence[int]:
        """The classes that get a panel: those chosen, else those detected, else the best."""
        if self.classes is not None:
            return self.classes
        return list(dict.fromkeys(d.class_index for d in found or ())) or [self.top[0].class_index]

    def _panel(self, best: Detection, found: Sequence[Detection] | None) -> render.Panel:
        """A class's panel, its best window marked, or its detections where there is a threshold."""
        values, noun = self.map[..., best.class_index], self.placement.noun
        mine = [best] if found is None else [d for d in found if d.class_index == best.class_index]
        marks = tuple(render.Mark(d.box, self._number(d.probability)) for d in mine)
        remark = f"best {noun}: {self.kind} {self._number(best.probability)}"
        if found is not None and mine:
            remark = f"{len(mine)} {noun}{'s' * (len(mine) != 1)} of at least {self.threshold:g}"
        elif self.threshold is not None:
            below = best.probability < self.threshold
            remark += f", below {self.threshold:g}" if below else ", behind another class"
        return render.Panel(values, best.label, remark, marks)

    def _number(self, value: float) -> str:
        if self.kind == "probability":
            return "below 0.001" if value < 0.001 else f"{value:.3f}"
        return f"{value:.2f}"

    def _scale(self, panels: Sequence[render.Panel]) -> render.Scale:
        values = np.stack([panel.values for panel in panels])
        low, high = float(values.min()), float(values.max())
        if self.kind == "probability":
            return render.Scale(0.0, next((n for n in _NICE if high <= n), 1.0), self.kind)
        return render.Scale(low, high if high > low else low + 1, self.kind)

    def _footer(self, classes: int) -> list[str]:
        height, width = self.placement.size
        lines = [f"{self.name or 'Picture'}, {width} x {height} pixels: {self.placement.in_words()}."]
        lines += self.placement.legend()
        if self.threshold is not None:
            rivals = f"those of one {self.noun} that overlap" if self.per_class else "those that overlap"
            lines.append(f"Boxes: local maxima of at least {self.threshold:g}; of {rivals}, the best.")
        return lines + ([f"The first {_PANELS} of {classes} classes are drawn."] if classes > _PANELS else [])


def heatmap(
    fcn: FullyConv,
    image: Any,
    classes: int | str | Sequence[int | str] | None = None,
    preprocess: Mode = None,
    labels: Labels = None,
    *,
    values: Values = None,
    threshold: float | None = None,
    per_class: bool = False,
) -> Heatmap:
    """What a fully convolutional network sees where in a photograph.

    Every cell is the classifier's answer for one window of the photograph (exactly so where `fcn.grid.exactness` is
    `"exact"`). Cells whose windows do not lie inside the photograph are left out.

    Args:
        fcn: The converted network.
        image: A path, a Pillow image, or an array `(height, width)` or `(height, width, channels)`, 0..255.
        classes: Which classes to draw: an index, a name (exact, in any case, or a part that only one has), or several.
            `None` draws the class with the highest value.
        preprocess: How pixels are prepared; see `fullyconv.preprocessing`. `None` takes what the model file says, and
            leaves the pixels as they are where it says nothing, as it should be where the network scales them itself.
        labels: Names of the classes, or a file of them; `None` takes those of the model file.
        values: `"logits"` for the values before the last activation, `"softmax"` for the softmax of these; `None` for
            what the network returns.
        threshold: Value from which on detections are drawn; `None` draws the best window.
        per_class: Whether detections of different classes leave each other alone. By default one place has one name.

    Returns:
        A `Heatmap`, with `.map`, `.grid`, `.image`, `.top`, `.detections()` and `.save(path)`; `.notes` says what was
        assumed.

    Raises:
        ImageError: The picture cannot be read, or does not fit the network.
        InputTooSmallError: It is smaller than the window.
        LabelError: No class has the name, or the number of names is wrong.
    """
    return Maker(fcn, classes, preprocess, labels, values=values, threshold=threshold, per_class=per_class)(image)


class Maker:
    """A network and how its heat maps are made, which stays the same from picture to picture.

    Its arguments are those of `heatmap`; called with an image, it returns a `Heatmap`.
    """

    def __init__(
        self,
        fcn: FullyConv,
        classes: int | str | Sequence[int | str] | None = None,
        preprocess: Mode = None,
        labels: Labels = None,
        *,
        values: Values = None,
        threshold: float | None = None,
        per_class: bool = False,
    ) -> None:
        self.read = Reader(fcn, preprocess, labels, values)
        self.classes, self.threshold, self.per_class = _several(classes), threshold, per_class
        self.noun = "channel" if fcn.options.get("until") else "class"
        _check_numbers(0.5 if threshold is None else threshold, 0)

    def __call__(self, image: Any, name: str | None = None) -> Heatmap:
        """The heat map of a picture, which is called by its file's name, or as is said."""
        found = self.read(image, name)
        count = found.values.shape[-1]
        chosen = self.classes and dict.fromkeys(find_class(wanted, found.labels, count) for wanted in self.classes)
        return Heatmap(
            found.values,
            self.read.grid,
            found.pixels,
            tuple(chosen) if chosen else None,
            found.labels,
            found.kind,
            found.notes,
            found.name,
            self.threshold,
            self.per_class,
            self.noun,
        )


def _several(classes: Any) -> list[int | str] | None:
    """The classes that were asked for, as a list."""
    if classes is None:
        return None
    several: list[Any] = [classes] if isinstance(classes, str) or not isinstance(classes, Iterable) else list(classes)
    if not several:
        raise LabelError("No class was named; leave classes out for the one with the highest value.")
    if not all(isinstance(each, str | int | np.integer) for each in several):
        raise LabelError(f"{classes!r} names no classes; give an index, a name, or a list of these.")
    return several


def _check_numbers(threshold: Any, overlap: Any) -> None:
    for name, value in (("threshold", threshold), ("overlap", overlap)):
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise GeometryError(f"The {name} {value!r} is no number; give one such as 0.5.")
    if not 0 <= overlap <= 1:
        raise GeometryError(f"The overlap {overlap:g} is no share of two windows; give one from 0 to 1.")


def _corners(box: Box) -> tuple[float, float, float, float]:
    (top, bottom), (left, right) = ((float(low), float(high)) for low, high in box)
    return top, left, bottom, right


def _in_words(box: Box) -> str:
    """A box as text."""
    (top, bottom), (left, right) = ((f"{float(end):g}" for end in side) for side in box)
    return f"rows {top} to {bottom}, columns {left} to {right}"
