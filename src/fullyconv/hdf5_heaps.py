"""The heaps of an HDF5 file, where its texts lie: walked before HDF5 does, which goes round in a broken one for ever.

A heap is a run of objects, each with its size in front (HDF5 File Format Specification 3.0, III.E). An object of no
size leads back to itself, and version 1.14.6 of the library follows it: not even Ctrl-C ends that.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEAP = b"GCOL\x01\0\0\0"  # signature, version, and what is reserved: eight bytes that weights do not have by chance
_FRONT, _OBJECT = 16, struct.Struct("<HHIQ")  # of a heap, and of an object: index, references, reserved, size

Buffer = bytes | mmap.mmap


def broken_heap(data: Buffer) -> int | None:
    """Where an HDF5 file has a heap that leads nowhere; None where it has none.

    Args:
        data: The file's bytes.
    """
    start = data.find(_HEAP)
    while start >= 0:
        if not _ends(data, start):
            return start
        start = data.find(_HEAP, start + len(_HEAP))
    return None


def _ends(data: Buffer, start: int) -> bool:
    """Whether the objects of a heap fill it."""
    if start + _FRONT > len(data):
        return False
    end = start + int.from_bytes(data[start + 8 : start + _FRONT], "little")
    at = start + _FRONT
    if not at <= end <= len(data):
        return False
    while at + _OBJECT.size <= end:
        index, _, _, size = _OBJECT.unpack_from(data, at)
        free = index == 0  # what is left of a heap, its front counted
        if free and size < _OBJECT.size:
            return False
        at += size if free else _OBJECT.size + (size + 7) // 8 * 8
    return at <= end


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """The bytes of a file, read where they are looked at."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
