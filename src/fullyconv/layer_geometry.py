"""What is known of the cells of a network's layers: as numbers, as a table, as JSON and as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any

from PIL import Image

from fullyconv import render
from fullyconv.errors import GeometryError, ImageError, InputTooSmallError
from fullyconv.field_picture import View, draw_field
from fullyconv.geometry import Axis, Interval, Number, plain
from fullyconv.images import read_image
from fullyconv.plan import aligned
from fullyconv.printable import inline
from fullyconv.rules.rule import describe_size

HEADING = ("layer", "class", "map", "stride", "offset", "field", "padding", "note")


@dataclass(frozen=True)
class Branch:
    """One of the maps that a layer merges.

    Args:
        name: Name of the layer it comes from.
        receptive_field: The half-open pixels that can influence its cell 0, per spatial axis.
    """

    name: str
    receptive_field: tuple[Interval, ...]


@dataclass(frozen=True)
class LayerGeometry:
    """Where the cells of one layer's output lie in the input, in pixels.

    Args:
        name: Name of the layer or operation.
        kind: Its class.
        size: Spatial size of its output at the window.
        axes: One `Axis` per spatial axis; empty where no position belongs to the output.
        branches: What it merges, where the receptive fields differ; its own is their union.
        remarks: What else there is to say, a phrase each.
        refused: Why nothing is known of its output, or nothing.
        flat: Whether its output is a rearranged map, such as a flattened one.
    """

    name: str
    kind: str
    size: tuple[int, ...] = ()
    axes: tuple[Axis, ...] = ()
    branches: tuple[Branch, ...] = ()
    remarks: tuple[str, ...] = ()
    refused: str = ""
    flat: bool = False

    @property
    def stride(self) -> tuple[Number, ...]:
        """Pixels from one cell to the next."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def offset(self) -> tuple[Number, ...]:
        """Where the box of cell 0 starts: as large as the stride, in the middle of the field; a window's at 0."""
        return tuple(axis.offset for axis in self.axes)

    @property
    def receptive_field(self) -> tuple[Interval, ...]:
        """Half-open interval of the pixels that can influence cell 0; negative positions are padding."""
        return tuple(axis.reach for axis in self.axes)

    @property
    def field_size(self) -> tuple[Number, ...]:
        """Pixels of the receptive field; infinite where a cell sees the whole image."""
        return tuple(high - low for low, high in self.receptive_field)

    @property
    def padding(self) -> tuple[Number, ...]:
        """Effective padding: how far the receptive field of cell 0 reaches beyond the first pixel.

        Negative where the field begins inside the image, behind a crop.
        """
        return tuple(-low for low, _ in self.receptive_field)

    @property
    def note(self) -> str:
        """Whether its field is a union, what else there is to say, or why nothing is known."""
        union = [_union(self.branches)] if self.branches else []
        return f"unknown: {self.refused}" if self.refused else "; ".join([*union, *self.remarks])

    def cells(self, size: Sequence[int]) -> tuple[int, ...]:
        """Number of cells for an image of `size` pixels, once the network is converted."""
        return tuple(axis.cells(n) for axis, n in zip(self.axes, size, strict=True))

    def cell_to_box(self, cell: Sequence[int], field: bool = False) -> tuple[Interval, ...]:
        """Half-open pixel intervals of a cell, one per axis: its own box, or with `field` its receptive field."""
        axes = [replace(axis, field=axis.reach) for axis in self.axes]
        return tuple(axis.cell_to_box(i, field) for axis, i in zip(axes, cell, strict=True))

    @property
    def row(self) -> tuple[str, ...]:
        """The layer as a row of the table."""
        if not self.axes:
            return (self.name, self.kind, "", "", "", "", "", self.note)
        columns = (self.stride, self.offset, self.field_size, self.padding)
        return (self.name, self.kind, describe_size(self.size), *map(_shown, columns), self.note)


@dataclass(frozen=True)
class Geometry:
    """The geometry of every layer of a network. `str()` is a table; `geometry["conv1"]` is a layer.

    Args:
        name: Name of the network.
        window: Spatial size of the input it was built for, in pixels.
        layers: A `LayerGeometry` for each call of the graph, in order.
    """

    name: str
    window: tuple[int, ...]
    layers: tuple[LayerGeometry, ...]

    @property
    def refused(self) -> tuple[LayerGeometry, ...]:
        """The layers of whose output nothing is known."""
        return tuple(layer for layer in self.layers if layer.refused)

    @property
    def last(self) -> LayerGeometry:
        """The last map of several cells, or else the last layer whose geometry is known."""
        maps = [layer for layer in self.layers if layer.axes]
        if not maps:
            raise GeometryError(f"{self.name!r} has no layer whose geometry is known.\nSee the reasons in its table.")
        return next((layer for layer in reversed(maps) if math.prod(layer.size) > 1 and not layer.flat), maps[-1])

    def __getitem__(self, name: str) -> LayerGeometry:
        """A layer by its name; of one that is called more than once, the last call."""
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            known = list(dict.fromkeys(layer.name for layer in self.layers))
            raise GeometryError(
                f"{self.name!r} has no layer named {name!r}.\n"
                f"Give one of: {inline(', '.join(known[:8]))}{' ...' if len(known) > 8 else ''}"
            )
        return found[-1]

    def picture(self, image: Any, layer: str | None = None, cell: Sequence[int] | None = None) -> Image.Image:
        """One cell of a layer on a photograph: its receptive field, its box, and the centres of all cells.

        Args:
            image: A path, a Pillow image, or an array `(height, width)` or `(height, width, channels)`, 0..255.
            layer: Name of the layer; by default the last map of several cells.
            cell: Row and column of the cell; by default the one in the middle.

        Returns:
            A Pillow image.

        Raises:
            GeometryError: there is no such layer or cell, or nothing is known of it.
            ImageError: the network reads no pictures, or the image cannot be read.
            InputTooSmallError: the image is smaller than the window.
        """
        chosen = self.last if layer is None else self[layer]
        if len(self.window) != 2:
            axes = "axis" if len(self.window) == 1 else "axes"
            raise ImageError(
                f"{self.name!r} has {len(self.window)} spatial {axes}, and cannot be drawn on a picture.\n"
                f"Read its geometry from the table."
            )
        if not chosen.axes:
            raise GeometryError(
                f"{chosen.name!r} in {self.name!r} cannot be drawn: it {chosen.refused or 'has no positions'}.\n"
                f"Give a layer before it, such as {self.last.name!r}."
            )
        name = Path(image).name if isinstance(image, str | os.PathLike) else "The picture"
        pixels = read_image(image, 3, notes=[])
        if any(n < least for n, least in zip(pixels.shape, self.window, strict=False)):
            raise InputTooSmallError(pixels.shape[:2], self.window)
        return draw_field(pixels, _view(chosen, pixels.shape[:2], cell, name))

    def save(
        self, path: str | os.PathLike[str], image: Any, layer: str | None = None, cell: Sequence[int] | None = None
    ) -> None:
        """Write the picture.

        Args:
            path: The file, such as `.png`.
            image: As for `picture`.
            layer: As for `picture`.
            cell: As for `picture`.

        Raises:
            OutputError: it cannot be written there.
        """
        render.save(self.picture(image, layer, cell), path)

    def as_json(self) -> dict[str, Any]:
        """The geometry as plain values, for JSON: fractions as floats, an end that there is none of as None."""
        layers = [_as_json(layer) for layer in self.layers]
        return {"model": self.name, "window": list(self.window), "layers": layers}

    def __str__(self) -> str:
        """The layers as a table."""
        return "\n".join(aligned(self.rows()))

    def rows(self) -> list[tuple[str, ...]]:
        """The table: its heading, and a row for each layer."""
        return [HEADING, *(layer.row for layer in self.layers)]

    def only(self, name: str) -> Geometry:
        """The geometry of one layer alone."""
        return replace(self, layers=(self[name],))


def _view(layer: LayerGeometry, size: Sequence[int], cell: Sequence[int] | None, name: str) -> View:
    """What to draw of a layer on a picture of this size."""
    counts = layer.cells(size)
    chosen: Any = tuple(n // 2 for n in counts) if cell is None else cell
    whole = isinstance(chosen, Sequence) and len(chosen) == 2 and all(isinstance(i, Integral) for i in chosen)
    if not whole or any(not 0 <= i < n for i, n in zip(chosen, counts, strict=True)):
        raise GeometryError(
            f"{layer.name!r} has no cell {chosen}: on {size[0]} x {size[1]} pixels it has {describe_size(counts)}.\n"
            f"Give its row and column, counted from 0."
        )
    box, field = _ends(layer.cell_to_box(chosen)), _ends(_seen(layer, chosen, size))
    centres = [_centres(axis, count) for axis, count in zip(layer.axes, counts, strict=True)]
    remark = f"field {_shown(layer.field_size)}, stride {_shown(layer.stride)}, padding {_shown(layer.padding)}"
    footer = _footer(layer, name, size, chosen)
    return View(layer.name, remark, (box[0], box[1]), (field[0], field[1]), (centres[0], centres[1]), footer)


def _seen(layer: LayerGeometry, cell: Sequence[int], size: Sequence[int]) -> list[Interval]:
    """The receptive field of a cell; of one behind a context, which does not pad, the part inside the picture."""
    field = layer.cell_to_box(cell, field=True)
    sides = zip(layer.axes, field, size, strict=True)
    return [(max(low, 0), min(high, n)) if axis.slides else (low, high) for axis, (low, high), n in sides]


def _ends(box: Sequence[Interval]) -> list[tuple[float, float]]:
    return [(float(low), float(high)) for low, high in box]


def _centres(axis: Axis, count: int) -> list[float]:
    """The middle of each cell's box, in pixels."""
    return [float(sum(axis.cell_to_box(i))) / 2 for i in range(count)]


def _footer(layer: LayerGeometry, name: str, size: Sequence[int], cell: Sequence[int]) -> tuple[str, ...]:
    """What the picture shows, in sentences."""
    cells, field = layer.cells(size), _seen(layer, cell, size)
    counted = f"{name}, {size[1]} x {size[0]} pixels: {cells[1]} x {cells[0]} cells of {layer.kind}."
    orange = "the window of cell" if all(axis.native == 1 for axis in layer.axes) else "cell"
    seen = f"Orange: {orange} ({cell[0]}, {cell[1]}). White: all it can see, {_in_words(field)}."
    beyond = any(low < 0 or high > n for (low, high), n in zip(field, size, strict=True))
    bounded = all(math.isfinite(low) for low, _ in field)
    return (counted, seen, *(["Plain: beyond the picture, where layers pad."] if beyond and bounded else []))


def _in_words(field: Sequence[Interval]) -> str:
    """A receptive field as rows and columns."""
    parts = []
    for name, (low, high) in zip(("rows", "columns"), field, strict=True):
        parts.append(f"{name} {low} to {plain(high - 1)}" if math.isfinite(low) else f"all {name}")
    return ", ".join(parts)


def _as_json(layer: LayerGeometry) -> dict[str, Any]:
    """A layer as plain values."""
    if layer.refused:
        return {"layer": layer.name, "class": layer.kind, "refused": layer.refused}
    found = {
        "layer": layer.name,
        "class": layer.kind,
        "map": list(layer.size),
        "stride": _numbers(layer.stride),
        "offset": _numbers(layer.offset),
        "receptive_field": [_numbers(ends) for ends in layer.receptive_field],
        "effective_padding": _numbers(layer.padding),
        "note": layer.note,
    }
    branches = [
        {"layer": branch.name, "receptive_field": [_numbers(ends) for ends in branch.receptive_field]}
        for branch in layer.branches
    ]
    return found | ({"union_of": branches} if branches else {})


def _numbers(values: Sequence[Number]) -> list[int | float | None]:
    """Numbers that JSON has."""
    return [None if math.isinf(n) else float(n) if isinstance(n, Fraction) else n for n in values]


def _union(branches: Sequence[Branch]) -> str:
    """What a union of fields is made of, in words."""
    fields = list(dict.fromkeys(branch.receptive_field for branch in branches))
    sizes = dict.fromkeys(_shown([high - low for low, high in field]) for field in fields)
    text = f"union of {', '.join(sizes)}"
    apart = [_spread([low + high for low, high in axis]) for axis in zip(*fields, strict=True)]
    return f"{text}; centres {_shown(apart)} apart" if any(apart) else text


def _spread(doubled: Sequence[Number]) -> Number:
    """How far apart centres are, of which the doubles are given."""
    finite = [Fraction(n) for n in doubled if math.isfinite(n)]
    return plain((max(finite) - min(finite)) / 2) if finite else 0


def _shown(values: Sequence[Number]) -> str:
    """One number for each axis as text; a single one where they are equal."""
    shown = ["all" if n in {math.inf, -math.inf} else str(n) for n in values]
    return shown[0] if len(set(shown)) == 1 else " x ".join(shown)
