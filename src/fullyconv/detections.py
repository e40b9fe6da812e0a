"""From a heat map to boxes: the windows in which a class has a local maximum, and files of them.

A detection is a window, so all boxes of one network have one size. What lies in it may be smaller or larger.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from fullyconv.errors import OutputError
from fullyconv.files import written_whole
from fullyconv.printable import cell

Box = tuple[tuple[float, float], tuple[float, float]]
SUFFIXES = (".csv", ".json", ".geojson")
_PIXELS = "Pixels of the picture, x to the right and y down from its top left corner; no place on earth."


@dataclass(frozen=True)
class Detection:
    """A window in which a class has a local maximum, or its highest value.

    Args:
        class_index: Index of the class.
        label: Its name, or `"class 7"` where there are no names.
        probability: Its value there (a score or a logit where the map holds no probabilities).
        cell: The cell, `(row, column)`.
        box: The window's half-open pixels: `((top, bottom), (left, right))`.
    """

    class_index: int
    label: str
    probability: float
    cell: tuple[int, int]
    box: Box


@dataclass(frozen=True)
class Found:
    """The detections in one picture.

    Args:
        picture: Name of its file.
        size: Its height and width in pixels.
        kind: What the values are: `"probability"`, `"score"` or `"logit"`.
        threshold: The least value that was detected.
        detections: The detections, highest first.
    """

    picture: str
    size: tuple[int, int]
    kind: str
    threshold: float
    detections: tuple[Detection, ...]


# -------------------------------------------------------------------------------------------------------- finding


def local_maxima(values: np.ndarray, threshold: float) -> np.ndarray:
    """Cells of a map that are at least `threshold` and no lower than their eight neighbours, best first.

    Where cells side by side have the same value, those nearest to their middle come first, so that the middle of a
    plateau stands for it.

    Args:
        values: A map `(rows, columns, classes)`.
        threshold: The least value.

    Returns:
        Indices `(n, 3)`: row, column and class.

    Example:
        >>> local_maxima(np.array([[[0.1], [0.9], [0.2], [0.7]]]), 0.5).tolist()
        [[0, 1, 0], [0, 3, 0]]
    """
    parts = [_maxima_of(values[..., k], int(k), threshold) for k in np.flatnonzero(values.max((0, 1)) >= threshold)]
    found = np.concatenate([np.empty((0, 5)), *parts])
    return found[np.lexsort((found[:, 4], -found[:, 3])), :3].astype(int)


def _maxima_of(values: np.ndarray, k: int, threshold: float) -> np.ndarray:
    """Row, column, class, value and distance from the middle of its plateau of each local maximum of one class."""
    maxima = (values >= threshold) & (values >= ndimage.maximum_filter(values, 3, mode="nearest"))
    plateaus, _ = ndimage.label(maxima, np.ones((3, 3)))
    rows, columns = np.nonzero(maxima)
    number = plateaus[rows, columns]
    sizes = np.bincount(number)
    middle = [(np.bincount(number, at) / np.maximum(sizes, 1))[number] for at in (rows, columns)]
    distance = np.hypot(rows - middle[0], columns - middle[1])
    return np.stack([rows, columns, np.full(len(rows), k), values[rows, columns], distance], axis=1)


def suppress(boxes: np.ndarray, groups: np.ndarray, overlap: float) -> list[int]:
    """Which boxes remain when each removes those behind it in its group that it overlaps by more than `overlap`.

    Args:
        boxes: Top, left, bottom, right of each, best first: `(n, 4)`.
        groups: A number for each; boxes of different groups do not remove each other.
        overlap: Largest intersection over union that is let through.

    Example:
        >>> suppress(np.array([[0, 0, 4, 4], [0, 1, 4, 5], [0, 9, 4, 13]]), np.zeros(3), 0.3)
        [0, 2]
    """
    kept: list[int] = []
    left = np.arange(len(boxes))
    while left.size:
        best, left = left[0], left[1:]
        kept.append(int(best))
        close = _intersection_over_union(boxes[best], boxes[left]) > overlap
        left = left[~(close & (groups[left] == groups[best]))]
    return kept


def _intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared)


# ---------------------------------------------------------------------------------------------------------- files


def save_detections(path: str | os.PathLike[str], found: Sequence[Found]) -> None:
    """Write detections: `.csv`, `.json`, or `.geojson`, whose polygons are in pixels of the picture.

    In a `.csv`, a name that a spreadsheet would take for a formula, since it begins with `=`, `+`, `-` or `@`, gets an
    apostrophe in front; drop it to have the name (`fullyconv.printable.cell` says which do).

    Args:
        path: The file; its ending says which form.
        found: The detections of one picture or of several.

    Raises:
        OutputError: The ending is none of these, or it cannot be written there.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(f"{str(path)!r} has no suffix of a file of detections; use {', '.join(SUFFIXES)}.")
    with written_whole(path) as temporary:
        if suffix == ".csv":
            with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                csv.writer(file).writerows(_table(found))
            return
        as_dict: Callable[[Sequence[Found]], dict[str, Any]] = _as_json if suffix == ".json" else _as_geojson
        temporary.write_text(
            json.dumps(as_dict(found), indent=2, ensure_ascii=False) + "\n", "utf-8", "backslashreplace"
        )


def _table(found: Sequence[Found]) -> Iterator[Iterable[Any]]:
    kind = found[0].kind if found else "probability"
    yield ("picture", "class", "label", kind, "row", "column", "top", "left", "bottom", "right")
    for each in found:
        for d in each.detections:
            yield (cell(each.picture), d.class_index, cell(d.label), d.probability, *d.cell, *_edges(d.box).values())


def _as_json(found: Sequence[Found]) -> dict[str, Any]:
    pictures = [
        {
            "picture": each.picture,
            "height": each.size[0],
            "width": each.size[1],
            "threshold": each.threshold,
            "detections": [_facts(each, d) | {"box": _edges(d.box)} for d in each.detections],
        }
        for each in found
    ]
    return {"boxes": "half-open, in pixels", "pictures": pictures}


def _as_geojson(found: Sequence[Found]) -> dict[str, Any]:
    """A FeatureCollection as GeoJSON has it (RFC 7946), but for its coordinates, which are pixels.

    Whoever reads the file must be told so, in a member of its own: "coordinates" may not stand beside "features".
    """
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [_ring(d.box)]},
            "properties": {"picture": each.picture} | _facts(each, d),
        }
        for each in found
        for d in each.detections
    ]
    return {"type": "FeatureCollection", "coordinate_system": _PIXELS, "features": features}


def _facts(found: Found, d: Detection) -> dict[str, Any]:
    return {"class": d.class_index, "label": d.label, found.kind: d.probability, "row": d.cell[0], "column": d.cell[1]}


def _edges(box: Box) -> dict[str, float]:
    (top, bottom), (left, right) = ((_plain(low), _plain(high)) for low, high in box)
    return {"top": top, "left": left, "bottom": bottom, "right": right}


def _ring(box: Box) -> list[list[float]]:
    """The corners of a box as a closed ring of x, y, counter-clockwise by its numbers: its area by them is above 0.

    That is how programs tell an outline from a hole. On a screen, where y points down, it runs clockwise.
    """
    top, left, bottom, right = _edges(box).values()
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def _plain(number: Any) -> float:
    """An integer where it is one, else a float."""
    return int(number) if number == int(number) else float(number)
