"""How far a conversion is from its classifier, window by window, as a picture.

    error_map(model, fcn, image).save("error.png")

Each window is cut out and given to the classifier, which is slow on purpose. On networks that pad, the difference is no
mistake: a cell sees its neighbours where the classifier, on a window cut out, saw zeros.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from PIL import Image

from fullyconv import render
from fullyconv.engine import compile
from fullyconv.errors import VerificationError
from fullyconv.geometry import Grid
from fullyconv.images import read_image
from fullyconv.logits import logits, skipped
from fullyconv.placement import Placement
from fullyconv.preprocessing import Mode, preprocess
from fullyconv.reference import at_corners
from fullyconv.scaling import twice

if TYPE_CHECKING:
    from fullyconv.convert import FullyConv

MOST = 2000  # windows that are compared: of more, every second, third, ... along each axis

# What to expect of the differences.
MEANINGS = {
    "exact": "The network is exact: all should be.",
    "native": "The network pads: cells see their neighbours where a window cut out has zeros beyond its edge.",
    "approximate": "A layer of the network mixes more than the window: they need not be.",
}


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """The differences of a conversion from its classifier on the windows of a picture.

    Args:
        values: The largest difference of a logit in each window, as a share of the largest logit in the picture:
            `(rows, columns)`.
        grid: Where the windows are.
        image: The picture `(height, width, channels)`, 0..255.
        tolerance: The difference up to which they are equal.
        name: Name of the picture's file, if it had one.
        every: Every which window of the map along each axis was compared.
        notes: What may be wrong with the answers of both; one sentence each.
    """

    values: np.ndarray
    grid: Grid
    image: np.ndarray
    tolerance: float
    name: str = ""
    every: int = 1
    notes: tuple[str, ...] = ()

    def picture(self) -> Image.Image:
        """The picture with the differences over it, as a Pillow image."""
        cells = (int(self.values.shape[0]), int(self.values.shape[1]))
        at = Placement(self.grid, cells, self.image.shape[:2])
        row, column = (int(i) for i in np.unravel_index(self.values.argmax(), self.values.shape))
        worst = float(self.values[row, column])
        mark = render.Mark(at.box((row, column)), f"{worst:.1e}")
        remark = f"at most {worst:.1e}, median {np.median(self.values):.1e}"
        panel = render.Panel(self.values, "difference from the classifier", remark, [mark])
        scale = render.Scale(0.0, worst or self.tolerance, "difference")
        return render.draw(self.image, [panel], at.axes, scale, [*self._footer(at), *at.legend()])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture.

        Raises:
            OutputError: It cannot be written there.
        """
        render.save(self.picture(), path)

    def _footer(self, at: Placement) -> list[str]:
        equal = int((self.values <= self.tolerance).sum())
        height, width = at.size
        share = f"{equal} of {self.values.size} windows are equal, to {self.tolerance:.0e}."
        share = f"{share} Along each axis one in {self.every} was compared." if self.every > 1 else share
        return [
            f"{self.name or 'Noise'}, {width} x {height} pixels: {at.in_words()}.",
            "The largest difference of a logit from the classifier's on the window cut out, as a share of the largest.",
            f"{share} {MEANINGS[self.grid.exactness]}",
            *self.notes,
        ]


def error_map(
    model: keras.Model, fcn: FullyConv, image: Any, preprocessing: Mode = None, tolerance: float = 1e-5
) -> ErrorMap:
    """The differences of a conversion from its classifier on the windows of a picture, before the last activation.

    Args:
        model: The classifier.
        fcn: Its conversion.
        image: A path, a Pillow image, or an array `(height, width, channels)`, 0..255.
        preprocessing: How pixels are prepared; `None` takes what the model file says.
        tolerance: The difference up to which they are called equal.

    Returns:
        An `ErrorMap`. Of more than 2000 windows it holds every second, third, ... along each axis.

    Raises:
        VerificationError: The network has no windows of a picture to compare.
        ImageError: The picture cannot be read.
        InputTooSmallError: It is smaller than the window.
    """
    _check_windows(fcn)
    first = fcn.data_format == "channels_first"
    pixels = read_image(image, fcn.model.input_shape[1 if first else -1], notes=[])
    mode = fcn.preprocess if preprocessing is None else preprocessing
    prepared = preprocess(np.moveaxis(pixels, -1, 0) if first else pixels, mode, fcn.data_format)
    fcn.check(prepared[None])
    cells, every = _chosen(fcn.grid.windows_inside(pixels.shape[:2]))
    grid = replace(fcn.grid, axes=tuple(replace(axis, stride=axis.stride * every) for axis in fcn.grid.axes))
    theirs, mine = _both(model, fcn, prepared, grid, cells)
    mine = mine[::every, ::every][: cells[0], : cells[1]]
    difference = np.abs(mine - theirs.reshape(mine.shape)).max(-1) / max(np.abs(theirs).max(), 1e-30)
    name = Path(image).name if isinstance(image, str | os.PathLike) else ""
    warning = twice(fcn.model, mode)
    return ErrorMap(difference, grid, pixels, tolerance, name, every, (warning,) if warning else ())


def noise_picture(fcn: FullyConv) -> np.ndarray:
    """Noise at several scales, four strides larger than the window: `(height, width, channels)`, uint8."""
    _check_windows(fcn)
    first = fcn.data_format == "channels_first"
    channels = fcn.model.input_shape[1 if first else -1]
    size = tuple(n + 4 * math.ceil(step) for n, step in zip(fcn.grid.window, fcn.grid.stride, strict=True))
    rng = np.random.default_rng(0)
    noise = np.zeros((*size, channels))
    for step in (1, 4, 16):
        coarse = rng.uniform(0, 85, (-(-size[0] // step), -(-size[1] // step), channels))
        noise += np.kron(coarse, np.ones((step, step, 1)))[: size[0], : size[1]]
    return noise.astype(np.uint8)


def _check_windows(fcn: FullyConv) -> None:
    grids = keras.tree.flatten(fcn.grids)
    part = fcn.options.get("until") or fcn.options.get("pool") == "drop" or len(fcn.model.inputs) > 1
    if part or len(grids) > 1 or len(grids[0].axes) != 2 or any(a.native != 1 or a.whole for a in grids[0].axes):
        raise VerificationError(
            "There is no picture of the error: it needs one input, and one output whose cells are windows.\n"
            "Leave the picture out; fullyconv.verify measures every network."
        )


def _chosen(inside: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """How many cells are compared along each axis, and every which."""
    every = math.ceil(math.sqrt(max(1.0, inside[0] * inside[1] / MOST)))
    return (-(-inside[0] // every), -(-inside[1] // every)), every


def _both(
    model: keras.Model, fcn: FullyConv, prepared: np.ndarray, grid: Grid, cells: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The classifier's logits on each window, and the conversion's on the whole picture, channels last."""
    left_out = skipped(model, fcn.options.get("skip", ()))
    classifier, network = logits(model, fcn.model, replace=left_out, any_size=bool(left_out))
    corners = [tuple(int(low) for low, _ in grid.cell_to_box(cell)) for cell in np.ndindex(*cells)]
    theirs = at_corners(compile(classifier), model, prepared, corners, fcn.window)
    mine = np.moveaxis(np.asarray(compile(network)(prepared[None])), fcn.grid.channel_axis, -1)
    return np.asarray(theirs), mine[0]
