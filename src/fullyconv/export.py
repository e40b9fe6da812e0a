"""Write a network in the format of another runtime, and compare what is in the file with the network."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from fullyconv import _keras, backend
from fullyconv.convert import FullyConv
from fullyconv.engine import compile
from fullyconv.errors import ExportError, OutputError, UnsupportedModelError, VerificationError, WindowError
from fullyconv.files import written_whole
from fullyconv.finite import check_weights
from fullyconv.formats import FORMATS, Example, Way
from fullyconv.inputs import channels_first
from fullyconv.outputs import SAVED_MODEL, check_free, check_place
from fullyconv.verify import tolerance_of

# How much more than a conversion a file may differ: what is compared is the outputs, and another runtime's order of
# summation adds to the error (at most 4e-6 was measured in float32).
ALLOWANCE = 10
SCALES = (1.0, 1.0, 255.0, 255.0)  # of the images in a batch: what a network can tell apart depends on what it was fed


@dataclass(frozen=True)
class Check:
    """A comparison of a file with its network.

    Args:
        shapes: The shape of each input, `(batch, *spatial, channels)` or as the network has them.
        error: Largest difference of a value, as a share of the largest value of its example and output.
        difference: Difference between two images of the batch by the same measure, or None for a batch of one.
    """

    shapes: tuple[tuple[int, ...], ...]
    error: float
    difference: float | None

    def __str__(self) -> str:
        """The measurement in words."""
        shapes = " and ".join(" x ".join(map(str, shape)) for shape in self.shapes)
        told = "" if self.difference is None else f" (two images differ by {self.difference:.1e})"
        return f"at {shapes}: error {self.error:.1e} of the largest value{told}"


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what was measured on it before.

    Args:
        path: The file, or for a SavedModel the folder.
        format: Its format.
        checks: The comparisons with the network.
        tolerance: Largest error allowed.
        hint: What a user of the file has to know; may be empty.
    """

    path: Path
    format: str
    checks: tuple[Check, ...]
    tolerance: float
    hint: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was written."""
        if self.path.is_dir():
            return tuple(sorted(path for path in self.path.rglob("*") if path.is_file()))
        return (self.path, self.path.with_suffix(".bin")) if self.format == "openvino" else (self.path,)

    def __str__(self) -> str:
        """The measurements in words."""
        return "\n".join([*map(str, self.checks), *([self.hint] if self.hint else [])])


def export(
    model: keras.Model | FullyConv,
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    window: int | Sequence[int] | None = None,
    overwrite: bool = False,
) -> Exported:
    """A file of the network for another runtime, for images of any size, once it has been seen to give the same.

    The batch is left open, and so is each spatial size that the model leaves open. Before it gets its name, the file is
    run by its own runtime at two sizes and two batch sizes and compared with the model; where it does not give the
    same, nothing is left.

    What each backend can write (`fullyconv.formats` has the exceptions):

    | format | file | Keras backends |
    |---|---|---|
    | `"openvino"` | `.xml`, and `.bin` beside it | openvino, tensorflow |
    | `"onnx"` | `.onnx` | tensorflow, torch |
    | `"litert"` | `.tflite` | tensorflow |
    | `"tf_saved_model"` | a folder | tensorflow, jax |

    ONNX needs `pip install 'fullyconv[export]'`.

    Args:
        model: A converted network, or any Keras model that has a graph.
        path: What to write. Its parent folder must exist; a file of this name is replaced.
        format: One of the table's; by default what the ending of the path says.
        window: A spatial size that a `keras.Model` of open sizes can take. A `FullyConv` has its own.
        overwrite: Whether the folder of a SavedModel is replaced too, and a `.bin` that no `.xml` stands beside.

    Returns:
        An `Exported`, with the errors that were measured.

    Raises:
        ExportError: the backend does not write this format, a package is missing, or the exporter failed.
        VerificationError: the file does not give what the model gives.
        OutputError: the path does not fit the format, or cannot be written.
        WindowError: a model of open sizes was given without a window.
        WeightsError: weights are NaN, infinite or complex, or a variance is not above 0; their layers are named.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.export(fullyconv.convert(model), "fcn.docx")
        Traceback (most recent call last):
            ...
        fullyconv.errors.OutputError: 'fcn.docx' does not say which format it is to be.
        End its name in .onnx, .tflite or .xml, or give format='litert', 'onnx', 'openvino' or 'tf_saved_model'.
    """
    network = model.model if isinstance(model, FullyConv) else model
    _check_graph(network)
    size = _window(network, model.window if isinstance(model, FullyConv) else window)
    target = Path(path)
    kind, way = check_target(target, format, overwrite)
    check_weights(network)
    batches = [_images(network, size, SCALES[:1]), _images(network, size, SCALES, more=3)]
    with written_whole(target, overwrite or _pair(kind, target)) as draft:
        _write(network, kind, way, draft, target, partial(_images, network, size, SCALES[:2], max(size, default=0)))
        allowed = ALLOWANCE * tolerance_of(network)
        checks = _checked(network, kind, draft, target, batches, allowed)
    return Exported(target, kind, checks, allowed, FORMATS[kind].hint)


def _check_graph(network: keras.Model) -> None:
    if _keras.graph_of(network) is None:
        name = getattr(network, "name", type(network).__name__)
        raise UnsupportedModelError(
            f"{name!r} has no graph, so it cannot be exported.\nBuild it as a Sequential or Functional model."
        )


def check_target(target: Path, format: str | None = None, overwrite: bool = False) -> tuple[str, Way]:
    """The format of a file that is to be written, and how the running backend writes it.

    Args:
        target: The file.
        format: The format; by default what the file's ending says.
        overwrite: Whether a folder that is there is replaced, or a `.bin` without its `.xml`.

    Raises:
        OutputError: the file does not fit the format, cannot be written, or would replace another.
        ExportError: there is no such format, or it cannot be written here.
    """
    kind = _kind(target, format)
    _check_place(target, kind, overwrite)
    return kind, _way(kind, target)


def _kind(target: Path, format: str | None) -> str:
    """The format that was asked for."""
    formats = _either([repr(name) for name in FORMATS])
    if format is not None and format not in FORMATS:
        raise ExportError(f"format={format!r} is unknown.\nUse {formats}.")
    kind = format or next((n for n, f in FORMATS.items() if f.ending and f.ending == target.suffix.lower()), None)
    if kind is None:
        endings = _either(sorted(f.ending for f in FORMATS.values() if f.ending))
        raise OutputError(
            f"'{target}' does not say which format it is to be.\nEnd its name in {endings}, or give format={formats}."
        )
    return kind


def _check_place(target: Path, kind: str, overwrite: bool) -> None:
    ending = FORMATS[kind].ending
    if ending and target.suffix.lower() != ending:
        raise OutputError(f"'{target}' cannot be written as {kind}: its name must end in {ending}.")
    check_place(target)
    if ending and target.is_dir():
        raise OutputError(f"'{target}' cannot be written: it is a folder.")
    if kind == "tf_saved_model":
        check_free(target, overwrite, folder=SAVED_MODEL)
    elif kind == "openvino":
        check_free(target.with_suffix(".bin"), overwrite or _pair(kind, target))


def _pair(kind: str, target: Path) -> bool:
    """Whether an `.xml` is there, as whose other half its `.bin` is replaced."""
    return kind == "openvino" and target.is_file()


def _way(kind: str, target: Path) -> Way:
    """How the running backend writes a format."""
    running, ways = keras.backend.backend(), FORMATS[kind].ways
    if running not in ways:
        raise ExportError(f"Keras's {running} backend does not write {kind}.\n{_elsewhere(kind, target)}")
    missing = ways[running].missing
    if missing:
        raise ExportError(
            f"Writing {kind} on Keras's {running} backend takes {' and '.join(missing)}, which is not installed.\n"
            f"Install it:  pip install '{next(iter(missing.values()))}'"
        )
    return ways[running]


def _elsewhere(kind: str, target: Path) -> str:
    """On which other backend the format can be had, and by which command."""
    others = [name for name in FORMATS[kind].ways if name != keras.backend.backend()]
    here = [name for name in others if backend.is_installed(name)]
    chosen = (here or others or [""])[0]
    if not chosen:
        return "No other backend writes it: choose another format."
    ending = "" if FORMATS[kind].ending else f" --format {kind}"
    fix = f"KERAS_BACKEND={chosen} fullyconv export FCN.keras -o {target}{ending}"
    install = "" if here else f", after pip install '{backend.PACKAGES[chosen][1]}'"
    return f"The {_either(others)} backend can{install}:  {fix}"


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _images(network: keras.Model, window: Sequence[int], scales: Sequence[float], more: int = 0) -> list[np.ndarray]:
    """Noise for each input: one image a scale, larger than the window, and of another size along each axis."""
    rng, first = np.random.default_rng(0), channels_first(network)
    arrays = []
    for tensor in keras.tree.flatten(_keras.input_structure(network)):
        axis = 2 if first else 1
        sizes = [n or window[i - axis] + more * (1 + i - axis) for i, n in enumerate(tensor.shape[1:], start=1)]
        scale = np.reshape(scales, (-1, *(1 for _ in sizes)))
        arrays.append((rng.uniform(0, 1, (len(scales), *sizes)) * scale).astype(tensor.dtype))
    return arrays


def _window(network: keras.Model, window: int | Sequence[int] | None) -> tuple[int, ...]:
    """A spatial size that the network can take, where it leaves that open."""
    image = next(t for t in network.inputs if len(t.shape) > 2)
    if window is None and None in image.shape[1:]:
        raise WindowError(
            f"{network.name!r} accepts images of any size, so a size to check the file at must be given.\n"
            f"Give one it can take:  fullyconv.export(model, path, window=224)"
        )
    return (window,) * (len(image.shape) - 2) if isinstance(window, int) else tuple(window or ())


def _write(network: keras.Model, kind: str, way: Way, draft: Path, target: Path, example: Example) -> None:
    """Write the draft; what goes wrong in the exporters of others is told in one line."""
    try:
        way.write(network, draft, example)
    except OSError:
        raise
    except Exception as error:
        raise ExportError(
            f"{network.name!r} could not be written as {kind} on Keras's {keras.backend.backend()} backend.\n"
            f"Its exporter says: {_first_line(error)}\n{_elsewhere(kind, target)}"
        ) from error


def _first_line(error: Exception) -> str:
    """What an error says, without Keras's frame around it."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when calling")] or lines
    return f"{type(error).__name__}: {lines[0] if lines else 'nothing'}"[:300]


def _checked(
    network: keras.Model, kind: str, draft: Path, target: Path, batches: list[list[np.ndarray]], allowed: float
) -> tuple[Check, ...]:
    """The comparisons, all within what is allowed."""
    run, checks = compile(network), []
    for arrays in batches:
        wanted = keras.tree.flatten(run(keras.tree.pack_sequence_as(_keras.input_structure(network), arrays)))
        try:
            check = _compared(arrays, wanted, FORMATS[kind].open(draft, network)(arrays))
        except Exception as error:
            raise VerificationError(
                f"'{target}' was not written: at {_shapes(arrays)} it does not run, or gives other shapes.\n"
                f"What runs {kind} says: {_first_line(error)}\n{_elsewhere(kind, target)}"
            ) from error
        if not check.error <= allowed:
            raise VerificationError(
                f"'{target}' was not written: it does not give what the network gives.\n"
                f"{str(check).capitalize()}, where {allowed:.0e} is allowed.\n{_elsewhere(kind, target)}"
            )
        checks.append(check)
    return tuple(checks)


def _compared(arrays: list[np.ndarray], wanted: list[np.ndarray], found: list[np.ndarray]) -> Check:
    shapes = [[y.shape for y in outputs] for outputs in (wanted, found)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"outputs of the shapes {shapes[1]}, where the network gives {shapes[0]}")
    pairs = [(a[i].astype("float64"), b[i]) for a, b in zip(wanted, found, strict=True) for i in range(len(a))]
    error = max(_share(a, b) for a, b in pairs)
    alike = [(i, i + 1) for i in range(0, len(arrays[0]) - 1, 2)]
    difference = max((min(_share(y[i], y[j]) for y in wanted) for i, j in alike), default=None)
    return Check(tuple(a.shape for a in arrays), error, difference)


def _share(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def _shapes(arrays: Sequence[np.ndarray]) -> str:
    return " and ".join(" x ".join(map(str, a.shape)) for a in arrays)
