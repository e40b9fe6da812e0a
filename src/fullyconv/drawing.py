"""What every picture is drawn with: a photograph at a legible size, lines, and text that fits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fullyconv.patches import as_bytes
from fullyconv.printable import inline

Box = tuple[tuple[float, float], tuple[float, float]]
Pixels = tuple[int, int, int, int]

INK, FAINT, PAPER, LIGHT = (28, 30, 36), (104, 108, 118), (255, 255, 255), (226, 226, 226)
MARGIN, TITLE, LINE = 24, 46, 20
NARROWEST = 320  # a panel is at least this wide, so that its title can be read
_LARGEST, _SMALLEST = 1100, 620  # longest side of the photograph as drawn
_MOST = 1000  # characters of a line that are drawn


def photograph(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The image in colour at the size it is drawn, as float32."""
    resized = as_pillow(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized.convert("RGB"), np.float32)


def as_pillow(image: np.ndarray) -> Image.Image:
    """The image as Pillow has it: in colour, or where it has not three channels, the first of them in grey."""
    pixels = as_bytes(image)
    return Image.fromarray(pixels if pixels.shape[-1] == 3 else np.ascontiguousarray(pixels[..., 0]))


def scale_of(shape: tuple[int, ...], columns: int) -> float:
    """How much the photograph is enlarged or reduced: legible, but no larger than a page."""
    largest = _LARGEST if columns == 1 else max(360, 1500 // columns)
    longest = max(shape[:2])
    return largest / longest if longest > largest else max(1.0, min(_SMALLEST, largest) / longest)


def drawn(sides: Sequence[tuple[float, float]], factor: float) -> list[tuple[int, int]]:
    """Pixels of the photograph as pixels of the page."""
    return [(round(low * factor), round(high * factor)) for low, high in sides]


def dashes(pen: ImageDraw.ImageDraw, start: tuple[int, int], step: tuple[int, int], length: int) -> None:
    """A dashed line of so many pixels."""
    (x, y), (dx, dy) = start, step
    for at in range(0, length, 12):
        end = min(at + 6, length)
        pen.line((x + dx * at, y + dy * at, x + dx * end, y + dy * end), fill=LIGHT)


def frame(pen: ImageDraw.ImageDraw, edges: Pixels, colour: tuple[int, int, int], width: int) -> None:
    """The outline of half-open edges; of one that is thinner than a pixel, a pixel."""
    left, top, right, bottom = edges
    pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)


@cache
def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font of all text."""
    return ImageFont.load_default(size)


def shorten(text: str, size: int, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    text, length = inline(text), font(size).getlength
    if len(text) <= _MOST and length(text) <= width:
        return text

    def cut(count: int) -> str:
        return text[:count].rstrip(" …") + "…"

    fits = bisect_right(range(1, min(len(text), _MOST)), width, key=lambda count: length(cut(count)))
    return cut(fits) if fits and len(text) > 2 else ""


def wrap(text: str, size: int, width: float) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in inline(" ".join(text[: 2 * _MOST].split())).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(size).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word, size, width))
    return lines
