"""The command `fullyconv`: its frame. Commands are functions made by `command`; each file beside this one has a few.

exit code    the command
0            did what it was asked to
1            failed: something does not hold, is refused, or cannot be read or written
2            was misspelt
130          was stopped by SIGINT, which is Ctrl-C; 143 by SIGTERM, 129 by SIGHUP, as shells count them
141          was left by the reader of what it prints, as in `fullyconv plan VGG16 | head -1`

Errors are a few lines on stderr; `--debug` shows the traceback. A command checks what it is told as far as it can be
without Keras, whose import takes seconds; then it calls `prepare`, which chooses the backend and imports it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from fullyconv import backend, doctor, report
from fullyconv.cli.process import StreamError, complain, say, stoppable
from fullyconv.errors import FullyConvError
from fullyconv.printable import printable


class _Commands(TyperGroup):
    """The commands; what is wrong with how one was called is told as `say` tells it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if hasattr(error, "format_message"):  # click's own, which typer has under no public name
                error.message = printable(error.message)  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    """Print the versions and stop, if that was asked for."""
    if wanted:
        say(doctor.summary())
        raise typer.Exit


@dataclass(frozen=True)
class Group:
    """Options that several commands share, and that become one argument of the command's function.

    Args:
        make: Returns the argument; its parameters are the options.
    """

    make: Callable[..., Any]

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options, by name."""
        return dict(inspect.signature(self.make, eval_str=True).parameters)


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the versions, the backends found and the engine."
        ),
    ] = False,
) -> None:
    """Turn trained Keras classifiers into fully convolutional networks, and prove it.

    A classifier answers for one window, such as 224 x 224 pixels. Its fully convolutional form has the same weights
    and answers at every position of an image of any size.

    \b
    Try it:
      fullyconv demo                                       a trained network, three photos
      fullyconv plan VGG16 --random-weights                what each layer becomes
      fullyconv convert classifier.keras -o fcn.keras      convert, verify, write
      fullyconv heatmap fcn.keras photo.jpg -o map.png     where the classifier sees what
      fullyconv doctor                                     what is installed, what is missing

    fullyconv --install-completion completes commands, options and files in your shell.
    """  # noqa: D301  # the backspace is meant: it keeps the lines apart


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: its shared options made one argument each, its errors reported in a few lines."""
    own = inspect.signature(function, eval_str=True).parameters
    groups = {name: group for name, p in own.items() for group in get_args(p.annotation) if isinstance(group, Group)}
    shared = {option: p for group in reversed(groups.values()) for option, p in group.options.items()}
    arguments = {name: p for name, p in shared.items() if _is_argument(p)}
    options = arguments | {name: p for name, p in own.items() if name not in groups} | shared

    @functools.wraps(function)
    def run(*, debug: bool, **given: Any) -> None:
        try:
            with stoppable():
                made = {
                    name: g.make(**{option: given.pop(option) for option in g.options}) for name, g in groups.items()
                }
                function(**made, **given)
                sys.stdout.flush()
        except (typer.Exit, typer.BadParameter):
            raise
        except (Exception, KeyboardInterrupt) as error:
            code, message = _end(error)
            if debug and code == 1:
                raise
            complain(message)
            raise typer.Exit(code) from None

    options["debug"] = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in options.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return app.command()(run)


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(part, typer.models.ArgumentInfo) for part in get_args(parameter.annotation))


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _end(error: BaseException) -> tuple[int, str]:
    """The exit code after an error, and what to print."""
    if isinstance(error, KeyboardInterrupt):
        return getattr(error, "exit_code", 130), "Stopped."
    if isinstance(error, StreamError):
        return error.exit_code, error.message
    return 1, _message(error)


def _message(error: BaseException) -> str:
    """What to print for an error: its message, or for one nobody foresaw its first line and where to find more."""
    if isinstance(error, FullyConvError):
        return f"Error: {report.in_commands(str(error))}"
    first = (str(error).strip() or "no message").splitlines()[0][:200]
    return f"Error: {type(error).__name__}: {first}\nThis was not foreseen; --debug shows where it happened."


def prepare() -> None:
    """Choose this process's backend and quiet what other libraries print, unless Keras is there already."""
    if "keras" in sys.modules:
        return
    if not backend.chosen() and not backend.is_installed(backend.configured()):
        say(
            f"Using Keras's OpenVINO backend: KERAS_BACKEND is not set, and {backend.configured()} is not installed.",
            err=True,
        )
        os.environ[backend.VARIABLE] = "openvino"
    backend.require()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    with no_stderr():
        import absl.logging
        import keras  # noqa: F401
    absl.logging.set_verbosity(absl.logging.ERROR)


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Drop what is written to the process's stderr, by C++ too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
