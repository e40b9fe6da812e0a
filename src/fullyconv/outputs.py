"""Whether what is to be written can be, and whether anything would be lost: looked at before the work, not after it."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fullyconv.errors import OutputError
from fullyconv.files import kind_of


@dataclass(frozen=True)
class Folder:
    """A folder that is written as a whole, and may so be replaced as a whole.

    Args:
        ours: Whether a folder that is there is such a one, with nothing else in it.
        what: What it is: "a map that fullyconv wrote".
    """

    ours: Callable[[Path], bool]
    what: str


def check_place(path: Path) -> None:
    """Refuse a path at which no file can be made, by making one beside it, without a name where the system has that.

    Raises:
        OutputError: Its folder is not there or takes no files, or its name is too long.
    """
    folder = path.parent
    try:
        mode = folder.stat().st_mode
        _there(path)
    except FileNotFoundError:
        raise OutputError(
            f"{str(path)!r} cannot be written: there is no folder {str(folder)!r}.\nCreate it first."
        ) from None
    except NotADirectoryError:
        mode = 0
    except (OSError, ValueError) as error:
        raise OutputError(f"{str(path)!r} cannot be written: {_reason(error)}.\nGive another name or place.") from None
    if not stat.S_ISDIR(mode):
        raise OutputError(f"{str(path)!r} cannot be written: {str(folder)!r} is not a folder.\nGive another place.")
    reason = refuses_files(folder)
    if reason:
        raise OutputError(
            f"{str(path)!r} cannot be written: no file can be made in {str(folder)!r} ({reason}).\nGive another place."
        )


def refuses_files(folder: Path) -> str:
    """Why no file can be made in a folder that is there; empty where one can."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return _reason(error)
    return ""


def check_free(path: Path, overwrite: bool, option: str = "", folder: Folder | None = None) -> None:
    """Refuse to replace what is there already, unless that was asked for and it is a file or such a folder.

    Args:
        path: What is to be written.
        overwrite: Whether what is there is to be replaced.
        option: The option of the command that gives the path; empty where a function is called.
        folder: What a folder that is there must be to be replaced; None where a file is written.

    Raises:
        OutputError: It is refused.
    """
    kind = _kind(path)
    if not kind:
        return
    if kind == "a folder" and folder is None:
        raise OutputError(f"{str(path)!r} cannot be written: it is a folder.")
    with_option = f" with {option}" if option else ""
    if not overwrite:
        allow = "--overwrite" if option else "overwrite=True"
        raise OutputError(f"{str(path)!r} is there already.\nGive {allow} to replace it, or another name{with_option}.")
    if kind == "a folder" and folder is not None and (path.is_symlink() or not folder.ours(path)):
        kind = f"a folder that is not just {folder.what}"
    if kind not in ("a file", "a folder"):
        raise OutputError(f"{str(path)!r} is not replaced: it is {kind}.\nGive another name{with_option}.")


def _kind(path: Path) -> str:
    """What is there; empty where nothing is. A link that leads nowhere is replaced like a file."""
    try:
        if not _there(path):
            return ""
        return kind_of(path.stat().st_mode) if path.exists() else "a file"
    except (OSError, ValueError) as error:
        raise OutputError(f"{str(path)!r} cannot be written: {_reason(error)}.\nGive another name or place.") from None


def _there(path: Path) -> bool:
    """Whether anything has this name, a link that leads nowhere included."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _reason(error: OSError | ValueError) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def _is_saved_model(folder: Path) -> bool:
    """Whether a folder is a SavedModel, and holds nothing else."""
    names = {part.name for part in folder.iterdir()}
    return "saved_model.pb" in names and names <= _SAVED_MODEL


_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "keras_metadata.pb", "variables", "assets", "assets.extra"}
SAVED_MODEL = Folder(_is_saved_model, "a SavedModel")
