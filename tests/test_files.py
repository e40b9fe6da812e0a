"""Files: what is read is a file, and what is written is there whole, under nobody else's name, or not at all."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import pytest

from fullyconv.errors import LabelError, OutputError
from fullyconv.files import check_regular, written_whole

pytestmark = pytest.mark.once  # nothing here differs from backend to backend


def written(path: Path, text: str = "new") -> Path:
    """The place where a file was written before it got its name."""
    with written_whole(path) as draft:
        draft.write_text(text)
    return draft


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------------- reading


def refusal(path: Path) -> str:
    with pytest.raises(LabelError, match=r"\.") as caught:
        check_regular(path, LabelError, "a file of labels")
    return str(caught.value)


def test_only_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    for name, kind in {
        "pipe": "a named pipe",
        "folder": "a folder",
        "link": "a named pipe",
        "socket": "a socket",
    }.items():
        assert refusal(Path(name)) == f"'{name}' is {kind}, not a file of labels; give a file."
    assert refusal(Path("/dev/zero")) == "'/dev/zero' is a device, not a file of labels; give a file."


def test_files_and_paths_that_lead_nowhere_pass(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "link", tmp_path / "no", Path("a\0b"), Path("a" * 300)):
        check_regular(path, LabelError, "a file of labels")


# ------------------------------------------------------------------------------------------------------- writing


def test_a_temporary_name_cannot_be_guessed_or_entered(tmp_path):
    target = tmp_path / "net.weights.h5"
    with written_whole(target) as draft:
        assert (draft.name, draft.parent.parent) == (target.name, tmp_path)
        assert re.fullmatch(r"\.fullyconv-\w{8,}", draft.parent.name)
        assert stat.S_IMODE(draft.parent.stat().st_mode) == 0o700
        draft.write_text("new")
    assert written(target).parent != draft.parent
    assert names(tmp_path) == [target.name]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("kept")
    (tmp_path / "out.png").symlink_to("precious")
    written(tmp_path / "out.png")
    assert not (tmp_path / "out.png").is_symlink()
    assert ((tmp_path / "out.png").read_text(), (tmp_path / "precious").read_text()) == ("new", "kept")
    (tmp_path / "m.png").symlink_to("folder")
    with pytest.raises(OutputError, match=r"m\.png' cannot be written: it is a folder\.$"):
        written(tmp_path / "m.png")
    assert (tmp_path / "folder" / "mine").read_text() == "kept"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        written(tmp_path / "a.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")])
def test_nothing_is_left_of_what_failed(tmp_path, error):
    (tmp_path / "a.csv").write_text("old")

    def fail() -> None:
        with written_whole(tmp_path / "a.csv") as draft:
            draft.write_text("half")
            (draft.parent / "beside").write_text("half")
            raise error

    with pytest.raises((OutputError, KeyboardInterrupt, RuntimeError)):
        fail()
    assert names(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_errors_of_ours_are_told_as_they_are(tmp_path):
    with pytest.raises(LabelError, match=r"^There is no class 7\.$"), written_whole(tmp_path / "a.csv"):
        raise LabelError("There is no class 7.")


def test_what_lies_beside_the_file_comes_along(tmp_path):
    with written_whole(tmp_path / "net.xml") as draft:
        draft.write_text("graph")
        draft.with_suffix(".bin").write_text("weights")
    assert names(tmp_path) == ["net.bin", "net.xml"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    target = tmp_path / "m.zarr"
    target.mkdir()
    (target / "zarr.json").write_text("old")
    replace = Path.replace

    def full(part: Path, to: Path) -> Path:
        if to == target:
            raise OSError(28, "No space left on device")
        return replace(part, to)

    def write() -> None:
        with written_whole(target, overwrite=True) as draft:
            draft.mkdir()
            (draft / "zarr.json").write_text("new")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OutputError, match=r"m\.zarr' cannot be written: no space left on device\.$"):
            write()
    assert (target / "zarr.json").read_text() == "old"
    write()
    assert (target / "zarr.json").read_text() == "new"
    assert names(tmp_path) == ["m.zarr"]


def test_places_where_nothing_can_be_written(tmp_path):
    for path, reason in {
        tmp_path / "no" / "a.png": f"there is no folder '{tmp_path}/no'",
        tmp_path: "it is a folder",
        tmp_path / ("a" * 300): "file name too long",
    }.items():
        with pytest.raises(OutputError, match=r"\.$") as caught:
            written(path)
        assert str(caught.value) == f"'{path}' cannot be written: {reason}."
    assert names(tmp_path) == []
