"""The proof: what the contract promises, measured on a given classifier and its conversion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.convert import FullyConv
from fullyconv.engine import compile
from fullyconv.finite import check_weights
from fullyconv.geometry import Grid
from fullyconv.inputs import channels_first, image_inputs
from fullyconv.logits import logits, skipped
from fullyconv.plan import plan, reasons_in_words
from fullyconv.reference import at_corners, spatial_size, windows
from fullyconv.rules.rule import axes_of
from fullyconv.walk import unique_names

# Largest error allowed, as a share of the largest logit: float32 measured at 0.7-1.7e-6 over the zoo, the half
# precisions at four units in their last place.
TOLERANCE = {"float32": 1e-5, "float64": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
# Largest error allowed, as a share of the difference between two images.
OF_DIFFERENCE = 1e-3
MOST_WINDOWS = 64
MOST_POSITIONS = 24 * 10**6


@dataclass(frozen=True)
class Verification:
    """What was measured, each error as a share of the largest logit.

    Args:
        native_error: Largest difference from the classifier at the window (contract C1).
        size_error: Largest change of a cell when the image goes on beyond its receptive field (C3), or None where no
            cell's field ends.
        window_error: Largest difference from the classifier on windows (C4), or None where a cell has no window.
        argmax_agreement: Share of the windows on which both name the same class, or None.
        difference: Difference between two images, which the native error is also held against.
        cells: Number of cells compared for the size error.
        windows: Number of windows compared.
        exactness: What the grids say.
        reasons: And why.
        tolerance: Largest error allowed.
    """

    native_error: float
    size_error: float | None
    window_error: float | None
    argmax_agreement: float | None
    difference: float
    cells: int
    windows: int
    exactness: str
    reasons: str
    tolerance: float

    @property
    def native_ok(self) -> bool:
        """Whether the conversion equals the classifier at the window."""
        share = OF_DIFFERENCE * self.tolerance / TOLERANCE["float32"]
        return self.native_error <= min(self.tolerance, max(share * self.difference, 1e-9))

    @property
    def size_ok(self) -> bool:
        """Whether cells do not depend on what lies beyond their field."""
        return self.size_error is None or (self.cells > 0 and self.size_error <= self.tolerance)

    @property
    def window_ok(self) -> bool:
        """Whether the windows bear out what the grid says: equal where it says exact; else they may differ."""
        if self.window_error is None:
            return True
        return math.isfinite(self.window_error) and (self.exactness != "exact" or self.window_error <= self.tolerance)

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        return self.native_ok and self.size_ok and self.window_ok

    def _on_windows(self) -> str:
        """What the error on windows means for what the grid says."""
        equal = self.window_error is not None and self.window_error <= self.tolerance
        if self.exactness == "exact":
            return "holds" if equal else "DOES NOT HOLD"
        return "equal here, though they may differ" if equal else "they may differ, and do"

    def __str__(self) -> str:
        """The measurements in words."""
        verdict = {True: "holds", False: "DOES NOT HOLD"}
        apart = f"of the largest logit (two images differ by {self.difference:.1e})"
        lines = [f"at the window   {verdict[self.native_ok]}: error {self.native_error:.1e} {apart}"]
        if self.size_error is None:
            lines.append(
                "at other sizes  not checked: every cell sees the whole image, or the image would be too large"
            )
        else:
            lines.append(
                f"at other sizes  {verdict[self.size_ok]}: error {self.size_error:.1e} over {self.cells} cells"
            )
        if self.window_error is not None:
            agreement = f"{100 * (self.argmax_agreement or 0):.1f} % of {self.windows} windows name the same class"
            lines.append(f"on windows      error {self.window_error:.1e}, {agreement}")
            lines.append(f"                {self._on_windows()}: {self.exactness} {self.reasons}".rstrip())
        if math.inf in (self.native_error, self.size_error, self.window_error):
            lines.append("error inf       the answers contain NaN or infinity")
        return "\n".join(lines)


def verify(model: keras.Model, fcn: FullyConv, images: Sequence[Any] | None = None) -> Verification:
    """How far a conversion is from its classifier: at the window, at other sizes, and on windows.

    Compared before the last activation, through the engine.

    Args:
        model: The classifier.
        fcn: Its conversion.
        images: Prepared images `(*spatial, channels)`; without them noise is used, which shows equality but says
            nothing about agreement on real images.

    Returns:
        A `Verification`; its `ok` says whether everything the grids promise holds.

    Raises:
        InputTooSmallError: an image is smaller than the window.
        GeometryError: an image has another rank or number of channels.
        WeightsError: weights of either are NaN, infinite or complex, or a variance is not above 0.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.verify(model, fullyconv.convert(model)).ok
        True
    """
    for network in (fcn.model, model) if fcn.options.get("until") is None else (fcn.model,):
        check_weights(network)
    return _Check(model, fcn, images).result()


class _Check:
    """One verification: the two networks up to their logits, and the images."""

    def __init__(self, model: keras.Model, fcn: FullyConv, images: Sequence[Any] | None) -> None:
        options = fcn.options
        self.model, self.fcn = model, fcn
        self.until, self.dropped = options.get("until"), options.get("pool") == "drop"
        self.grids: list[Grid] = keras.tree.flatten(fcn.grids)
        self.window, self.flags = fcn.window, image_inputs(model)
        self.first = channels_first(model)
        replaced = skipped(model, options.get("skip", ()))
        if self.dropped and self.until is None:
            replaced |= _per_position(model, options)
        classifier, network = logits(model, fcn.model, self.until, replaced, any_size=bool(options.get("skip")))
        self.classifier, self.network = compile(classifier), compile(network)
        self.scale = 1.0
        self.images = (
            [self._widened(image) for image in images] if images is not None and len(images) else self._noise_images()
        )

    def result(self) -> Verification:
        """Everything measured."""
        native, difference = self._native()
        size, cells = self._size()
        window, agreement, count = self._windows()
        reasons = next((reasons_in_words(g) for g in self.grids if g.exactness == self.fcn.exactness), "")
        reasons = f"({reasons})" if self.fcn.exactness != "exact" else ""
        return Verification(
            native_error=native,
            size_error=size,
            window_error=window,
            argmax_agreement=agreement,
            difference=difference,
            cells=cells,
            windows=count,
            exactness=self.fcn.exactness,
            reasons=reasons,
            tolerance=tolerance_of(self.model),
        )

    def _native(self) -> tuple[float, float]:
        """The error at the window, and the difference between two images, both as shares of the largest logit."""
        crops = [self._part(image, self.window) for image in self.images[:2]]
        crops += [self._noise(self.window)] if len(crops) < 2 else []
        pairs = [(self._of_classifier(crop), self._of_network(crop)) for crop in crops]
        error = max(
            _relative(a, self._like(a, b, grid))
            for old, new in pairs
            for a, b, grid in zip(old, new, self.grids, strict=True)
        )
        difference = min(_relative(a, b) for a, b in zip(pairs[0][0], pairs[1][0], strict=True))
        return error, difference

    def _like(self, old: np.ndarray, new: np.ndarray, grid: Grid) -> np.ndarray:
        """The network's output at the window in the shape of the classifier's: a map, or a row for each position."""
        return new if new.shape == old.shape else np.moveaxis(new, grid.channel_axis, -1).reshape(old.shape)

    def _of_classifier(self, crop: Any) -> list[np.ndarray]:
        return keras.tree.flatten(self.classifier(_batch(crop)))

    def _of_network(self, crop: Any) -> list[np.ndarray]:
        return keras.tree.flatten(self.network(_batch(crop)))

    def _maps(self, image: Any) -> list[np.ndarray]:
        """The network's outputs `(1, *cells, channels)`."""
        maps = zip(self._of_network(image), self.grids, strict=True)
        return [np.moveaxis(cells, grid.channel_axis, -1) for cells, grid in maps]

    def _size(self) -> tuple[float | None, int]:
        """The largest change of a cell whose field ends within the smaller of two images, over residues of the size."""
        errors, compared = [], 0
        for axis in range(len(self.window)):
            for small, large in self._pairs(axis):
                whole = self._noise(large)
                part = self._part(whole, small)
                old, new = self._maps(part), self._maps(whole)
                for grid, a, b in zip(self.grids, old, new, strict=True):
                    count = _unaffected(grid, axis, small[axis], a.shape[axis + 1])
                    compared += count
                    keep = (*(slice(None) for _ in range(axis + 1)), slice(0, count))
                    errors += [_relative(b[keep], a[keep])] if count else []
        return (max(errors), compared) if errors else (None, 0)

    def _pairs(self, axis: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Sizes of a smaller and a larger image: of several residues along one axis, thin along the others."""
        ends = [grid.cell_to_box([0] * len(self.window), field=True)[axis][1] for grid in self.grids]
        strides = [math.ceil(grid.axes[axis].stride) for grid in self.grids]
        if any(math.isinf(end) for end in ends):
            return []
        least, stride = max(self.window[axis], *map(math.ceil, ends)), max(strides)
        if (least + 3 * stride) * math.prod(self.window) // self.window[axis] > MOST_POSITIONS:
            return []
        residues = sorted({0, 1, stride // 2 + 1, stride - 1})
        return [(self._thin(axis, least + r), self._thin(axis, least + r + stride + 1)) for r in residues]

    def _thin(self, axis: int, n: int) -> tuple[int, ...]:
        return tuple(n if i == axis else w for i, w in enumerate(self.window))

    def _windows(self) -> tuple[float | None, float | None, int]:
        """The largest difference from the classifier on windows, and the share that name the same class."""
        if self.dropped or self.until or any(a.whole or a.native != 1 for g in self.grids for a in g.axes):
            return None, None, 0
        errors, same, count = [0.0], 0, 0
        for image in self.images:
            maps = self._maps(image)
            for k, (grid, cells) in enumerate(zip(self.grids, maps, strict=True)):
                inside = np.ndindex(*grid.windows_inside(spatial_size(self.model, image)))
                chosen = _spaced(c for c in inside if all(i * s % 1 == 0 for i, s in zip(c, grid.stride, strict=True)))
                corners = [tuple(int(i * s) for i, s in zip(c, grid.stride, strict=True)) for c in chosen]
                rows = at_corners(self.classifier, self.model, image, corners, self.window, 16)
                a, b = keras.tree.flatten(rows)[k], np.stack([cells[(0, *c)] for c in chosen])
                a = a.reshape(b.shape)
                errors.append(_relative(a, b))
                same, count = same + int((_named(a) == _named(b)).sum()), count + len(chosen)
        return (max(errors), same / count, count) if count else (None, None, 0)

    def _part(self, image: Any, size: tuple[int, ...]) -> Any:
        cut = windows(self.model, image, [(0,) * len(size)], size)
        return keras.tree.map_structure(lambda a: a[0], cut)

    def _widened(self, image: Any) -> Any:
        widened = keras.tree.map_structure(lambda a: np.asarray(a, "float32"), image)
        self.fcn.check(_batch(widened))
        return widened

    def _noise_images(self) -> list[Any]:
        """Two images of a few windows, in the range of values that makes the classifier tell them apart."""
        strides = [max(math.ceil(g.stride[i]) for g in self.grids) for i in range(len(self.window))]
        size = tuple(w + 2 * min(s, w) for w, s in zip(self.window, strides, strict=True))

        def difference(scale: float) -> float:
            self.scale = scale
            a, b = (keras.tree.flatten(self.classifier(_batch(self._noise(self.window, seed)))) for seed in (1, 2))
            apart = [_relative(x, y) for x, y in zip(a, b, strict=True)]
            return -1.0 if math.inf in apart else min(apart)

        self.scale = max((1.0, 255.0), key=difference)
        return [self._noise(size, seed) for seed in (1, 2)]

    def _noise(self, size: tuple[int, ...], seed: int = 0) -> Any:
        """One example of noise with structure at several scales, in the model's input structure."""
        rng = np.random.default_rng(seed)
        structure = _keras.input_structure(self.model)
        arrays = [
            self._noise_like(t, f, size, rng) for t, f in zip(keras.tree.flatten(structure), self.flags, strict=True)
        ]
        return arrays[0] if len(arrays) == 1 else keras.tree.pack_sequence_as(structure, arrays)

    def _noise_like(self, tensor: Any, image: bool, size: tuple[int, ...], rng: Any) -> np.ndarray:
        if not image:
            return rng.uniform(-1, 1, tensor.shape[1:]).astype("float32")
        channels = tensor.shape[1] if self.first else tensor.shape[-1]
        noise = rng.uniform(0, 1, (*size, channels))
        for step in (4, 16):
            coarse = rng.uniform(0, 1, (*(-(-n // step) for n in size), channels))
            for axis in range(len(size)):
                coarse = np.repeat(coarse, step, axis)
            noise += 2 * coarse[tuple(slice(0, n) for n in size)]
        noise = (noise / 5 * self.scale).astype("float32")
        return np.moveaxis(noise, -1, 0) if self.first else noise


def _per_position(model: Any, options: Mapping[str, Any]) -> dict[int, Callable[..., Any]]:
    """The head's pooling replaced by every position in turn, as a batch: what `pool="drop"` computes."""
    dropped = {step.name for step in plan(model, **options).steps if step.dropped}
    names = unique_names(model)
    stand_ins: dict[int, Callable[..., Any]] = {}
    for _, operation in _keras.operations_of(model):
        if names[id(operation)] in dropped:
            keep = len(operation.output.shape) > 2
            stand_ins[id(operation)] = partial(_rows, pooling=operation, keep=keep)
    return stand_ins


def _rows(x: Any, pooling: Any, keep: bool, **_: Any) -> Any:
    reduced = {a % len(x.shape) for a in axes_of(getattr(pooling, "axis", ()))}
    first = 1 not in reduced if reduced else pooling.data_format == "channels_first"
    x = keras.ops.moveaxis(x, 1, -1) if first else x
    rows = keras.ops.reshape(x, (-1, x.shape[-1]))
    ones = (1,) * (len(x.shape) - 2)
    shape = (-1, x.shape[-1], *ones) if first else (-1, *ones, x.shape[-1])
    return keras.ops.reshape(rows, shape) if keep else rows


def _batch(example: Any) -> Any:
    return keras.tree.map_structure(lambda a: a[None], example)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, as a share of the largest value of the first."""
    a, b = a.astype("float64"), b.astype("float64")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))


def _named(logits: np.ndarray) -> np.ndarray:
    """The class of each row: the largest logit, or the side of a single one; NaN where one is not finite."""
    side = logits.argmax(-1) if logits.shape[-1] > 1 else logits[..., 0] > 0
    return np.where(np.isfinite(logits).all(-1), side, np.nan)


def _spaced(indices: Any) -> list[tuple[int, ...]]:
    every = list(indices)
    return every[:: max(1, math.ceil(len(every) / MOST_WINDOWS))]


def _unaffected(grid: Grid, axis: int, size: int, cells: int) -> int:
    """Number of cells from the start whose field ends within an image of this size."""
    line = grid.axes[axis]
    ends = [line.cell_to_box(i, field=True)[1] for i in range(cells)]
    return next((i for i, end in enumerate(ends) if end > size), cells)


def tolerance_of(model: Any) -> float:
    """Largest error allowed for a model: that of the least precise dtype that one of its layers computes in."""
    found = {getattr(o, "compute_dtype", "float32") for _, o in _keras.operations_of(model)} | {"float32"}
    return max(TOLERANCE[dtype] for dtype in found if dtype in TOLERANCE)
