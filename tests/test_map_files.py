"""Maps in files: the values, where their cells lie, and nothing half-written."""

from __future__ import annotations

import importlib
import json
import math
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from fullyconv import map_files
from fullyconv.errors import OutputError
from fullyconv.files import make_folder, written_whole
from fullyconv.geometry import Axis, Grid
from fullyconv.heatmap import Heatmap

pytestmark = pytest.mark.once  # nothing here differs from backend to backend

FACTS = {
    "window": [8, 8],
    "stride": [4, 4],
    "offset": [0, 0],
    "receptive_field": [[-1, 9], [-1, 9]],
    "exactness": "native",
    "reasons": ["conv pads"],
    "labels": ["cat", "dög"],
    "kind": "probability",
    "picture": "a.png",
    "picture_size": [24, 40],
    "notes": ["Preprocessing: x / 255 ('unit')."],
}


@pytest.fixture
def drawn() -> Heatmap:
    axis = Axis(8).slide(3, left=1, right=1).slide(8, 4)
    values = np.random.default_rng(0).uniform(0, 1, (5, 9, 2)).astype(np.float32)
    return Heatmap(
        values,
        Grid((axis, axis), ("conv pads",)),
        np.zeros((24, 40, 3), np.uint8),
        labels=("cat", "dög"),
        notes=("Preprocessing: x / 255 ('unit').",),
        name="a.png",
    )


def read(path) -> tuple[np.ndarray, dict]:
    """The values and the rest, as the documentation of the module reads them."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["map"], {name: arrays[name].tolist() for name in arrays if name != "map"}
    if path.suffix == ".zarr":
        return zarr.open(path)[:], dict(zarr.open(path).attrs)
    with tifffile.TiffFile(path) as file:
        facts = file.shaped_metadata[0]
        return np.moveaxis(file.asarray(), 0, -1), {name: facts[name] for name in FACTS}


@pytest.mark.parametrize("name", ["m.npz", "m.tif", "m.tiff", "m.zarr"])
def test_values_and_grid_come_back(drawn, tmp_path, name):
    for again in (False, True):  # the second replaces the first
        drawn.save_map(tmp_path / name, overwrite=again)
        assert [path.name for path in tmp_path.iterdir()] == [name]
    values, facts = read(tmp_path / name)
    np.testing.assert_array_equal(values, drawn.map)
    assert values.dtype == np.float32
    assert facts == FACTS


@pytest.mark.parametrize("name", ["m.npz", "m.tif", "m.zarr"])
def test_one_class_without_a_name_and_a_field_without_an_end(tmp_path, name):
    axis = Axis(8, stride=8, field=(-math.inf, math.inf), whole=True)
    Heatmap(np.ones((1, 1, 1), np.float32), Grid((axis, axis)), np.zeros((9, 9, 3))).save_map(tmp_path / name)
    values, facts = read(tmp_path / name) if name != "m.tif" else (tifffile.imread(tmp_path / name)[..., None], None)
    assert values.size == 1
    if facts:
        assert facts["labels"] == []
        assert json.dumps(facts["receptive_field"]) in ("[[null, null], [null, null]]", "[[NaN, NaN], [NaN, NaN]]")


def test_pages_of_a_tiff_are_classes(drawn, tmp_path):
    drawn.save_map(tmp_path / "m.tif")
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert (file.series[0].axes, len(file.pages)) == ("CYX", 2)


def test_axes_of_a_zarr_array_are_named(drawn, tmp_path):
    drawn.save_map(tmp_path / "m.zarr")
    assert zarr.open(tmp_path / "m.zarr").metadata.dimension_names == ("y", "x", "class")


def said(drawn, path, **options) -> str:
    with pytest.raises(OutputError, match=r"\.") as caught:
        drawn.save_map(path, **options)
    return str(caught.value)


def test_maps_that_cannot_be_written(drawn, tmp_path):
    assert said(drawn, "m.png") == "'m.png' has no suffix of a file of maps; use .npz, .tif, .tiff, .zarr."
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "mine").write_text("kept")
    other = tmp_path / "other.zarr"
    assert said(drawn, other) == f"'{other}' is there already.\nGive overwrite=True to replace it, or another name."
    assert said(drawn, other, overwrite=True) == (
        f"'{other}' is not replaced: it is a folder that is not just a map that fullyconv wrote.\nGive another name."
    )
    assert (other / "mine").read_text() == "kept"


@pytest.mark.parametrize("kind", ["group", "array", "with a file", "with a chunk", "link", "broken"])
def test_what_is_not_a_map_alone_is_never_replaced(drawn, tmp_path, kind):
    path = tmp_path / "m.zarr"
    drawn.save_map(path)
    if kind in ("group", "array"):
        shutil.rmtree(path)
        where = {"store": str(path), "name": "mine" if kind == "group" else None}
        zarr.create_array(**where, data=np.ones((2, 2, 2)), dimension_names=("y", "x", "class"))
    elif kind == "link":
        (tmp_path / "there.zarr").symlink_to(path)
        path = tmp_path / "there.zarr"
    else:
        added = {"with a file": "notes.txt", "with a chunk": "c/notes.txt", "broken": "zarr.json"}[kind]
        (path / added).write_text("[1]")
    before = {part: part.read_bytes() for part in path.rglob("*") if part.is_file()}
    assert before
    for overwrite in (False, True):
        assert said(drawn, path, overwrite=overwrite).startswith(f"'{path}' is ")
    assert {part: part.read_bytes() for part in path.rglob("*") if part.is_file()} == before


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path):
    def write() -> None:
        with written_whole(tmp_path / "m.zarr") as draft:
            draft.mkdir()
            (tmp_path / "m.zarr").mkdir()
            (tmp_path / "m.zarr" / "mine").write_text("kept")

    with pytest.raises(OutputError, match=r"m\.zarr' cannot be written: 'm\.zarr' is there already\.$"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["m.zarr"]
    assert (tmp_path / "m.zarr" / "mine").read_text() == "kept"


@pytest.mark.parametrize(("name", "package"), [("m.zarr", "zarr"), ("m.tif", "tifffile")])
def test_a_package_that_is_missing(drawn, tmp_path, monkeypatch, name, package):
    def missing(wanted):
        raise ImportError(wanted)

    monkeypatch.setattr(map_files.importlib, "import_module", missing)
    assert said(drawn, tmp_path / name) == (
        f"'{tmp_path}/{name}' cannot be written: the package '{package}' is needed and not installed.\n"
        "Run:  pip install 'fullyconv[scan]'  or write .npz, which needs nothing."
    )
    assert importlib.util.find_spec(package)


@pytest.mark.parametrize("name", ["m.npz", "m.zarr"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(drawn, tmp_path, name):
    drawn.save_map(tmp_path / name)

    def fail(error: BaseException) -> None:
        with written_whole(tmp_path / name, overwrite=True) as temporary:
            (temporary / "half").mkdir(parents=True) if name == "m.zarr" else temporary.write_bytes(b"half")
            raise error

    with pytest.raises(OutputError, match=f"{name}' cannot be written: no space left on device"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt, match="stop"):
        fail(KeyboardInterrupt("stop"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_array_equal(read(tmp_path / name)[0], drawn.map)


def test_a_folder_that_cannot_be_made(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"\.") as caught:
        make_folder(tmp_path / "file")
    assert str(caught.value) == (
        f"The folder '{tmp_path}/file' cannot be made: File exists.\nGive another one with -o."
    )
