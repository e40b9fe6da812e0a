"""What several commands share: the model they are about, how it is converted, the files they read and write."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import fullyconv
from fullyconv.cli.app import Group
from fullyconv.cli.process import say
from fullyconv.errors import GeometryError, ModelFileError, OutputError
from fullyconv.files import check_not_read, is_path
from fullyconv.outputs import check_free, check_place, refuses_files

if TYPE_CHECKING:
    import keras


class Size(tuple[int, ...]):
    """A size given on the command line, such as 224x224."""


def parse_size(text: str, what: str = "a size: write it as 224x224 (height x width)") -> Size:
    """The sizes in a text such as 224x224."""
    parts = text.lower().split("x")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        msg = f"'{text}' is not {what}."
        raise typer.BadParameter(msg)
    return Size(int(part) for part in parts)


def parse_stride(text: str) -> int | Size:
    """The stride in a text such as 8, or 8x16 for one an axis."""
    steps = parse_size(text, "a stride: write it as 8, or as 8x16 (height x width)")
    return steps if len(steps) > 1 else steps[0]


def parse_window(text: str) -> int | Size:
    """The window in a text such as 224x224, or 224 for one that is as high as wide."""
    sizes = parse_size(text)
    return sizes if len(sizes) > 1 else sizes[0]


class Cell(tuple[int, ...]):
    """The row and column of a cell."""


def parse_cell(text: str) -> Cell:
    """The row and column in a text such as 3,4."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        msg = f"'{text}' is no cell: write its row and column as 3,4, counted from 0."
        raise typer.BadParameter(msg)
    return Cell(int(part) for part in parts)


class Numbers(tuple[float, ...]):
    """One number, or one for each channel, such as 0.5 or 0.1,0.2,0.3."""


def parse_numbers(text: str) -> Numbers:
    """The numbers in a text such as 0.1,0.2,0.3."""
    try:
        numbers = Numbers(float(part) for part in text.split(","))
        if not all(map(math.isfinite, numbers)):
            raise ValueError(text)
        return numbers
    except ValueError:
        msg = f"'{text}' is no number: write one, such as 0.5, or one a channel, such as 0.1,0.2,0.3."
        raise typer.BadParameter(msg) from None


Window = Annotated[
    Size | None,
    typer.Option(parser=parse_window, metavar="HxW", help="The size the model was trained on, where it accepts any."),
]
Context = Annotated[
    Literal["window", "global"],
    typer.Option(help="What squeeze-and-excite looks at: the window around each cell, or the whole image."),
]
Skip = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND", help="Drop leading layers that pin the size: 'resizing'. May be repeated."),
]


def _conversion(
    window: Window = None,
    pool: Annotated[
        Literal["window", "drop", "global"],
        typer.Option(
            help="What the head's global pooling becomes: the pooling of each window (exact), nothing (one cell for "
            "each position of the last map: a class activation map), or kept (one answer an image)."
        ),
    ] = "window",
    context: Context = "window",
    stride: Annotated[
        Size | None,
        typer.Option(
            parser=parse_stride, metavar="K|KYxKX", help="Pixels from cell to cell, to divide the network's own."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="LAYER", help="Convert up to this layer and return its map.")
    ] = None,
    skip: Skip = None,
    head: Annotated[
        Literal["convolution", "dense"] | None,
        typer.Option(
            help="What large Dense layers become: convolutions, as on OpenVINO by default, or the same layers on the "
            "windows that crops gather, which Keras runs faster on JAX, PyTorch and TensorFlow."
        ),
    ] = None,
) -> dict[str, Any]:
    """The options of a conversion, by name."""
    return {
        "window": window,
        "pool": pool,
        "context": context,
        "stride": stride,
        "until": until,
        "skip": tuple(skip or ()),
        "head": head,
    }


Conversion = Annotated[dict[str, Any], Group(_conversion)]


@dataclass(frozen=True)
class Source:
    """The model a command is about.

    Args:
        name: Its path, or the name of one of `keras.applications`.
        random_weights: Whether the latter is given random weights.
        unsafe: Whether its file may run code.
    """

    name: str
    random_weights: bool
    unsafe: bool

    def open(self) -> keras.Model:
        """The model; what Keras prints while it fetches weights goes to stderr."""
        from fullyconv.model_files import open_model

        with contextlib.redirect_stdout(sys.stderr):
            return open_model(self.name, random_weights=self.random_weights, unsafe=self.unsafe)

    def classifier(self) -> keras.Model:
        """The model, unless its file holds a converted network."""
        if _is_converted(Path(self.name)):
            raise ModelFileError(
                f"'{self.name}' is converted already.\nGive the classifier that it was converted from as MODEL."
            )
        return self.open()

    @property
    def preprocess(self) -> str | None:
        """How pixels are prepared for it, where it is one of `keras.applications`."""
        from fullyconv.preprocessing import of_application

        return None if is_path(self.name) else of_application(self.name)

    def open_with(self, weights: Path | None) -> keras.Model:
        """The model with the weights of another file, if one is given."""
        if weights is None:
            return self.classifier()
        from fullyconv.classifier_weights import with_weights

        return with_weights(replace(self, random_weights=True).open(), weights)

    def without_weights(self) -> Source:
        """The same, for commands that read the graph alone: nothing is fetched for a name of `keras.applications`."""
        return replace(self, random_weights=True)

    def either(self, window: Size | None) -> keras.Model | fullyconv.FullyConv:
        """The converted network in its file, or else the model."""
        return load(Path(self.name), window, self.unsafe) if _is_converted(Path(self.name)) else self.open()

    def converted(
        self, options: dict[str, Any], labels: Sequence[str] | None = None, classes: Sequence[str] | None = None
    ) -> fullyconv.FullyConv:
        """The converted network in its file, or what the classifier in it is converted to.

        Names and classes that do not fit it are refused before anything is converted.
        """
        planned = self._planned(options)
        check_labels(planned, labels, classes)
        if isinstance(planned, fullyconv.FullyConv):
            return planned
        fcn = fullyconv.convert(planned)
        fcn.preprocess = self.preprocess
        return fcn

    def _planned(self, options: dict[str, Any]) -> fullyconv.Plan | fullyconv.FullyConv:
        """The converted network in its file, or a plan of the classifier in it."""
        if not _is_converted(Path(self.name)):
            return fullyconv.plan(self.open(), **options)
        defaults = _conversion()
        changed = [name for name, value in options.items() if name != "window" and value != defaults[name]]
        if changed:
            raise GeometryError(
                f"'{self.name}' is converted already: --{changed[0]} comes too late.\nGive the classifier, or no "
                f"--{changed[0]}."
            )
        return load(Path(self.name), options["window"], self.unsafe)


Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A .keras, .h5 or .hdf5 file, or a keras.applications name such as VGG16."),
]
Network = Annotated[
    str, typer.Argument(metavar="MODEL", help="A classifier, which is converted first, or a converted network.")
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


def _classifier(model: Model, random_weights: RandomWeights = False, unsafe: Unsafe = False) -> Source:
    """The classifier that was named."""
    if random_weights and is_path(model):
        msg = f"--random-weights is for a name of keras.applications, and '{model}' is a file: leave it out."
        raise typer.BadParameter(msg)
    return Source(model, random_weights, unsafe)


def _network(model: Network, random_weights: RandomWeights = False, unsafe: Unsafe = False) -> Source:
    """The classifier or converted network that was named."""
    return _classifier(model, random_weights, unsafe)


Classifier = Annotated[Source, Group(_classifier)]
ClassifierOrNetwork = Annotated[Source, Group(_network)]
Preprocess = Annotated[
    Literal["tf", "torch", "caffe", "unit", "none"] | None,
    typer.Option(
        help="What the model expects pixels 0..255 to become: -1..1 (tf), ImageNet's mean and deviation (torch), "
        "BGR less the mean (caffe), 0..1 (unit), or nothing (none), as where it scales them itself. By default what a "
        "converted file or keras.applications says of the model."
    ),
]


def _pixels(
    preprocess: Preprocess = None,
    scale: Annotated[
        Numbers | None,
        typer.Option(parser=parse_numbers, metavar="A[,B,C]", help="Multiply pixels 0..255 by this: 0.0078125."),
    ] = None,
    offset: Annotated[
        Numbers | None,
        typer.Option(parser=parse_numbers, metavar="A[,B,C]", help="Then add this, one number or one a channel: -1."),
    ] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="Reverse the channels first: blue, green, red.")] = False,
) -> Any:
    """How pixels are prepared: a mode's name, a dict of scale, offset and bgr, or None."""
    given = {"scale": scale and list(scale), "offset": offset and list(offset), "bgr": bgr or None}
    recipe = {name: value for name, value in given.items() if value is not None}
    if preprocess and recipe:
        msg = f"--preprocess {preprocess} says all of it: give it, or --{next(iter(recipe))} and its like."
        raise typer.BadParameter(msg)
    single = {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in recipe.items()
    }
    return preprocess or single or None


Pixels = Annotated[Any, Group(_pixels)]


Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files that are there already, and folders that are nothing but a map or a SavedModel.",
    ),
]


def check_output(
    path: Path,
    *endings: str,
    reads: Iterable[str | Path | None] = (),
    overwrite: bool = False,
    option: str = "-o",
) -> None:
    """Refuse a file that could not be written, is one of those that are read, or is there already, before the work."""
    check_not_read(path, reads)
    check_ending(path, *endings)
    check_place(path)
    check_free(path, overwrite, option)


def check_ending(path: Path, *endings: str) -> None:
    """Refuse a file whose name ends in none of these."""
    if path.suffix.lower() not in endings:
        lossy = path.suffix.lower() in (".h5", ".hdf5")
        reason = "HDF5 loses a functional model's operations. End its name in" if lossy else "its name must end in"
        msg = f"'{path}' cannot be written: {reason} {' or '.join(endings)}."
        raise OutputError(msg)


def check_folder(path: Path, option: str) -> None:
    """Refuse a folder that could not be made, or written to, before the work is done; make nothing."""
    there = next((folder for folder in (path, *path.parents) if os.path.lexists(folder)), Path())
    reason = refuses_files(there)
    if reason:
        wrong = f"no file can be made in '{there}' ({reason})" if there.is_dir() else f"'{there}' is a file"
        msg = f"The folder '{path}' cannot be used: {wrong}.\nGive another place with {option}."
        raise OutputError(msg)


def check_labels(
    network: fullyconv.Plan | fullyconv.FullyConv, labels: Sequence[str] | None, classes: Sequence[str] | None = None
) -> None:
    """Refuse names of classes, or classes that were asked for, that a network with one output does not have."""
    from fullyconv.labels import find_class, fitting

    count = _channels(network)
    if count is not None:
        names = fitting(getattr(network, "labels", None) if labels is None else labels, count)
        for wanted in classes or ():
            find_class(wanted, names, count)


def _channels(network: fullyconv.Plan | fullyconv.FullyConv) -> int | None:
    """The number of channels of the only output; None where there are several."""
    if isinstance(network, fullyconv.Plan):
        return network.outputs[0].channels if len(network.outputs) == 1 else None
    shapes = [tuple(tensor.shape) for tensor in network.model.outputs]
    return shapes[0][network.grid.channel_axis] if len(shapes) == 1 else None


def load(path: Path, window: Size | None, unsafe: bool) -> fullyconv.FullyConv:
    """The converted network in a file."""
    return fullyconv.load(path, window=window, safe_mode=not unsafe)


def picture(fcn: fullyconv.FullyConv, path: Path, mode: Any) -> Any:
    """A picture as the network takes it."""
    from fullyconv.images import read_image
    from fullyconv.preprocessing import preprocess

    first = fcn.data_format == "channels_first"
    pixels = read_image(path, fcn.model.inputs[0].shape[1 if first else -1], notes=[])
    if any(n < least for n, least in zip(pixels.shape, fcn.window, strict=False)):
        raise fullyconv.InputTooSmallError(pixels.shape[:2], fcn.window)
    return preprocess(pixels.transpose(2, 0, 1) if first else pixels, mode or fcn.preprocess, fcn.data_format)


def warn_of_scaling(fcn: fullyconv.FullyConv, mode: Any) -> None:
    """Print a warning where the network scales pixels itself and this preprocessing does too."""
    from fullyconv import report
    from fullyconv.scaling import twice

    warning = twice(fcn.model, mode)
    if warning:
        say(report.in_commands(warning))


def _is_converted(path: Path) -> bool:
    """Whether the file is a network that this package has converted."""
    from fullyconv.facts import read_facts

    return bool(read_facts(path))
