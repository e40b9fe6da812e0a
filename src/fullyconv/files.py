"""Files written whole or not at all: in a temporary folder beside the target, then moved. And files that are read."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fullyconv.errors import FullyConvError, OutputError

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """A place beside `path`, under the same name in a new folder: what is written there replaces it at the end.

    The folder's name cannot be guessed, and nobody else can enter it. What lies in it besides the file, such as the
    `.bin` of an `.xml`, is moved along. Whatever happens, the folder is removed. Where `path` is a link, the link is
    replaced, and not what it leads to.

    Args:
        path: Where the result belongs: a file, which replaces one that is there, or a folder.
        overwrite: Whether a folder that is there is replaced too, and files that would lie beside it.

    Raises:
        OutputError: It cannot be written there. What was there before stays.
    """
    target = Path(path)
    try:
        _check_place(target, overwrite)
        with _folder_beside(target) as folder:
            yield folder / target.name
            for part in sorted(folder.iterdir(), key=lambda part: part.name == target.name):  # the rest before the file
                _put(part, target.parent / part.name, overwrite or (part.name == target.name and not part.is_dir()))
    except FullyConvError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise OutputError(
            f"{str(target)!r} cannot be written: {reason[:1].lower() + reason[1:].rstrip('.')}."
        ) from None


def check_regular(path: Path, error: type[FullyConvError], what: str) -> None:
    """Refuse to read from what is not a file, such as a named pipe, which would be waited for without end.

    Nothing is opened. A path that leads nowhere is let through: opening it says why.

    Args:
        path: What is to be read.
        error: The error to raise.
        what: What it should be: "a picture".

    Raises:
        FullyConvError: It is a folder, a named pipe, a socket or a device; in the class that was given.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        raise error(f"{str(path)!r} is {kind_of(mode)}, not {what}; give a file.")


def kind_of(mode: int) -> str:
    """What a path leads to, by the mode that `os.stat` returns: "a file", "a folder", "a named pipe", ..."""
    return _KINDS.get(stat.S_IFMT(mode), "not a file")


def check_not_read(path: Path, reads: Iterable[str | os.PathLike[str] | None]) -> None:
    """Refuse to write a file that is read.

    Raises:
        OutputError: it is one of them.
    """
    if any(other is not None and Path(other).resolve() == path.resolve() for other in reads):
        raise OutputError(f"'{path}' is one of the files that are read.\nGive another name to write to.")


def make_folder(path: Path) -> None:
    """Make a folder, and those it lies in, unless it is there.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The folder '{path}' cannot be made: {error.strerror}.\nGive another one with -o."
        raise OutputError(msg) from error


def is_path(source: str) -> bool:
    """Whether a model was named by a path of its file, and not as one of `keras.applications`.

    Example:
        >>> from fullyconv.files import is_path
        >>> is_path("net.keras"), is_path("VGG16")
        (True, False)
    """
    path = Path(source)
    try:
        there = path.exists()
    except OSError:  # too long a name, say: reading it says so
        return True
    return there or bool(path.suffix) or len(path.parts) != 1


def _check_place(target: Path, overwrite: bool) -> None:
    if target.is_dir() and not overwrite:
        raise IsADirectoryError(0, "it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(0, f"there is no folder {str(target.parent)!r}")


@contextlib.contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """A new folder that is gone in the end; on Windows too, where a file that is still open cannot be removed."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fullyconv-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _put(part: Path, target: Path, overwrite: bool) -> None:
    """Move what was written to its place; a folder that was there makes room, and comes back on a failure."""
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(0, f"{target.name!r} is there already")
    if not part.is_dir() or not os.path.lexists(target):
        part.replace(target)
        return
    with _folder_beside(target) as aside:
        old = target.rename(aside / target.name)
        try:
            part.replace(target)
        except BaseException:
            old.rename(target)
            raise
