"""Heat maps as pictures: values laid over the photograph, a colour bar, and the best window with its name.

    draw(image, panels, axes, scale, footer)     one picture, a panel for each class
    save(picture, path)                          written whole or not at all

Where a value is drawn: a cell stands at the centre of its window. Between centres values are upsampled, bilinearly,
once and for display only; a cell reaches half a stride beyond the outermost centres. What windows see beyond that is
drawn grey and dim, with a line around the centres; what no window sees is drawn darker, behind a dashed line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fullyconv.colours import colour_table
from fullyconv.drawing import (
    FAINT,
    INK,
    LIGHT,
    LINE,
    MARGIN,
    NARROWEST,
    PAPER,
    TITLE,
    Box,
    dashes,
    drawn,
    font,
    frame,
    photograph,
    scale_of,
    shorten,
    wrap,
)
from fullyconv.errors import OutputError
from fullyconv.files import written_whole

_BAR = 108
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class CellAxis:
    """Where the cells of one axis are drawn.

    Args:
        first: Where the first cell's centre lies, in pixels.
        step: Pixels from one centre to the next.
        count: How many cells there are.
        reach: Pixels from a centre to the edge of its window.
    """

    first: float
    step: float
    count: int
    reach: float = 0.0

    def covered(self, size: int) -> tuple[float, float]:
        """The pixels that are drawn as belonging to a cell: half a step around each centre, inside the picture."""
        low, high = self.first - self.step / 2, self.first + (self.count - 0.5) * self.step
        return max(0.0, low), min(float(size), high)

    def seen(self, size: int) -> tuple[float, float]:
        """The pixels that some window sees, inside the picture."""
        low, high = self.covered(size)
        last = self.first + (self.count - 1) * self.step
        return max(0.0, min(low, self.first - self.reach)), min(float(size), max(high, last + self.reach))

    def weights(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each position the cell before it, the cell behind it, and the share of the latter."""
        at = np.clip((positions - self.first) / self.step, 0, self.count - 1)
        before = np.minimum(at.astype(int), max(self.count - 2, 0))
        return before, np.minimum(before + 1, self.count - 1), (at - before).astype(np.float32)


@dataclass(frozen=True)
class Scale:
    """The values that the ends of the colour bar stand for, and what they are (`"probability"` or `"score"`)."""

    low: float
    high: float
    name: str

    def position(self, values: np.ndarray) -> np.ndarray:
        """Where on the bar values lie, 0..1."""
        return np.clip((values - self.low) / ((self.high - self.low) or 1), 0, 1)


@dataclass(frozen=True)
class Mark:
    """A window that is drawn with its name: its box, and the value in it as text."""

    box: Box
    value: str = ""


@dataclass(frozen=True)
class Panel:
    """One class: its values per cell, its name, a remark beside it, and the windows that are marked."""

    values: np.ndarray
    title: str
    remark: str = ""
    marks: Sequence[Mark] = ()


# ------------------------------------------------------------------------------------------------------- overlay


def interpolate(values: np.ndarray, axes: Sequence[CellAxis], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The values of a map between its cells' centres, bilinearly, at positions in pixels.

    Example:
        >>> axis = CellAxis(first=5.0, step=10.0, count=2)
        >>> interpolate(np.array([[0.0, 1.0], [0.0, 1.0]]), (axis, axis), np.array([5.0]), np.array([0.0, 10.0, 99.0]))
        array([[0. , 0.5, 1. ]])
    """
    top, bottom, y = axes[0].weights(rows)
    left, right, x = axes[1].weights(columns)
    lines = values[top] * (1 - y)[:, None] + values[bottom] * y[:, None]
    return lines[:, left] * (1 - x) + lines[:, right] * x


def _blend(photo: np.ndarray, panel: Panel, axes: Sequence[CellAxis], scale: Scale, factor: float) -> Image.Image:
    """The photograph with a panel's values over it, at the size it is drawn."""
    rows, columns = ((np.arange(n) + 0.5) / factor for n in photo.shape[:2])
    share = scale.position(interpolate(panel.values, axes, rows, columns))
    colours = colour_table()[np.rint(share * 255).astype(int)].astype(np.float32)
    grey = (photo @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    muted = 0.12 * photo + 0.88 * grey
    alpha = (0.24 + 0.48 * share)[..., None]
    sizes = [math.ceil(n / factor) for n in photo.shape[:2]]
    covered, seen = (
        _inside(rows, vertical)[:, None, None] & _inside(columns, horizontal)[:, None]
        for vertical, horizontal in (
            [axis.covered(n) for axis, n in zip(axes, sizes, strict=True)],
            [axis.seen(n) for axis, n in zip(axes, sizes, strict=True)],
        )
    )
    around = np.where(seen, grey * 0.58 + 16, grey * 0.26 + 10)
    mixed = np.where(covered, muted * (1 - alpha) + colours * alpha, around)
    return Image.fromarray(np.rint(mixed.clip(0, 255)).astype(np.uint8))


def _inside(positions: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    return (positions >= ends[0]) & (positions < ends[1])


# ------------------------------------------------------------------------------------------------------- picture


def draw(
    image: np.ndarray, panels: Sequence[Panel], axes: Sequence[CellAxis], scale: Scale, footer: Sequence[str] = ()
) -> Image.Image:
    """The picture of a heat map: a panel for each class on a common colour bar.

    Args:
        image: The photograph `(height, width, channels)`, 0..255.
        panels: What to draw, a class each.
        axes: Where the cells are, vertically and horizontally.
        scale: What the ends of the colour bar stand for.
        footer: Lines of small text below.
    """
    columns = len(panels) if len(panels) <= 3 else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    factor = scale_of(image.shape, columns)
    height, width = (max(1, round(n * factor)) for n in image.shape[:2])
    photo = photograph(image, width, height)
    tile = (max(width, NARROWEST) + MARGIN, height + TITLE)
    wide = MARGIN + columns * tile[0] + _BAR
    lines = [part for line in footer for part in wrap(line, 14, wide - 2 * MARGIN)]
    bar = min(max(height, 150), 520)
    below = MARGIN // 2 + max(rows * tile[1], TITLE + bar) + 12
    canvas = Image.new("RGB", (wide, below + LINE * len(lines) + 12), PAPER)
    for i, panel in enumerate(panels):
        corner = (MARGIN + i % columns * tile[0], MARGIN // 2 + i // columns * tile[1])
        canvas.paste(_panel(photo, panel, axes, scale, factor), corner)
    _colour_bar(canvas, (wide - _BAR, MARGIN // 2 + TITLE, bar), scale)
    for i, line in enumerate(lines):
        ImageDraw.Draw(canvas).text((MARGIN, below + LINE * i), line, FAINT, font(14), anchor="lt")
    return canvas


def _panel(photo: np.ndarray, panel: Panel, axes: Sequence[CellAxis], scale: Scale, factor: float) -> Image.Image:
    blended = _blend(photo, panel, axes, scale, factor)
    pen = ImageDraw.Draw(blended)
    _extent(pen, axes, factor, blended.size)
    for mark in panel.marks[::-1]:
        _window(pen, mark.box, factor)
    for mark in panel.marks[::-1]:
        _tag(pen, panel, mark, factor, blended.size)
    canvas = Image.new("RGB", (max(blended.width, NARROWEST), blended.height + TITLE), PAPER)
    canvas.paste(blended, (0, TITLE))
    _title(ImageDraw.Draw(canvas), panel, canvas.width)
    return canvas


def _title(pen: ImageDraw.ImageDraw, panel: Panel, width: int) -> None:
    beside = pen.textlength(panel.remark, font(16)) + 16
    pen.text((0, TITLE - 14), shorten(panel.title, 24, width - beside), INK, font(24), anchor="ls")
    pen.text((width, TITLE - 14), panel.remark, FAINT, font(16), anchor="rs")


def _extent(pen: ImageDraw.ImageDraw, axes: Sequence[CellAxis], factor: float, size: tuple[int, int]) -> None:
    """A line around the area that has cells, and a dashed one where windows end, where the photograph is larger."""
    sizes = [math.ceil(n / factor) for n in size[::-1]]
    (top, bottom), (left, right) = drawn([axis.covered(n) for axis, n in zip(axes, sizes, strict=True)], factor)
    if (left, top) != (0, 0) or right < size[0] or bottom < size[1]:
        frame(pen, (left, top, right, bottom), LIGHT, 1)
    (top, bottom), (left, right) = drawn([axis.seen(n) for axis, n in zip(axes, sizes, strict=True)], factor)
    for y in (y for y in (top, bottom) if 0 < y < size[1]):
        dashes(pen, (left, y), (1, 0), right - left)
    for x in (x for x in (left, right) if 0 < x < size[0]):
        dashes(pen, (x, top), (0, 1), bottom - top)


def _window(pen: ImageDraw.ImageDraw, box: Box, factor: float) -> None:
    """The box of the best window and its centre: white between black lines, so that it shows on any background."""
    (top, bottom), (left, right) = drawn(box, factor)
    for inset, colour, width in ((0, (0, 0, 0), 5), (1, (255, 255, 255), 3)):
        frame(pen, (left + inset, top + inset, right - inset, bottom - inset), colour, width)
    y, x = (top + bottom) // 2, (left + right) // 2
    r = min(5, (right - left) // 10)
    pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255), outline=(0, 0, 0), width=2)


def _tag(pen: ImageDraw.ImageDraw, panel: Panel, mark: Mark, factor: float, size: tuple[int, int]) -> None:
    """A name on a dark plate: above the box if there is room, else below it, else inside; never off the picture.

    Among several boxes the plate is no wider than its own box, so that none covers another's.
    """
    (top, bottom), (left, right) = drawn(mark.box, factor)
    widest = size[0] if len(panel.marks) == 1 else max(right - left, 52)
    room = widest - 24 - pen.textlength(mark.value, font(17))
    text = shorten(f"{shorten(panel.title, 17, room)}  {mark.value}".strip(), 17, widest - 16)
    width, height = math.ceil(pen.textlength(text, font(17))) + 16, 28
    y = top - height if top >= height else bottom if bottom + height <= size[1] else 0
    x = max(0, min(left, size[0] - width))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=(16, 16, 20), outline=PAPER)
    pen.text((x + 8, y + height // 2), text, PAPER, font(17), anchor="lm")


def _colour_bar(canvas: Image.Image, place: tuple[int, int, int], scale: Scale) -> None:
    left, top, height = place
    pen = ImageDraw.Draw(canvas)
    ramp = colour_table()[np.linspace(255, 0, height).round().astype(int)]
    canvas.paste(Image.fromarray(np.repeat(ramp[:, None], 20, axis=1)), (left, top))
    pen.rectangle((left, top, left + 19, top + height - 1), outline=FAINT)
    for value in ticks(scale.low, scale.high):
        y = top + round((1 - (value - scale.low) / ((scale.high - scale.low) or 1)) * (height - 1))
        pen.line((left + 20, y, left + 25, y), fill=FAINT)
        pen.text((left + 30, y), f"{value:.6g}", INK, font(15), anchor="lm")
    pen.text((left, top - 14), scale.name, INK, font(16), anchor="ls")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, four to eight of them.

    >>> ticks(0, 1), ticks(0, 0.05)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    """
    if not high > low:
        return [float(low)]
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = max(k * power for k in (1, 2, 5) if k * power <= (high - low) / 4 * (1 + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


# --------------------------------------------------------------------------------------------------------- files


def save(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OutputError: The name has no suffix of a picture, or the place cannot be written to.
    """
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"{str(target)!r} has no suffix of a picture; use {', '.join(_SUFFIXES)}.")
    with written_whole(target) as temporary:
        picture.save(temporary)
