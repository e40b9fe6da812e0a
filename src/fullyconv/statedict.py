"""PyTorch weight files read without PyTorch, and without running anything they might contain.

A `.pth` file is a pickle, and a pickle is a program. The reader here knows three names: an ordered dictionary, a tensor
over a block of numbers, and the kinds of such blocks. Every other name is refused before anything is called.

The layout read is the one PyTorch wrote up to version 1.5 (no zip): five pickles one after the other (a magic number, a
protocol number, facts about the machine, the dictionary, the keys of the blocks), then each block: its length as an
8-byte integer, and its numbers, little-endian.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np

from fullyconv.errors import ModelFileError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The named arrays of a PyTorch weight file.

    Args:
        path: a file written by `torch.save(model.state_dict())` in the layout without zip.

    Raises:
        ModelFileError: it is no such file, is cut short, or holds anything besides named tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise ModelFileError(f"'{path}' cannot be read: {error.strerror}.") from None
    except ModelFileError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"'{path}' is no complete PyTorch weight file ({reason}).") from None


class _Reader(pickle.Unpickler):
    """An unpickler that can make ordered dictionaries and tensors, and nothing else."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self.path, self.limit = path, path.stat().st_size
        self.blocks: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return np.dtype(_STORAGES[name])
        raise ModelFileError(
            f"'{self.path}' asks for {module}.{name}, and only tensors are read from weight files; nothing was run."
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, length, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, np.dtype):
            raise ModelFileError(f"'{self.path}' holds something else than plain tensors.")
        if not 0 <= length * dtype.itemsize <= self.limit:
            raise ModelFileError(f"'{self.path}' is cut short: it announces more numbers than it holds.")
        return self.blocks.setdefault(key, np.zeros(length, dtype))


def _tensor(block: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    """A view of a block, as PyTorch describes it: numbers are filled in once the blocks are read."""
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or (0 not in shape and last >= block.size):
        raise ValueError("a tensor reaches beyond its numbers")
    steps = [s * block.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(block[offset:], shape, steps, writeable=False)


def _read(file: IO[bytes], path: Path) -> dict[str, np.ndarray]:
    if file.read(len(_ZIP)) == _ZIP:
        raise ModelFileError(f"'{path}' has PyTorch's zip layout, and only the older one without zip is read here.")
    file.seek(0)
    reader = [_Reader(file, path).load() for _ in range(3)]
    if reader[:2] != [_MAGIC, _PROTOCOL]:
        raise ModelFileError(f"'{path}' is no PyTorch weight file: it does not begin with the magic number of one.")
    body = _Reader(file, path)
    state, keys = body.load(), _Reader(file, path).load()
    for key in keys:
        _fill(body.blocks[key], file, path)
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        raise ModelFileError(f"'{path}' holds something else than named tensors.")
    return {str(name): np.array(array) for name, array in state.items()}


def _fill(block: np.ndarray, file: IO[bytes], path: Path) -> None:
    length = int.from_bytes(file.read(8), "little")
    data = file.read(block.nbytes)
    if length != block.size or len(data) != block.nbytes:
        raise ModelFileError(f"'{path}' is cut short: a tensor's numbers are missing.")
    block[:] = np.frombuffer(data, block.dtype)
