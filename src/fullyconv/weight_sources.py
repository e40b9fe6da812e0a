"""A classifier's arrays by the names of its layers: from the model, or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.errors import ModelFileError, UnsupportedLayerError
from fullyconv.model_files import read_model
from fullyconv.plan import plan
from fullyconv.rules.rule import Arrange
from fullyconv.walk import unique_names
from fullyconv.weight_files import Weight, opened, read_weight_file

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
Window = int | Sequence[int] | None


@dataclass(frozen=True)
class Source:
    """A classifier's arrays.

    Args:
        what: Its name or its file's, for messages.
        layers: The arrays of each layer.
        layouts: How the kernel of a Dense layer becomes that of a convolution, for the layers where that is known.
    """

    what: str
    layers: Mapping[str, list[Weight]]
    layouts: Mapping[str, Arrange]


def source_of(weights: keras.Model | str | Path, window: Window) -> Source:
    """The arrays of a classifier, or of its file.

    Raises:
        ModelFileError: the file cannot be read, or does not name its layers.
        WindowError: the classifier's input leaves its size open, and no window is given.
    """
    return _of_model(weights, window) if isinstance(weights, keras.Model) else _of_file(Path(weights), window)


def weighted(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a model that have weights, each under a name of its own."""
    names = unique_names(model)
    seen = {id(o): o for _, o in _keras.operations_of(model) if getattr(o, "weights", ())}
    return ((names[key], layer) for key, layer in seen.items())


def _of_model(model: keras.Model, window: Window, what: str = "") -> Source:
    layouts = _layouts(model, window)
    layers = {name: list(arrays(name, layer)) for name, layer in weighted(model)}
    return Source(what or repr(model.name), layers, layouts)


def arrays(name: str, layer: Any) -> Iterator[Weight]:
    """The arrays of a layer, those of LoRA folded into the kernel."""
    named = _keras.has_own_weights(layer)
    fetch = _keras.arrays(layer) if named else {}
    for v in layer.weights:
        if not named or v.name in fetch:
            read = fetch[v.name] if named else partial(_keras.value_of, v)
            yield Weight(name, v.name if named else None, name, tuple(v.shape), read)


def _layouts(model: keras.Model, window: Window) -> dict[str, Arrange]:
    """The layouts of a classifier's Dense layers; empty where it cannot be planned."""
    names = unique_names(model)
    try:
        made = plan(model, window=window)
    except UnsupportedLayerError:
        return {}
    drawn = [recipe.blueprint for recipe in made.recipes if recipe.blueprint is not None]
    kernels = [(names.get(id(b.source)), b.arrange["kernel"]) for b in drawn if b.kind in CONVOLUTIONS and b.arrange]
    return {name: move for name, move in kernels if name is not None and move.shape is not None}


def _of_file(path: Path, window: Window) -> Source:
    file = read_weight_file(path)
    model = _model_in(path)
    if model is not None:
        return _of_model(model, window, f"'{path}'")
    layers: dict[str, list[Weight]] = {}
    for weight in file.weights:
        if weight.layer is None:
            raise ModelFileError(
                f"'{path}' does not say the names of its layers: an early Keras 3 wrote it.\n"
                "Load it into the classifier with model.load_weights, and give the classifier in its place."
            )
        layers.setdefault(weight.layer, []).append(weight)
    return Source(f"'{path}'", layers, {})


def _model_in(path: Path) -> keras.Model | None:
    """The classifier in a file, or None where there is none, or none that Keras can build."""
    with opened(path) as file:
        whole = path.suffix == ".keras" or "model_config" in file.attrs
    try:
        return read_model(path) if whole else None
    except ModelFileError:
        return None
