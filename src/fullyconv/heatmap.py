"""A photograph in, the map of every class out, and a picture of it.

fullyconv.heatmap(fcn, "coffee.png", classes="espresso").save("coffee-heat.png")
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fullyconv import render
from fullyconv.errors import ImageError, LabelError
from fullyconv.images import read_image
from fullyconv.labels import find_class
from fullyconv.preprocessing import Mode, describe
from fullyconv.preprocessing import preprocess as prepare

if TYPE_CHECKING:
    from fullyconv.convert import FullyConv
    from fullyconv.geometry import Grid

_SHOWN = 5  # how many classes `top` lists when none were asked for
_NICE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # upper ends of the colour bar for probabilities
_PANELS = 12


@dataclass(frozen=True)
class Peak:
    """The window in which a class has its highest value.

    Args:
        class_index: Index of the class.
        label: Its name, or `"class 7"` where there are no names.
        probability: Its value there (a score where the map holds no probabilities).
        cell: The cell, `(row, column)`.
        box: The window's half-open pixels: `((top, bottom), (left, right))`.
    """

    class_index: int
    label: str
    probability: float
    cell: tuple[int, int]
    box: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """What a network sees where: the value of every class in every window of a photograph.

    A notebook shows it as a picture. Cells whose windows reach beyond the photograph are left out.

    Args:
        map: Values `(rows, columns, classes)`, float32.
        grid: Where the cells are, in pixels of the photograph.
        image: The photograph `(height, width, channels)`, 0..255, as the network took it before preprocessing.
        classes: Indices of the classes that are drawn, or `None` for the one with the highest value.
        labels: Names of the classes, if there are any.
        kind: `"probability"`, or `"score"` where the values are none (a linear head, or several sigmoid units).
        notes: What was assumed, and what was changed in the picture; one sentence each.
        name: Name of the picture's file, if it had one.
    """

    map: np.ndarray
    grid: Grid
    image: np.ndarray
    classes: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None
    kind: str = "probability"
    notes: tuple[str, ...] = ()
    name: str = ""

    @property
    def top(self) -> list[Peak]:
        """The best window of each class drawn, highest first; of the five highest classes where none were chosen."""
        highest = self.map.max(axis=(0, 1))
        chosen = self.classes if self.classes is not None else np.argsort(-highest, kind="stable")[:_SHOWN]
        return sorted((self._peak(int(c)) for c in chosen), key=lambda peak: -peak.probability)

    def label(self, class_index: int) -> str:
        """The name of a class, or `"class 7"` where there are no names."""
        return self.labels[class_index] if self.labels else f"class {class_index}"

    def picture(self) -> Image.Image:
        """The photograph with the drawn classes over it, a panel each, as a Pillow image."""
        peaks = self.top[:1] if self.classes is None else [self._peak(c) for c in self.classes]
        panels = [self._panel(peak) for peak in peaks[:_PANELS]]
        return render.draw(self.image, panels, self._axes(), self._scale(panels), self._footer(len(peaks)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture: a PNG, or whatever the suffix says (.jpg, .webp).

        Raises:
            OutputError: It cannot be written there.
        """
        render.save(self.picture(), path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.picture().save(buffer, "png")
        return buffer.getvalue()

    def __repr__(self) -> str:
        rows, columns, classes = self.map.shape
        best = self.top[0]
        return (
            f"<Heatmap of {rows} x {columns} cells, {classes} classes; "
            f"best: {best.label} {best.probability:.3g} in cell {best.cell}>"
        )

    def _peak(self, class_index: int) -> Peak:
        values = self.map[..., class_index]
        row, column = (int(i) for i in np.unravel_index(values.argmax(), values.shape))
        box = self._box((row, column))
        return Peak(class_index, self.label(class_index), float(values[row, column]), (row, column), box)

    def _box(self, cell: tuple[int, int]) -> tuple[Any, Any]:
        """A cell's pixels; those of the whole picture where one cell stands for all of it."""
        boxes, sides = self.grid.cell_to_box(cell), zip(self.grid.axes, self.image.shape, strict=False)
        low, high = (((0, n) if axis.whole else box) for box, (axis, n) in zip(boxes, sides, strict=False))
        return low, high

    @property
    def _noun(self) -> str:
        """What the pixels of a cell are: a window, a cell of the network's own map, or the picture."""
        if any(axis.whole for axis in self.grid.axes):
            return "picture"
        boxes = self._box((0, 0))
        return "window" if tuple(high - low for low, high in boxes) == self.grid.window else "cell"

    def _panel(self, peak: Peak) -> render.Panel:
        low = self.kind == "probability" and peak.probability < 0.001
        best = "below 0.001" if low else f"{peak.probability:.{3 if self.kind == 'probability' else 2}f}"
        remark = f"best {self._noun}: {self.kind} {best}"
        return render.Panel(self.map[..., peak.class_index], peak.label, remark, peak.box, best)

    def _axes(self) -> tuple[render.CellAxis, ...]:
        """Centres of the windows: half a window behind where each begins."""
        return tuple(
            render.CellAxis(float(low + high) / 2, float(high - low if axis.whole else axis.stride), count)
            for (low, high), axis, count in zip(self._box((0, 0)), self.grid.axes, self.map.shape, strict=False)
        )

    def _scale(self, panels: Sequence[render.Panel]) -> render.Scale:
        values = np.stack([panel.values for panel in panels])
        low, high = float(values.min()), float(values.max())
        if self.kind == "probability":
            return render.Scale(0.0, next((n for n in _NICE if high <= n), 1.0), self.kind)
        return render.Scale(low, high if high > low else low + 1, self.kind)

    def _footer(self, classes: int) -> list[str]:
        lines = [f"{self.name or 'Picture'}, {self.image.shape[1]} x {self.image.shape[0]} pixels: {self._cells()}."]
        if self._noun == "window":
            lines.append(
                "A value is drawn at its window's centre. "
                "Dark: no window that fits into the picture has its centre there."
            )
        elif self._noun == "cell":
            lines.append("Cells of the network's own map: each sees more of the picture than its square.")
        return lines + ([f"The first {_PANELS} of {classes} classes are drawn."] if classes > _PANELS else [])

    def _cells(self) -> str:
        """How many cells of which size there are, in words."""
        if self._noun == "picture":
            return "one answer for all of it"
        (rows, columns), (y, x), boxes = self.map.shape[:2], self.grid.stride, self._box((0, 0))
        height, width = (high - low for low, high in boxes)
        if rows * columns == 1:
            return f"one {self._noun} of {width} x {height}"
        return f"{columns} x {rows} {self._noun}s of {width} x {height}, one every {_pair(x, y)}"


def heatmap(
    fcn: FullyConv,
    image: Any,
    classes: int | str | Sequence[int | str] | None = None,
    preprocess: Mode = None,
    labels: Sequence[str] | None = None,
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
            leaves the pixels as they are where it says nothing.
        labels: Names of the classes; `None` takes those of the model file.

    Returns:
        A `Heatmap`, with `.map`, `.grid`, `.image`, `.top` and `.save(path)`; `.notes` says what was assumed.

    Raises:
        ImageError: The picture cannot be read, or does not fit the network.
        InputTooSmallError: It is smaller than the window.
        LabelError: No class has the name, or the number of names is wrong.
    """
    notes: list[str] = []
    grid = fcn.grid
    pixels = read_image(image, _channels(fcn), notes=notes)
    mode = preprocess if preprocess is not None else fcn.preprocess
    values = _predict(fcn, pixels, mode)
    rows, columns = grid.windows_inside(pixels.shape[:2])
    values = np.ascontiguousarray(values[:rows, :columns], np.float32)
    names = _names(labels if labels is not None else fcn.labels, values.shape[-1])
    notes.append(_preparation(mode, preprocess is None))
    name = Path(image).name if isinstance(image, str | os.PathLike) else ""
    chosen = _chosen(classes, names, values.shape[-1])
    return Heatmap(values, grid, pixels, chosen, names, _kind(fcn, values), tuple(notes), name)


def _channels(fcn: FullyConv) -> int:
    if len(fcn.grid.window) != 2:
        raise ImageError(
            f"A heat map needs a network for pictures, and this one has {len(fcn.grid.window)} spatial "
            f"{'axis' if len(fcn.grid.window) == 1 else 'axes'}; use fcn.predict."
        )
    shape = fcn.model.input_shape
    if not isinstance(shape, tuple):
        raise ImageError(f"A heat map needs a network with one input, and this one has {len(shape)}; use fcn.predict.")
    return int(shape[1] if fcn.data_format == "channels_first" else shape[-1])


def _predict(fcn: FullyConv, pixels: np.ndarray, mode: Mode) -> np.ndarray:
    """The map `(rows, columns, classes)` of one picture."""
    if fcn.data_format == "channels_first":
        batch = prepare(np.moveaxis(pixels, -1, 0)[None], mode, "channels_first")
        return np.moveaxis(np.asarray(fcn.predict(batch))[0], 0, -1)
    return np.asarray(fcn.predict(prepare(pixels[None], mode)))[0]


def _names(labels: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    """The names of the classes; one sigmoid unit may have two names, of which the second is meant."""
    if labels is None:
        return None
    if count == 1 and len(labels) == 2:
        return (str(labels[1]),)
    if len(labels) != count:
        raise LabelError(
            f"There are {len(labels)} labels for {count} classes; give one for each, in the model's order."
        )
    return tuple(map(str, labels))


def _chosen(classes: Any, names: Sequence[str] | None, count: int) -> tuple[int, ...] | None:
    if classes is None:
        return None
    several: list[Any] = [classes] if isinstance(classes, str | int | np.integer) else list(classes)
    if not several:
        raise LabelError("No class was named; leave classes out for the one with the highest value.")
    return tuple(dict.fromkeys(find_class(wanted, names, count) for wanted in several))


def _kind(fcn: FullyConv, values: np.ndarray) -> str:
    """Whether the values are probabilities: from 0 to 1, one unit or summing to 1, and no linear layer at the end."""
    activation = getattr((getattr(fcn.model, "layers", None) or [None])[-1], "activation", None)
    bounded = values.min() >= -1e-6 and values.max() <= 1 + 1e-4
    whole = values.shape[-1] == 1 or bool(np.abs(values.sum(-1) - 1).max() < 1e-2)
    return "probability" if bounded and whole and getattr(activation, "__name__", "") != "linear" else "score"


def _preparation(mode: Mode, taken_from_model: bool) -> str:
    if mode is None:
        return "No preprocessing was given, and the model names none: the pixels went in as they are, 0 to 255."
    return f"Preprocessing: {describe(mode)}{', as the model says' if taken_from_model else ''}."


def _pair(x: Any, y: Any) -> str:
    return f"{x} pixels" if x == y else f"{x} pixels across and {y} down"
