"""How Keras lays out weight files: the part of it that it has no public functions for.

- `keras.src.saving` and `keras.src.legacy.saving` read them: split attributes, and no links out of the file.
- `_walk_saveable` gives the attributes in which a layer looks for what it holds.
- `to_snake_case` makes the names by which layers are found in a container.
- `_save_state` writes weights to a store in memory; public functions write to a path alone.
- `_trainable_variables` and `_non_trainable_variables` are a layer's own, in the order in which Keras saves them.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format
from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group as listed
from keras.src.saving.saving_lib import H5IOStore, _save_state, _walk_saveable
from keras.src.saving.saving_lib import safe_get_h5_dataset as safe_dataset
from keras.src.saving.saving_lib import safe_get_h5_group as safe_group
from keras.src.utils.naming import to_snake_case

from fullyconv.errors import OutputError

__all__ = ["listed", "safe_dataset", "safe_group"]


def class_named(place: str) -> type | None:
    """The class of Keras's own layers that is saved under a name such as conv2d, or None."""
    return _CLASSES.get(place)


_CLASSES = {to_snake_case(name): kind for name, kind in vars(keras.layers).items() if isinstance(kind, type)}


def own_weights(layer: keras.layers.Layer) -> list[Any]:
    """The layer's weights, those of layers inside it left out, in the order in which Keras saves them."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def places(layer: keras.layers.Layer, place: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """A layer or model and all that it holds, each with the place where Keras 3 looks for its weights in a file."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield place, layer
    for attribute, held in _walk_saveable(layer):
        for path, inner in _layers_in(held, attribute, seen):
            yield from places(inner, f"{place}/{path}" if place else path, seen)


def _layers_in(held: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """The layers that an attribute holds; in a container, each under a name made of its class and a number."""
    if isinstance(held, keras.layers.Layer):
        yield path, held
    elif isinstance(held, (dict, list, tuple)) and id(held) not in seen:
        seen.add(id(held))
        used: dict[str, int] = {}
        for inner in held.values() if isinstance(held, dict) else held:
            kind = to_snake_case(type(inner).__name__) if isinstance(inner, keras.layers.Layer) else "container"
            if kind != "container" or isinstance(inner, (dict, list, tuple)):
                used[kind] = used.get(kind, -1) + 1
                yield from _layers_in(inner, f"{path}/{kind}" + (f"_{used[kind]}" if used[kind] else ""), seen)


def load_legacy(group: Any, model: keras.Model, by_name: bool) -> None:
    """Load weights in Keras 2's layout, in order or by the names of the model's layers."""
    load = legacy_h5_format.load_weights_from_hdf5_group
    (legacy_h5_format.load_weights_from_hdf5_group_by_name if by_name else load)(group, model)


def write_weights(model: keras.Model, path: Path) -> None:
    """Write a model's weights as `model.save_weights` does.

    The file is put together in memory: HDF5 ends the process where it meets a full disk.

    Raises:
        OSError: it cannot be written.
    """
    written = io.BytesIO()
    store = H5IOStore(written, mode="w")
    _save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    store.close()
    path.write_bytes(written.getbuffer())


def check_room(model: keras.Model, path: Path) -> None:
    """Refuse to write a model's weights where the disk has less room than they take.

    Raises:
        OutputError: it has.
    """
    needed = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in model.weights)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OutputError(
            f"'{path}' cannot be written: the weights take {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free "
            "there.\nMake room, or write to another disk."
        )
