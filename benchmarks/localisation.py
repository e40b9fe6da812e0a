"""What a denser map gains, on objects whose place is known.

    KERAS_BACKEND=openvino python benchmarks/localisation.py [--places 48] [--picture FILE]

A cup and a cat, cut out of photos with soft edges, are pasted onto photos of other things at places drawn at random.
EfficientNet-Lite0, trained, looks for espresso and for cats (four kinds of them together) at strides 32, 16, 8 and 4.
Off is the distance in pixels from the object's centre to the centre of the best window, and to the best pixel of the
map upsampled bilinearly.

Two chess boards are cut at random, so that their squares lie anywhere; the cell nearest to each square names it.

Writes results/localisation.json and docs/strides.md; `--picture` draws the first of the pasted pictures instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring.store import Store
from measuring.strides import write
from PIL import Image

import fullyconv
from fullyconv import pretrained, render

STRIDES = (32, 16, 8, 4)
BACKGROUNDS = ("astronaut", "brick", "grass", "gravel", "motorcycle_left", "rocket")
EDGE, WINDOW = 416, 224  # pixels of a picture, and of the network's window
SQUARE, BOARD = 50, 400  # pixels of a square, which is the window of the network of chess squares, and of a board
CUTS = 16  # of each board
OPENING = Path(__file__).parents[1] / "tests" / "data" / "chess_opening.png"
SOFT = 0.12  # share of an object's radius over which it fades out
CATS = ("tabby", "tiger cat", "Persian cat", "Egyptian cat")


@dataclass(frozen=True)
class Thing:
    """What is pasted: an ellipse of a photo, how much it is shrunk, and the classes that it is.

    Args:
        photo: The photo's name.
        centre: Row and column of the ellipse's centre.
        radii: Half its height and half its width, in pixels.
        scale: Size when pasted, of the size in the photo.
        classes: The names that are right.
    """

    photo: str
    centre: tuple[int, int]
    radii: tuple[int, int]
    scale: float
    classes: tuple[str, ...]

    def cut(self) -> tuple[np.ndarray, np.ndarray]:
        """Its pixels, and how much of each is pasted, 0..1."""
        (y, x), (tall, wide) = self.centre, self.radii
        pixels = pretrained.sample_image(self.photo)[y - tall : y + tall, x - wide : x + wide].astype("uint8")
        height, width = (round(2 * r * self.scale) for r in self.radii)
        small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS), "float32")
        rows, columns = ((2 * np.arange(n) + 1) / n - 1 for n in (height, width))
        share = np.clip((1 - np.hypot(rows[:, None], columns)) / SOFT, 0, 1)
        return small, share.astype("float32")[..., None]


THINGS = (
    Thing("coffee", (205, 280), (190, 205), 0.45, ("espresso",)),
    Thing("chelsea", (145, 205), (145, 175), 0.5, CATS),
)


def main() -> None:
    """Measure, or draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--places", type=int, default=48, help="pictures made (default 48)")
    parser.add_argument("--picture", metavar="FILE", help="draw the first twelve pictures into a file")
    options = parser.parse_args()
    if options.picture:
        drawn = [picture for picture, *_ in pictures(12)]
        Image.fromarray(np.vstack([np.hstack(drawn[i : i + 4]) for i in (0, 4, 8)]).astype("uint8")).save(
            options.picture
        )
        return
    store = Store("localisation", f"python benchmarks/localisation.py --places {options.places}")
    for stride in STRIDES:
        store.put(f"stride {stride}", measure(stride, options.places))
    for stride in (4, 2, 1):
        store.put(f"chess {stride}", squares(stride))
    write()


def pictures(count: int) -> Iterator[tuple[np.ndarray, Thing, np.ndarray]]:
    """Pictures `(416, 416, 3)` of a thing somewhere, the thing, and its centre in pixels; always the same ones."""
    rng = np.random.default_rng(0)
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        picture = background(BACKGROUNDS[number // len(THINGS) % len(BACKGROUNDS)], rng)
        pixels, share = thing.cut()
        height, width = share.shape[:2]
        y, x = (int(rng.integers((WINDOW - n) // 2, EDGE - (WINDOW + n) // 2 + 1)) for n in (height, width))
        under = picture[y : y + height, x : x + width]
        under[:] = under * (1 - share) + pixels * share
        yield picture, thing, np.array([y + height / 2, x + width / 2])


def background(name: str, rng: np.random.Generator) -> np.ndarray:
    """A part of a photo."""
    photo = pretrained.sample_image(name)
    y, x = (int(rng.integers(0, n - EDGE + 1)) for n in photo.shape[:2])
    return photo[y : y + EDGE, x : x + EDGE].astype("float32")


def measure(stride: int, count: int) -> dict[str, Any]:
    """The row of one stride."""
    fcn = fullyconv.convert(pretrained.efficientnet_lite0(), stride=stride)
    fcn.labels, fcn.preprocess = pretrained.imagenet_labels(), pretrained.LITE0_PREPROCESS
    found = [look(fcn, *made) for made in pictures(count)]
    off = {kind: np.array([each[kind] for each in found]) for kind in ("cell", "upsampled")}
    return {
        "stride": stride,
        "places": count,
        "cells": int(np.prod(fcn.grid.windows_inside((EDGE, EDGE)))),
        **{kind: quantiles(values) for kind, values in off.items()},
        "sure": round(float(np.median([each["value"] for each in found])), 4),
        "found": sum(each["value"] >= 0.5 for each in found),
    }


def look(fcn: fullyconv.FullyConv, picture: np.ndarray, thing: Thing, centre: np.ndarray) -> dict[str, float]:
    """The best value of the right classes, and how far its place is from a centre, in pixels."""
    drawn = fullyconv.heatmap(fcn, picture.astype("uint8"))
    values = drawn.map[..., [fcn.labels.index(name) for name in thing.classes]].sum(-1)
    axes = drawn.placement.axes
    cell = [axis.first + axis.step * i for axis, i in zip(axes, best(values), strict=True)]
    at = [np.arange(axis.first, axis.first + axis.step * (axis.count - 1), 1.0) + 0.5 for axis in axes]
    pixel = [row[i] for row, i in zip(at, best(render.interpolate(values, axes, *at)), strict=True)]
    off = {kind: float(np.hypot(*(place - centre))) for kind, place in (("cell", cell), ("upsampled", pixel))}
    return off | {"value": float(values.max())}


def best(values: np.ndarray) -> tuple[int, ...]:
    """Where the largest value is."""
    return tuple(int(i) for i in np.unravel_index(values.argmax(), values.shape))


def quantiles(values: np.ndarray) -> dict[str, float]:
    """The median, what nine in ten are below, and the largest."""
    return {
        "median": round(float(np.median(values)), 1),
        "nine_in_ten": round(float(np.quantile(values, 0.9)), 1),
        "largest": round(float(values.max()), 1),
    }


# ---------------------------------------------------------------------------------------------------------------- chess


def squares(stride: int) -> dict[str, Any]:
    """How many squares of boards cut at random the nearest cell names right."""
    fcn = fullyconv.convert(pretrained.chess_model(), stride=stride)
    right = [each for board, names, corner in cuts() for each in read(fcn, board, names, corner)]
    return {"stride": stride, "squares": len(right), "right": sum(right), "cuts": len(boards()) * CUTS}


def boards() -> list[tuple[np.ndarray, list[str]]]:
    """Two boards of 400 x 400 pixels, and the names of their squares."""
    with Image.open(OPENING) as picture:
        opening = np.array(picture.convert("RGB").resize((BOARD, BOARD), Image.Resampling.NEAREST))
    return [pretrained.chess_board(), (opening, pretrained.fen_squares("rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR"))]


def cuts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Boards without their first rows and columns, fewer than a square's; the names `(8, 8)`; how many were cut off."""
    rng = np.random.default_rng(0)
    for board, names in boards():
        for _ in range(CUTS):
            y, x = corner = rng.integers(0, SQUARE, 2)
            yield board[y:, x:].astype("float32"), np.array(names).reshape(8, 8), corner


def read(fcn: fullyconv.FullyConv, board: np.ndarray, names: np.ndarray, corner: np.ndarray) -> list[bool]:
    """Whether the cell nearest to each whole square names it right."""
    step, cells = fcn.grid.stride[0], fcn.predict(board[None])[0]
    begins = [[SQUARE * i - cut for i in range(8) if SQUARE * i >= cut] for cut in corner]
    nearest = [[min(round(n / step), most - 1) for n in row] for row, most in zip(begins, cells.shape, strict=False)]
    named = np.array(pretrained.CHESS_LABELS)[cells[np.ix_(*nearest)].argmax(-1)]
    whole = names[-len(begins[0]) :, -len(begins[1]) :]
    return [bool(same) for same in (named == whole).ravel()]


if __name__ == "__main__":
    main()
