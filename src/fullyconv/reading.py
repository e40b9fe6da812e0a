"""A network asked about a picture: the pixels prepared, the map read, and what was assumed on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import special

from fullyconv.engine import compile
from fullyconv.errors import GeometryError, ImageError, InputTooSmallError, LabelError
from fullyconv.images import read_image
from fullyconv.labels import fitting, read_labels
from fullyconv.logits import logits
from fullyconv.preprocessing import Mode, preprocess
from fullyconv.scaling import preparation

if TYPE_CHECKING:
    from fullyconv.convert import FullyConv
    from fullyconv.geometry import Grid

Values = Literal["softmax", "logits"] | None
Labels = str | os.PathLike[str] | Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Reading:
    """What a network says of a picture.

    Args:
        values: The map `(rows, columns, classes)`, float32: the cells whose windows lie inside the picture.
        pixels: The picture `(height, width, channels)`, 0..255, before preprocessing.
        labels: Names of the classes, if there are any.
        kind: What the values are: `"probability"`, `"logit"` or `"score"`.
        notes: What was assumed, and what was changed in the picture; one sentence each.
        name: What the picture is called: as it was said, or its file's name.
    """

    values: np.ndarray
    pixels: np.ndarray
    labels: tuple[str, ...] | None
    kind: str
    notes: tuple[str, ...]
    name: str


class Reader:
    """A network and how pictures are read for it, which stays the same from picture to picture.

    Args:
        fcn: The converted network.
        mode: How pixels are prepared; `None` takes what the model file says.
        labels: Names of the classes, or a file of them; `None` takes those of the model file.
        values: `"logits"` for the values before the last activation, `"softmax"` for the softmax of these; `None` for
            what the network returns.

    Raises:
        GeometryError: It is no converted network.
        ImageError: It takes no single picture, or there is no such preprocessing.
        LabelError: The file of labels cannot be read, or there is no such kind of values.
    """

    def __init__(self, fcn: FullyConv, mode: Mode = None, labels: Labels = None, values: Values = None) -> None:
        self.grid, self.channels = _one_map(fcn), _channels(fcn)
        self.fcn, self.mode, self.values = fcn, fcn.preprocess if mode is None else mode, values
        self.labels = read_labels(Path(labels)) if isinstance(labels, str | os.PathLike) else labels
        self.labels = fcn.labels if self.labels is None else self.labels
        self.first = fcn.data_format == "channels_first"
        self.prepared = preparation(fcn.model, self.mode, from_model=mode is None)
        self._run = _runner(fcn, values)

    def __call__(self, image: Any, name: str | None = None) -> Reading:
        """What the network says of a path, a Pillow image or an array.

        Args:
            image: The picture.
            name: What to call it; by default the name of its file, if it has one.

        Raises:
            ImageError: The picture cannot be read, or does not fit the network.
            InputTooSmallError: It is smaller than the window.
            LabelError: The number of names is wrong.
        """
        notes: list[str] = []
        pixels = read_image(image, self.channels, notes=notes)
        if any(n < least for n, least in zip(pixels.shape, self.grid.window, strict=False)):
            raise InputTooSmallError(pixels.shape[:2], self.grid.window)
        rows, columns = self.grid.windows_inside(pixels.shape[:2])
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
            values = np.ascontiguousarray(self._predict(pixels)[:rows, :columns], np.float32)
        if name is None:
            name = Path(image).name if isinstance(image, str | os.PathLike) else ""
        finite = np.isfinite(values).all(-1)
        if not finite.all():
            raise ImageError(
                f"The network's answers to {name or 'the picture'} are NaN or infinite in {(~finite).sum():,} of "
                f"{finite.size:,} cells.\n"
                "See whether the pixels are prepared as they were in training, and whether its weights are finite."
            )
        kind = {"logits": "logit", "softmax": "probability"}.get(self.values or "") or _kind(self.fcn, values)
        notes += [*self.prepared, *_remarks(self.values, kind)]
        return Reading(values, pixels, fitting(self.labels, values.shape[-1]), kind, tuple(notes), name)

    def _predict(self, pixels: np.ndarray) -> np.ndarray:
        """The map `(rows, columns, classes)` of one picture."""
        if self.first:
            batch = preprocess(np.moveaxis(pixels, -1, 0)[None], self.mode, "channels_first")
        else:
            batch = preprocess(pixels[None], self.mode)
        values = np.moveaxis(np.asarray(self._run(batch)), self.grid.channel_axis, -1)[0]
        return _softmax(values) if self.values == "softmax" else values


def _one_map(fcn: Any) -> Grid:
    """The grid of a network with one map, of pictures."""
    if not hasattr(type(fcn), "predict") or hasattr(fcn, "get_config"):
        raise GeometryError(
            f"A heat map needs a converted network, and this is a {type(fcn).__name__}.\n"
            f"Convert the classifier first:  fullyconv.heatmap(fullyconv.convert(model), image)"
        )
    try:
        grid: Grid = fcn.grid
    except GeometryError:
        raise ImageError(
            "A heat map needs a network with one output, and this one has several.\n"
            "Convert the part that ends in one:  keras.Model(model.inputs, model.outputs[0])"
        ) from None
    if len(grid.window) != 2:
        raise ImageError(
            f"A heat map needs a network for pictures, and this one has {len(grid.window)} spatial "
            f"{'axis' if len(grid.window) == 1 else 'axes'}; use fcn.predict."
        )
    return grid


def _channels(fcn: FullyConv) -> int:
    shape = fcn.model.input_shape
    if not isinstance(shape, tuple):
        raise ImageError(f"A heat map needs a network with one input, and this one has {len(shape)}; use fcn.predict.")
    return int(shape[1] if fcn.data_format == "channels_first" else shape[-1])


def _runner(fcn: FullyConv, values: Values) -> Callable[[Any], Any]:
    """What computes the map: the network, or the network up to its last activation."""
    if values not in (None, "softmax", "logits"):
        raise LabelError(f"There are no values {values!r}; use 'softmax', 'logits', or None for the network's own.")
    return fcn.predict if values is None else compile(logits(fcn.model, fcn.model)[1])


def _softmax(values: np.ndarray) -> np.ndarray:
    if values.shape[-1] == 1:
        raise LabelError(
            "The softmax of one class is 1 everywhere.\nLeave values='softmax' out, or take a network that ends in a "
            "sigmoid."
        )
    return special.softmax(values.astype(np.float64), axis=-1)


def _kind(fcn: FullyConv, values: np.ndarray) -> str:
    """Whether the values are probabilities: 0 to 1, of sigmoids or with a sum of 1, and not from a linear layer."""
    activation = getattr((getattr(fcn.model, "layers", None) or [None])[-1], "activation", None)
    last = getattr(activation, "__name__", "")
    bounded = values.min() >= -1e-6 and values.max() <= 1 + 1e-4
    whole = values.shape[-1] == 1 or last == "sigmoid" or bool(np.abs(values.sum(-1) - 1).max() < 1e-2)
    return "probability" if bounded and whole and last != "linear" else "score"


def _remarks(values: Values, kind: str) -> list[str]:
    """What to say of the values that are drawn."""
    if values == "softmax":
        return ["The values are the softmax over the classes of the network's logits, as asked."]
    if values == "logits":
        return ["The values are the logits, before the last activation, as asked."]
    if kind == "score":
        return ["The values are scores, no probabilities; values='softmax' makes them so if they are logits."]
    return []
