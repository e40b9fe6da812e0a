"""Maps in files, with where their cells lie: NumPy's `.npz`, a TIFF with a page a class, or a Zarr array.

file            the values                                    the rest
.npz            np.load(path)["map"]                          arrays beside it: "window", "stride", "labels", ...
.tif, .tiff     tifffile.imread(path), a page a class         tifffile.TiffFile(path).shaped_metadata[0]
.zarr           zarr.open(path)[:]                            zarr.open(path).attrs
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fullyconv.errors import OutputError
from fullyconv.files import written_whole
from fullyconv.outputs import Folder, check_free

if TYPE_CHECKING:
    from fullyconv.geometry import Grid


def grid_facts(grid: Grid) -> dict[str, Any]:
    """A grid as values JSON has: fractions as floats, and None where a field has no end."""
    return {
        "window": _plain(grid.window),
        "stride": _plain(grid.stride),
        "offset": _plain(grid.offset),
        "receptive_field": [_plain(interval) for interval in grid.receptive_field],
        "exactness": grid.exactness,
        "reasons": list(grid.reasons),
    }


def check_map_name(path: str | os.PathLike[str]) -> None:
    """Refuse a name that says no known form, or one whose package is not installed.

    Raises:
        OutputError: It is one of these.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise OutputError(f"{str(path)!r} has no suffix of a file of maps; use {', '.join(_WRITERS)}.")
    package = {".zarr": "zarr", ".tif": "tifffile", ".tiff": "tifffile"}.get(suffix)
    try:
        importlib.import_module(package or "numpy")
    except ImportError:
        raise OutputError(
            f"{str(path)!r} cannot be written: the package '{package}' is needed and not installed.\n"
            f"Run:  pip install 'fullyconv[scan]'  or write .npz, which needs nothing."
        ) from None


def check_map_free(path: str | os.PathLike[str], overwrite: bool, option: str = "") -> None:
    """Refuse a map that would replace what is there, unless that was asked for; and for Zarr, is a map of ours.

    Args:
        path: The file.
        overwrite: Whether what is there is to be replaced.
        option: The option of the command that gives the path.

    Raises:
        OutputError: It is refused.
    """
    check_free(Path(path), overwrite, option, _ZARR if Path(path).suffix.lower() == ".zarr" else None)


def save_map(
    path: str | os.PathLike[str], values: np.ndarray, facts: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a map, whole or not at all.

    Args:
        path: The file, which replaces one that is there; its ending says which form.
        values: The map `(rows, columns, classes)`.
        facts: What belongs to it, as values JSON has: the window, the stride, the names, ...
        overwrite: Whether a Zarr array, which is a folder, replaces one that this function wrote.

    Raises:
        OutputError: The ending is unknown, the form's package is missing, or it cannot be written there.
    """
    check_map_name(path)
    if Path(path).suffix.lower() == ".zarr":
        check_map_free(path, overwrite)
    with written_whole(path, overwrite) as temporary:
        _WRITERS[Path(path).suffix.lower()](temporary, values, facts)


def _write_npz(path: Path, values: np.ndarray, facts: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        arrays: dict[str, Any] = {name: _array(value) for name, value in facts.items()}
        np.savez(file, map=values, **arrays)


def _array(value: Any) -> np.ndarray:
    """A value as an array that is read without pickle: an end that there is none of is NaN, no names are none."""
    if value is None or value == []:
        return np.array([], str)
    array = np.asarray(value)
    return array if array.dtype.kind != "O" else np.asarray(value, float)


def _write_tiff(path: Path, values: np.ndarray, facts: Mapping[str, Any]) -> None:
    import tifffile  # noqa: PLC0415  an extra

    pages = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    tifffile.imwrite(path, pages, photometric="minisblack", metadata={"axes": "CYX", **facts})


def _write_zarr(path: Path, values: np.ndarray, facts: Mapping[str, Any]) -> None:
    import zarr  # noqa: PLC0415  an extra

    zarr.create_array(str(path), data=values, attributes=dict(facts), dimension_names=_DIMENSIONS, zarr_format=3)


def _is_map(folder: Path) -> bool:
    """Whether a folder is an array that was written here, and holds nothing else."""
    if {part.name for part in folder.iterdir()} - {"zarr.json", "c"}:
        return False
    try:
        array = json.loads((folder / "zarr.json").read_bytes())
        ours = array["dimension_names"] == [*_DIMENSIONS] and set(array["attributes"]) >= _FACTS
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return ours and all(part.name.isdecimal() for part in (folder / "c").rglob("*"))


_DIMENSIONS = ("y", "x", "class")
_FACTS = {"window", "stride", "offset", "receptive_field", "exactness"}
_ZARR = Folder(_is_map, "a map that fullyconv wrote")


_WRITERS: dict[str, Callable[[Path, np.ndarray, Mapping[str, Any]], None]] = {
    ".npz": _write_npz,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".zarr": _write_zarr,
}


def _plain(numbers: Any) -> list[Any]:
    return [None if abs(n) == float("inf") else float(n) if isinstance(n, Fraction) else n for n in numbers]
