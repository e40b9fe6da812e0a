"""How a command speaks to the world, and what ends it from outside: a signal, a reader that went away, a full disk."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

import typer

from fullyconv.printable import printable

BROKEN_PIPE = 128 + 13  # what a shell reports of a program whose reader went away
PATIENCE = 1.0  # seconds in which further signals are taken for the same wish, so that what is cleaned up is


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.exit_code = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """While this lasts, SIGINT, SIGTERM and SIGHUP raise `Stopped`, unless the process ignores or handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    kept = {number: signal.getsignal(number) for number in names}
    unhandled = [n for n, handler in kept.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    stop = _Stop()
    try:
        for number in unhandled:
            signal.signal(number, stop)
        yield
    except Exception as error:
        if stop.number is None:
            raise
        raise Stopped(stop.number) from error  # it was raised where it could not be passed on, such as inside HDF5
    finally:
        for number in unhandled:
            signal.signal(number, kept[number])


class _Stop:
    """A handler that raises once, and again where that was long ago and had no effect."""

    def __init__(self) -> None:
        self.last = -PATIENCE
        self.number: int | None = None

    def __call__(self, number: int, _: Any) -> None:
        if time.monotonic() - self.last >= PATIENCE:
            self.last, self.number = time.monotonic(), number
            raise Stopped(number)


class StreamError(Exception):
    """Standard output or standard error cannot be written.

    Args:
        name: Which of them.
        error: Why.
    """

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name} cannot be written: {(error.strerror or str(error)).lower()}.")
        self.exit_code = BROKEN_PIPE if isinstance(error, BrokenPipeError) else 1
        self.message = "" if isinstance(error, BrokenPipeError) else f"Error: {self}"


class _Stream(io.TextIOWrapper):
    """A standard stream whose failures cannot be taken for those of another file; what it still holds is lost."""

    def write(self, text: str) -> int:
        """Write a text."""
        with self._named():
            return super().write(text)

    def flush(self) -> None:
        """Write what is held."""
        with self._named():
            super().flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  else the interpreter tries again when it ends
                os.dup2(nowhere.fileno(), self.fileno())
            raise StreamError("Standard output" if self is sys.stdout else "Standard error", error) from None


def open_streams() -> None:
    """Make failures of stdout and stderr known as such.

    Those that were closed before the process started (`>&-`) are opened, to nowhere: a file that is written must not
    come in their place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
        if number == 0:
            sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        else:
            stream = getattr(sys, name)
            if stream is None or hasattr(stream, "buffer"):  # else another program has put its own in the place
                setattr(sys, name, _named(number, stream))


def _named(number: int, stream: TextIO | None) -> _Stream:
    if stream is None:
        return _Stream(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), encoding="utf-8", line_buffering=True)
    lines = getattr(stream, "line_buffering", False)
    return _Stream(stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=lines)


def say(what: object, err: bool = False) -> None:
    """Print a text, as every command does: nothing in it, such as a name from a file, is obeyed by a terminal."""
    typer.echo(printable(str(what)), err=err)


def complain(text: str) -> None:
    """Print a text to stderr, unless it is empty or cannot be written."""
    with contextlib.suppress(StreamError):
        if text:
            say(text, err=True)
