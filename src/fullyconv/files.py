"""Files written whole or not at all: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from fullyconv.errors import OutputError


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside `path`: what is written there replaces it at the end, and is removed on a failure.

    Args:
        path: Where the result belongs: a file, or a folder whose name ends in `.zarr`.

    Raises:
        OutputError: It cannot be written there. What was there before stays.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        _check_place(target)
        yield temporary
        _put(temporary, target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"{str(target)!r} cannot be written: {reason[:1].lower() + reason[1:]}.") from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            _remove(temporary)


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
    return path.exists() or bool(path.suffix) or len(path.parts) != 1


def _check_place(target: Path) -> None:
    if target.is_dir() and not (target.suffix == ".zarr" and (target / "zarr.json").exists()):
        raise IsADirectoryError(0, "it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(0, f"there is no folder {str(target.parent)!r}")


def _put(temporary: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    temporary.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
