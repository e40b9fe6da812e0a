"""One cell of a layer on a photograph: its receptive field, its own box, and the lattice of all cells' centres.

    draw_field(image, view)     the picture

Pixels outside the field are drawn grey and dim. Where the field reaches beyond the photograph, the paper beside it is
drawn plain: there the network sees padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fullyconv.drawing import (
    FAINT,
    INK,
    LINE,
    MARGIN,
    NARROWEST,
    PAPER,
    TITLE,
    Box,
    Pixels,
    drawn,
    font,
    frame,
    photograph,
    scale_of,
    shorten,
    wrap,
)

_PADDING, _CELL = (186, 190, 198), (255, 140, 0)
_CLOSEST = 14  # pixels of the page between two centres that are drawn


@dataclass(frozen=True)
class View:
    """What to draw of a layer.

    Args:
        title: Its name.
        remark: What is said beside the name.
        cell: The pixels of one cell's box, per axis.
        field: The pixels of its receptive field; infinite where it sees the whole picture.
        centres: The pixels at which the cells have their centres, per axis.
        footer: Lines of small text below.
    """

    title: str
    remark: str
    cell: Box
    field: Box
    centres: tuple[Sequence[float], Sequence[float]]
    footer: tuple[str, ...] = ()


def draw_field(image: np.ndarray, view: View) -> Image.Image:
    """The picture of one cell of a layer on a photograph.

    Args:
        image: The photograph `(height, width, channels)`, 0..255.
        view: What to draw.
    """
    shown = tuple(_shown(ends, n) for ends, n in zip(view.field, image.shape[:2], strict=False))
    factor = scale_of(tuple(math.ceil(high - low) for low, high in shown), 1)
    ground = _ground(image, view.field, shown, factor)
    pen = ImageDraw.Draw(ground)
    _lattice(pen, view.centres, shown, factor)
    cell, field = (_moved(box, shown, factor) for box in (view.cell, _finite(view.field, image.shape)))
    _outlined(pen, field, PAPER, 3)
    _outlined(pen, cell, _CELL, 3)
    every = [thinning(centres, factor) for centres in view.centres]
    return _page(ground, view, _dots(every))


def _shown(ends: tuple[float, float], size: int) -> tuple[float, float]:
    """The pixels along an axis that are drawn: the photograph, and of the field as much as half of it on each side."""
    low, high = (end if math.isfinite(end) else 0 for end in ends)
    return max(min(low, 0), -size / 2), min(max(high, size), 1.5 * size)


def _finite(box: Box, shape: Sequence[int]) -> Box:
    """The box, or the whole photograph where it has no end."""
    (top, bottom), (left, right) = (
        ends if math.isfinite(ends[0]) else (0, n) for ends, n in zip(box, shape, strict=False)
    )
    return (top, bottom), (left, right)


def _moved(box: Box, shown: Sequence[tuple[float, float]], factor: float) -> Pixels:
    """Pixels of the photograph as left, top, right and bottom of what is drawn."""
    sides = [(low - start, high - start) for (low, high), (start, _) in zip(box, shown, strict=True)]
    (top, bottom), (left, right) = drawn(sides, factor)
    return left, top, right, bottom


def _ground(image: np.ndarray, field: Box, shown: Sequence[tuple[float, float]], factor: float) -> Image.Image:
    """The photograph, dim outside the field, amid the padding around it."""
    height, width = (max(1, round(n * factor)) for n in image.shape[:2])
    photo = photograph(image, width, height)
    dim = (photo @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] * 0.48 + 16
    rows, columns = (
        ((np.arange(n) + 0.5) / factor >= low) & ((np.arange(n) + 0.5) / factor < high)
        for n, (low, high) in zip((height, width), field, strict=True)
    )
    mixed = np.where((rows[:, None] & columns)[..., None], photo, dim)
    size = tuple(math.ceil((high - low) * factor) for low, high in reversed(shown))
    ground = Image.new("RGB", (size[0], size[1]), _PADDING)
    corner = (round(-shown[1][0] * factor), round(-shown[0][0] * factor))
    ground.paste(Image.fromarray(np.rint(mixed.clip(0, 255)).astype(np.uint8)), corner)
    return ground


def _lattice(
    pen: ImageDraw.ImageDraw,
    centres: Sequence[Sequence[float]],
    shown: Sequence[tuple[float, float]],
    factor: float,
) -> None:
    """A dot at the centre of each cell; of cells that are too close, at every second, third ... along each axis."""
    rows, columns = (
        [round((at - start) * factor) for at in axis[:: thinning(axis, factor)]]
        for axis, (start, _) in zip(centres, shown, strict=True)
    )
    for y in rows:
        for x in columns:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=PAPER, outline=(0, 0, 0))


def thinning(centres: Sequence[float], factor: float) -> int:
    """Every which centre is drawn, so that dots can be told apart."""
    step = (centres[1] - centres[0]) * factor if len(centres) > 1 else _CLOSEST
    return max(1, math.ceil(_CLOSEST / step))


def _outlined(pen: ImageDraw.ImageDraw, edges: Pixels, colour: tuple[int, int, int], width: int) -> None:
    """A frame between black lines, so that it shows on any background."""
    left, top, right, bottom = edges
    frame(pen, edges, (0, 0, 0), width + 2)
    if min(right - left, bottom - top) > 2:
        frame(pen, (left + 1, top + 1, right - 1, bottom - 1), colour, width)


def _dots(every: Sequence[int]) -> str:
    """What the dots are, in words."""
    ordinal = {1: "", 2: " second", 3: " third"}.get(max(every), f" {max(every)}th")
    return f"A dot stands at the centre of every{ordinal} cell."


def _page(ground: Image.Image, view: View, dots: str) -> Image.Image:
    """What was drawn, with its title above and its footer below."""
    width = max(ground.width, NARROWEST)
    lines = [part for line in (*view.footer, dots) for part in wrap(line, 14, width)]
    below = MARGIN // 2 + TITLE + ground.height + 12
    canvas = Image.new("RGB", (width + 2 * MARGIN, below + LINE * len(lines) + 12), PAPER)
    canvas.paste(ground, (MARGIN, MARGIN // 2 + TITLE))
    pen, base = ImageDraw.Draw(canvas), MARGIN // 2 + TITLE - 14
    room = width - pen.textlength(view.remark, font(16)) - 16
    pen.text((MARGIN, base), shorten(view.title, 24, room), INK, font(24), anchor="ls")
    pen.text((MARGIN + width, base), view.remark, FAINT, font(16), anchor="rs")
    for i, line in enumerate(lines):
        pen.text((MARGIN, below + LINE * i), line, FAINT, font(14), anchor="lt")
    return canvas
