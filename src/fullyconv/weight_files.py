"""What a weight file holds: arrays under the names of their layers, read without the model they belong to.

Two layouts are read, and told apart by what is in the file, not by its name:

- Keras 2's (`.h5`): a group for each layer of the model in order, its arrays listed in the attribute `weight_names`.
- Keras 3's (`.weights.h5`, and inside `.keras`): a group for each layer under a name made from its class, such as
  `layers/dense_1`, its arrays numbered in `vars`, the layer's own name an attribute of that (older files lack it).
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from fullyconv import _saved
from fullyconv.errors import ModelFileError
from fullyconv.files import check_regular
from fullyconv.model_limits import WEIGHTS, count_values, opened_archive, opened_hdf5, opened_weights

# Groups of Keras 3's layout that hold the state of something else than a layer.
_NO_LAYERS = {"optimizer", "metrics", "seed_generator", "loss_tracker"}


@dataclass(frozen=True)
class Weight:
    """One array of a layer.

    Args:
        layer: The layer's name, or None where the file does not say.
        name: Its own name in the layer, or None where the file does not say.
        place: The layer's place in the file: what Keras finds it by.
        shape: Its shape.
        read: Returns it.
    """

    layer: str | None
    name: str | None
    place: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def kind(self) -> type | None:
        """The layer's class where the file says so: Keras 3 names the layers in a model by their classes."""
        holder, _, last = self.place.rpartition("/")
        return _saved.class_named(re.sub(r"_\d+$", "", last)) if holder.endswith("layers") else None


@dataclass(frozen=True)
class WeightFile:
    """The arrays of a file.

    Args:
        path: The file.
        legacy: Whether it has the layout of Keras 2.
        weights: Its arrays, in the file's order.
    """

    path: Path
    legacy: bool
    weights: tuple[Weight, ...]


def read_weight_file(path: Path) -> WeightFile:
    """What a weight file holds; arrays are read when they are asked for.

    Args:
        path: A `.weights.h5`, `.h5`, `.hdf5` or `.keras` file, of weights alone or of a whole model.

    Raises:
        ModelFileError: there is no such file, or it holds no weights.
    """
    if not path.is_dir():
        check_regular(path, ModelFileError, "a weight file")
    try:
        with _checked(path) as file:
            legacy = legacy_root(file)
            weights = list(_legacy(legacy, path) if legacy is not None else _numbered(file, path))
    except ModelFileError:
        raise
    except Exception as error:  # h5py raises what HDF5 says in many kinds
        raise ModelFileError(_unreadable(path, error)) from error
    if not weights:
        raise ModelFileError(
            f"'{path}' holds no weights of a Keras model.\n"
            "Give a file written by model.save_weights (.weights.h5, or .h5 of Keras 2) or by model.save."
        )
    return WeightFile(path, legacy is not None, tuple(weights))


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file of weights: the file itself, or the one inside a `.keras` file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS) as member, _hdf5(member) as file:
            yield file
    else:
        with _hdf5(path) as file:
            yield file


@contextmanager
def _checked(path: Path) -> Iterator[h5py.File]:
    """The same, within the limits of what a file may announce."""
    with ExitStack() as stack:
        if path.suffix == ".keras" and path.is_file():
            file = stack.enter_context(opened_weights(path, stack.enter_context(opened_archive(path))))
        else:
            file = stack.enter_context(opened_hdf5(path))
        count_values(path, file)
        yield file


def _hdf5(source: Path | IO[bytes]) -> h5py.File:
    return h5py.File(source, "r")


def legacy_root(file: h5py.File) -> Any:
    """The group of a file in Keras 2's layout that lists the layers; None where the layout is Keras 3's."""
    for root in (file, file.get("model_weights")):
        if root is not None and _saved.listed(root, "layer_names"):
            return root
    return None


def _legacy(root: Any, path: Path) -> Iterator[Weight]:
    found: list[tuple[str, str, str]] = []
    for group in _saved.listed(root, "layer_names"):
        names = _saved.listed(_saved.safe_group(root, group), "weight_names")
        owners = [name.rpartition("/")[0].rpartition("/")[2] for name in names]
        several = len(set(owners)) > 1
        found += [(group, name, owner if several else "") for name, owner in zip(names, owners, strict=True)]
    layers = list(dict.fromkeys((group, owner) for group, _, owner in found))
    named = [(owner or group, group if owner else "") for group, owner in layers]
    chosen = dict(zip(layers, told_apart(named), strict=True))
    for group, name, owner in found:
        key = f"{root.name.strip('/')}/{group}/{name}".lstrip("/")
        shape = _saved.safe_dataset(root, f"{group}/{name}").shape
        last = name.rpartition("/")[2].partition(":")[0]
        yield Weight(chosen[group, owner], last, group, tuple(shape), partial(_array, path, key))


def _numbered(file: h5py.File, path: Path) -> Iterator[Weight]:
    groups: list[str] = []
    file.visit(groups.append)
    found: dict[str, tuple[Any, list[str]]] = {}
    for key in groups:
        place, _, last = f"/{key}".rpartition("/")
        place = place.lstrip("/")
        if last == "vars" and _NO_LAYERS.isdisjoint(place.split("/")):
            group = _saved.safe_group(file, key)
            found[place] = group, sorted((n for n in group if n.isdigit()), key=int)
    named = [place for place, (group, numbers) in found.items() if numbers and "name" in group.attrs]
    names = told_apart([(str(found[place][0].attrs["name"]), _above(file, place)) for place in named])
    chosen = dict(zip(named, names, strict=True))
    for place, (group, numbers) in found.items():
        for number in numbers:
            shape = _saved.safe_dataset(group, number).shape
            key = f"{place}/vars/{number}".lstrip("/")
            yield Weight(chosen.get(place), None, place, tuple(shape), partial(_array, path, key))


def _above(file: h5py.File, place: str) -> str:
    """The name of the inner model that holds the layer at this place; empty for the outermost."""
    holder = place.rpartition("/layers/")[0]
    return str(file[f"{holder}/vars"].attrs.get("name", "")) if holder and f"{holder}/vars" in file else ""


def told_apart(names: Sequence[tuple[str, str]]) -> list[str]:
    """A name for each layer, of its own name and that of the inner model that holds it.

    It is the layer's own; where several have one, those in inner models have the model's in front.
    """
    counts = Counter(name for name, _ in names)
    taken: set[str] = set()
    chosen: list[str] = []
    for name, holder in names:
        stem = f"{holder}_{name}" if holder and counts[name] > 1 else name
        candidates = (f"{stem}_{i}" if i else stem for i in range(10**6))
        chosen.append(next(n for n in candidates if n not in taken and (n == name or n not in counts)))
        taken.add(chosen[-1])
    return chosen


def _array(path: Path, key: str) -> np.ndarray:
    try:
        with opened(path) as file:
            data = _saved.safe_dataset(file, key)
            return np.array(data, dtype="bfloat16" if data.attrs.get("dtype") == "bfloat16" else None)
    except Exception as error:  # as above
        raise ModelFileError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    """The message for a file that cannot be read as weights."""
    if not path.exists():
        return f"There is no file '{path}'.\nCheck the path."
    if path.is_dir():
        return f"'{path}' is a folder.\nGive the path of a .weights.h5, .keras or .h5 file."
    reason = re.sub(r"\s+", " ", str(error)).rstrip(".")[:160]
    return f"'{path}' cannot be read as a weight file ({reason}).\nCopy or download it again, or save it anew."
