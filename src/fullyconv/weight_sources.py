"""A classifier's arrays by the names of its layers: from the model, or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.entering import Entering, Window
from fullyconv.errors import ModelFileError
from fullyconv.geometry import Number
from fullyconv.model_files import read_model
from fullyconv.rules.dense import contracts_last, rows
from fullyconv.rules.rule import Arrange, Map
from fullyconv.walk import need_graph
from fullyconv.weight_files import Weight, opened, read_weight_file, told_apart

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
DENSE = (keras.layers.Dense, keras.layers.EinsumDense)


@dataclass(frozen=True)
class Flattened:
    """The map that the kernel of a Dense layer was trained on.

    Args:
        move: How that kernel becomes the kernel of a convolution.
        size: Spatial size of the map, and its channels.
        stride: Pixels from one position of the map to the next; empty where that is not known.
    """

    move: Arrange
    size: tuple[int, ...]
    stride: tuple[Number, ...] = ()

    def read_by(self, x: Map | None, shape: tuple[int, ...]) -> Arrange | None:
        """How the kernel becomes one of this shape for a network that reads the map `x`; None where it cannot.

        The network may have turned its map as the classifier has: each row goes where its value is read.
        """
        if x is None or x.is_map:
            return self.move if self.move.shape == shape else None
        where = np.moveaxis(x.positions, 0, -1) if x.channels_first and x.positions.ndim > 1 else x.positions
        if (*x.size, x.channels) != self.size or where.shape != shape[:-1]:
            return None
        plain = np.arange(where.size) if self.move.take is None else self.move.take
        take = plain[where.ravel()]
        return Arrange(None if np.array_equal(take, np.arange(take.size)) else take, shape)


@dataclass(frozen=True)
class Source:
    """A classifier's arrays.

    Args:
        what: Its name or its file's, for messages.
        layers: The arrays of each layer.
        objects: The layers themselves; empty where there are only their arrays.
        flattened: What each Dense layer reads, or why that is not known; empty where there are only arrays.
        window: Spatial size of its images, where that is known.
        unread: Why the classifier in its file could not be read, if it holds one.
        model: The classifier, where there is one.
    """

    what: str
    layers: Mapping[str, list[Weight]]
    objects: Mapping[str, Any] = field(default_factory=dict)
    flattened: Mapping[str, Flattened | str] = field(default_factory=dict)
    window: tuple[int, ...] | None = None
    unread: str = ""
    model: keras.Model | None = None


def source_of(weights: keras.Model | str | Path, window: Window) -> Source:
    """The arrays of a classifier, or of its file.

    Raises:
        ModelFileError: the file cannot be read, or does not name its layers.
        UnsupportedModelError: it is neither, or the classifier has no graph.
        WindowError: the window contradicts the classifier's input.
    """
    return _of_file(Path(weights), window) if isinstance(weights, str | Path) else _of_model(weights, window)


def weighted(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a model that have weights, each under a name of its own.

    Where two have one name, those of inner models are named behind these, whatever the order in which they are called.
    """
    found = {id(o): (prefix, o) for prefix, o in _keras.operations_of(model) if getattr(o, "weights", ())}
    return zip(
        told_apart([(o.name, prefix) for prefix, o in found.values()]), [o for _, o in found.values()], strict=True
    )


def _of_model(model: keras.Model, window: Window, what: str = "") -> Source:
    need_graph(model)
    objects = dict(weighted(model))
    layers = {name: list(arrays(name, layer)) for name, layer in objects.items()}
    dense = {name: layer for name, layer in objects.items() if isinstance(layer, DENSE)}
    what = what or repr(model.name)
    if window is None and any(None in x.shape[1:] for x in keras.tree.flatten(_keras.input_structure(model))):
        return Source(what, layers, objects, dict.fromkeys(dense, "the classifier takes any size; give the window"))
    found = Entering(model, window).follow()
    flattened = {name: _flattened(layer, found) for name, layer in dense.items()}
    size = next(x.size for x in found.inputs if x.axes)
    return Source(what, layers, objects, flattened, size, model=model)


def arrays(name: str, layer: Any) -> Iterator[Weight]:
    """The arrays of a layer, those of LoRA folded into the kernel."""
    named = _keras.has_own_weights(layer)
    fetch = _keras.arrays(layer) if named else {}
    for v in layer.weights:
        if not named or v.name in fetch:
            read = fetch[v.name] if named else partial(_keras.value_of, v)
            yield Weight(name, v.name if named else None, name, tuple(v.shape), read)


def _flattened(layer: Any, found: Entering) -> Flattened | str:
    """What a Dense layer reads, or why that is not known."""
    given = found.entering.get(id(layer), [])
    if not given:
        before = repr(found.begun[0]) if found.begun else "the layer"
        return f"nothing is known of what {before} in front of it returns"
    if isinstance(layer, keras.layers.EinsumDense) and not contracts_last(layer):
        return f"it computes {layer.equation!r}, which is more than a product over the last axis"
    if any(len(x.shape) != 1 for x in given):
        return "it is applied along an axis of a map, not to a flattened one"
    moves = [Arrange(rows(x), (*x.size, x.channels, layer.kernel.shape[-1])) for x in given]
    if any(move != moves[0] for move in moves):
        return "it is used more than once, on maps that were flattened in different ways"
    size = (*given[0].size, given[0].channels)
    # Behind an operation without a rule positions are counted anew, so that strides would be those from there on.
    return Flattened(moves[0], size, () if found.begun else tuple(axis.stride for axis in given[0].axes))


def _of_file(path: Path, window: Window) -> Source:
    file = read_weight_file(path)
    try:
        model = _model_in(path)
    except ModelFileError as error:
        return _of_arrays(path, file.weights, unread=str(error).splitlines()[0])
    return _of_arrays(path, file.weights) if model is None else _of_model(model, window, f"'{path}'")


def _of_arrays(path: Path, weights: Sequence[Weight], unread: str = "") -> Source:
    layers: dict[str, list[Weight]] = {}
    for weight in weights:
        if weight.layer is None:
            raise ModelFileError(
                f"'{path}' does not say the names of its layers: an early Keras 3 wrote it.\n"
                "Load it into the classifier with model.load_weights, and give the classifier in its place."
            )
        layers.setdefault(weight.layer, []).append(weight)
    return Source(f"'{path}'", layers, unread=unread)


def _model_in(path: Path) -> keras.Model | None:
    """The classifier in a file, or None where there is none.

    Raises:
        ModelFileError: there is one, which Keras cannot build.
    """
    with opened(path) as file:
        whole = path.suffix == ".keras" or "model_config" in file.attrs
    return read_model(path) if whole else None
