"""What a model file may announce: refused by its size before any of it is taken into memory.

A few kilobytes can announce gigabytes: a member of a zip archive that unpacks to blanks, an array of a huge shape that
nothing was stored of, a layer of a billion units, a network whose models call each other twice. So what a file holds is
laid beside the file's own size, and what its network needs beside what the file holds.
"""

from __future__ import annotations

import io
import json
import math
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from pathlib import Path
from typing import Any

import h5py
import keras

from fullyconv.errors import ModelFileError
from fullyconv.hdf5_heaps import Buffer, broken_heap, mapped

WEIGHTS = "model.weights.h5"

# Bytes of a member of JSON, unpacked; the largest of keras.applications has 2 MB.
DESCRIPTION = 32_000_000
# How many times its own size a file may hold: Keras packs nothing. Below so many bytes that is not asked.
EXPANSION, FREE = 10, 100_000_000
# Calls of layers, inner models inlined; the largest networks of keras.applications make about 1,000.
CALLS = 10_000
# Models in models.
NESTED = 100
# Weights a network may have beyond twice those its file holds: the state of random layers, and what LoRA adds.
SPARE = 1_000_000

_AGAIN = "Save the model again with model.save, or get the file from its author again."


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A `.keras` file that announces no more than it may.

    Raises:
        ModelFileError: it does, or it is damaged, encrypted, or packed in a way that Keras does not use.
    """
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise ModelFileError(_unreadable(path, error)) from error
    except Exception as error:  # what a file that is no good archive raises depends on where it is bad
        raise ModelFileError(damaged(path, f"its list of members cannot be read ({error})")) from error
    with archive:
        _check_members(path, archive.infolist())
        yield archive


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    name, times = Counter(member.filename for member in members).most_common(1)[0] if members else ("", 0)
    if times > 1:
        raise ModelFileError(damaged(path, f"{times} of its members are called {name!r}"))
    for member in members:
        if member.flag_bits & 1:
            raise ModelFileError(
                f"'{path}' is encrypted, and Keras opens no such file.\n"
                "Unpack it with its password, and pack its members again without one."
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFileError(
                f"'{path}' is refused: its member {member.filename!r} is compressed with a method that Keras does not "
                f"use.\n{_AGAIN}"
            )
        if member.filename.endswith(".json") and member.file_size > DESCRIPTION:
            raise ModelFileError(
                f"'{path}' is refused: its member {member.filename!r} has {member.file_size:,} bytes unpacked, and the "
                f"limit is {DESCRIPTION:,}.\n{_AGAIN}"
            )
    _check_total(path, sum(member.file_size for member in members), "members", " unpacked")


def _check_total(path: Path, announced: int, what: str, how: str = "") -> None:
    """Refuse a file whose parts are larger than it can well hold."""
    size = path.stat().st_size
    limit = max(FREE, EXPANSION * size)
    if announced > limit:
        raise ModelFileError(
            f"'{path}' is refused: its {what} have {announced:,} bytes{how}, and the limit for a file of {size:,} "
            f"bytes is {limit:,}.\n{_AGAIN}"
        )


def read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of a `.keras` file, its checksum compared.

    Raises:
        ModelFileError: it is damaged.
    """
    try:
        return archive.read(name)
    except Exception as error:  # each way of packing raises its own
        raise ModelFileError(damaged(path, f"its member {name!r} cannot be unpacked ({error})")) from error


@contextmanager
def opened_weights(path: Path, archive: zipfile.ZipFile) -> Iterator[h5py.File]:
    """The HDF5 file of weights in a `.keras` file, its checksum compared.

    Raises:
        ModelFileError: it is damaged.
    """
    data = read_member(path, archive, WEIGHTS)
    try:
        file = h5py.File(io.BytesIO(data), "r")
    except Exception as error:  # h5py raises what HDF5 says in many kinds
        raise ModelFileError(damaged(path, f"its member {WEIGHTS!r} is not an HDF5 file ({error})")) from error
    with file:
        _check_heaps(path, data)
        yield file


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file.

    Raises:
        ModelFileError: it is damaged.
        Exception: HDF5 does not open it, and says why in many kinds.
    """
    with h5py.File(path, "r") as file:
        with mapped(path) as data:
            _check_heaps(path, data)
        yield file


def _check_heaps(path: Path, data: Buffer) -> None:
    place = broken_heap(data)
    if place is not None:
        raise ModelFileError(damaged(path, f"its HDF5 string table at byte {place:,} is corrupt"))


def text_of(path: Path, file: h5py.File, name: str) -> str | bytes | None:
    """An attribute of an HDF5 file that is text; None where there is none.

    Raises:
        ModelFileError: it is something else, is larger than a description may be, or cannot be read.
    """
    try:
        if name not in file.attrs:
            return None
        held = file.attrs.get_id(name)
        single = held.shape == () and h5py.check_string_dtype(held.dtype) is not None
        text = file.attrs[name] if single and held.dtype.itemsize <= DESCRIPTION else None
    except Exception as error:  # h5py raises what HDF5 says in many kinds
        raise ModelFileError(damaged(path, f"its attribute {name!r} cannot be read ({error})")) from error
    if not isinstance(text, str | bytes):
        raise ModelFileError(damaged(path, f"its attribute {name!r} is not a text"))
    if len(text) > DESCRIPTION:
        raise ModelFileError(
            f"'{path}' is refused: its attribute {name!r} has {len(text):,} bytes, and the limit is {DESCRIPTION:,}.\n"
            f"{_AGAIN}"
        )
    return text


def parsed(path: Path, where: str, text: str | bytes) -> Any:
    """A value from JSON in a file.

    Args:
        path: The file.
        where: The part of it, such as "config.json".
        text: The part's text.

    Raises:
        ModelFileError: it is not JSON in UTF-8, or is nested too deep.
    """
    try:
        plain = text.decode() if isinstance(text, bytes) else text
        value = json.loads(plain)
        if _SURROGATE.search(plain):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ModelFileError(damaged(path, f"its {where} is nested too deep")) from error
    except UnicodeError as error:
        raise ModelFileError(damaged(path, f"its {where} has text that is not Unicode")) from error
    except ValueError as error:
        raise ModelFileError(damaged(path, f"its {where} is not JSON ({error})")) from error
    return value


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def damaged(path: Path, how: str) -> str:
    """The message for a file that is damaged, or was made so."""
    return f"'{path}' is damaged: {' '.join(how.split())[:300]}.\nCopy or download it again."


def _unreadable(path: Path, error: OSError) -> str:
    return f"'{path}' cannot be read: {error.strerror or error}.\nCheck the path, and whether you may read it."


def count_values(path: Path, file: h5py.File) -> int:
    """How many numbers the arrays of an HDF5 file hold.

    Raises:
        ModelFileError: they are larger than the file can hold, are not numbers, or are kept somewhere else.
    """
    arrays: list[tuple[int, int]] = []
    try:
        link = file.id.links.visit(lambda name, info: name if info.type != h5py.h5l.TYPE_HARD else None, info=True)
        fault = None if link is not None else file.visititems(lambda name, held: _taken(name, held, arrays))
    except Exception as error:  # h5py raises what HDF5 says in many kinds
        raise ModelFileError(damaged(path, f"its arrays cannot be listed ({error})")) from error
    if link is not None:
        fault = f"{link.decode(errors='replace')!r} in it is a link to another place"
    if fault is not None:
        raise ModelFileError(f"'{path}' is refused: {fault}.\n{_AGAIN}")
    _check_total(path, sum(n * width for n, width in arrays), "arrays")
    return sum(n for n, _ in arrays)


def _taken(name: str, held: Any, arrays: list[tuple[int, int]]) -> str | None:
    """Take note of an array: how many values it has, and the bytes of one; what is wrong with it is returned."""
    if not isinstance(held, h5py.Dataset):
        return None
    if held.external or held.is_virtual:
        return f"{name!r} in it keeps its values in another file"
    if held.dtype.kind == "c":
        owner = held.parent.attrs.get("name")
        of = f", of the layer {owner!r}," if isinstance(owner, str) and owner else ""
        return f"{name!r} in it{of} holds complex numbers, with which no network computes"
    if held.dtype.kind not in "biuf" and not (held.dtype.str == "|V2" and _text(held.attrs.get("dtype")) == "bfloat16"):
        return f"{name!r} in it is not an array of numbers"
    arrays.append((math.prod(held.shape) if held.shape is not None else 0, held.dtype.itemsize))
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def check_calls(path: Path, config: Any) -> None:
    """Refuse a network that calls more layers than any has, by its description.

    Raises:
        ModelFileError: it does, or its models are nested too deep.
    """
    calls = _calls(path, config)
    if calls > CALLS:
        many = f"{calls:,}" if calls < 10**15 else "more than 1,000,000,000,000,000"
        raise ModelFileError(
            f"'{path}' is refused: its network calls {many} layers, those of inner models counted for each call, and "
            f"the limit is {CALLS:,}.\nThe largest networks of keras.applications make about 1,000 calls."
        )


def _calls(path: Path, layer: Any, depth: int = 0) -> int:
    """How many layers the call of one makes, those in it included, each time that it is called."""
    if depth > NESTED:
        raise ModelFileError(
            f"'{path}' is refused: its models are nested more than {NESTED} deep.\nGive a model of fewer inner models."
        )
    inner = layer.get("config") if isinstance(layer, dict) else None
    layers = inner.get("layers") or [inner.get("layer")] if isinstance(inner, dict) else []
    if not isinstance(layers, list):
        return 1
    return max(1, sum(_calls(path, other, depth + 1) * _times(other) for other in layers))


def _times(layer: Any) -> int:
    """How often a layer is called in the model that holds it."""
    nodes = layer.get("inbound_nodes") if isinstance(layer, dict) else None
    return max(1, len(nodes)) if isinstance(nodes, list) else 1


_allow: ContextVar[Callable[[str, int], None] | None] = ContextVar("_allow", default=None)
_asked = threading.RLock()  # models are loaded one after the other, or one's method would stay in place of Keras's


@contextmanager
def weights_within(path: Path, held: int) -> Iterator[None]:
    """While it lasts, no layer makes weights that a file with so many values cannot hold.

    Raises:
        ModelFileError: a layer would have.
    """
    made, refusal = 0, None

    def allow(layer: str, size: int) -> None:
        nonlocal made, refusal
        made += size
        if made > 2 * held + SPARE:
            refusal = ModelFileError(
                f"'{path}' is refused: up to its layer {layer!r} the network has {made:,} weights, and the file holds "
                f"{held:,}.\n{_AGAIN}"
            )
            raise refusal

    with _asked:
        kept, token = keras.layers.Layer.add_weight, _allow.set(allow)
        keras.layers.Layer.add_weight = _asking(kept)
        try:
            yield
        except Exception:
            if refusal is not None:
                raise refusal from None  # Keras has put it into an error of its own
            raise
        finally:
            keras.layers.Layer.add_weight = kept
            _allow.reset(token)


def _asking(add_weight: Callable[..., Any]) -> Callable[..., Any]:
    """`Layer.add_weight`, which first asks whether there may be so many more; in other threads nothing is asked."""

    def asking(layer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        allow = _allow.get()
        sizes = shape if isinstance(shape, tuple | list) else (shape,)
        if allow is not None and all(isinstance(n, Integral) for n in sizes):
            allow(str(layer.name), math.prod(map(int, sizes)))
        return add_weight(layer, shape, *args, **kwargs)

    return asking
