"""Every exception this package raises, and nothing else.

    FullyConvError
    ├── UnsupportedModelError(ValueError)     the model as a whole cannot be read or converted
    │   └── UnsupportedLayerError             one or more of its layers have no rule
    ├── GeometryError(ValueError)             sizes, strides or boxes that do not fit
    │   ├── InputTooSmallError                an input smaller than the window
    │   └── WindowError                       the window is missing or is not possible
    ├── ImageError(ValueError)                a picture that cannot be read or does not fit the model
    ├── ModelFileError(ValueError)            a file that holds no model this package can open
    ├── WeightsError(ValueError)              weights that do not fit a model
    ├── LabelError(ValueError)                a class name or a file of labels that does not fit
    ├── OutputError(OSError)                  a result that cannot be written
    ├── ExportError(RuntimeError)             a format the backend does not write, or failed to
    ├── VerificationError(ValueError)         a conversion or a file that failed its proof
    └── BackendError(ImportError)             no usable Keras backend

Messages have three parts: what and where (the first line stands alone in a log), why in the user's terms, and what
to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FullyConvError(Exception):
    """Root of every exception raised on purpose by this package."""


class UnsupportedModelError(FullyConvError, ValueError):
    """The model as a whole cannot be read or converted."""


class GeometryError(FullyConvError, ValueError):
    """Sizes, strides or boxes that do not fit each other."""


class WindowError(GeometryError):
    """The window is missing, or is not one the model can have."""


class ImageError(FullyConvError, ValueError):
    """A picture that cannot be read, or does not fit the model."""


class ModelFileError(FullyConvError, ValueError):
    """A file that holds no model this package can open."""


class WeightsError(FullyConvError, ValueError):
    """Weights that do not fit a model, all mismatches reported together.

    Args:
        what: The first line: which weights do not fit which model.
        mismatches: One line each.
        remedy: What to do.
    """

    def __init__(self, what: str, mismatches: Sequence[str], remedy: str) -> None:
        self.mismatches = tuple(mismatches)
        super().__init__("\n".join([what, *(f"  {line}" for line in mismatches), remedy]))


class LabelError(FullyConvError, ValueError):
    """A class name or a file of labels that does not fit the model."""


class OutputError(FullyConvError, OSError):
    """A result that cannot be written."""


class ExportError(FullyConvError, RuntimeError):
    """A format that the backend does not write, or failed to."""


class VerificationError(FullyConvError, ValueError):
    """A conversion, or a file made of one, that failed its proof."""


class BackendError(FullyConvError, ImportError):
    """No usable Keras backend."""


class InputTooSmallError(GeometryError):
    """An input smaller than the window.

    Args:
        size: Spatial size of the input.
        smallest: The smallest size the model can read.
    """

    def __init__(self, size: Sequence[int], smallest: Sequence[int]) -> None:
        self.size, self.smallest = tuple(size), tuple(smallest)
        super().__init__(
            f"The input is {_by(size)}, smaller than the window of {_by(smallest)}.\n"
            f"The network was trained on {_by(smallest)}: enlarge the image, or pad it, to at least that size."
        )


class UnsupportedLayerError(UnsupportedModelError):
    """One or more layers that have no rule, all of them reported together.

    Args:
        model: Name of the model.
        total: Number of its layers and operations.
        refusals: What was refused, each with its place, reason and remedy.
        before: Name of the last layer that can be converted, or None.
    """

    def __init__(self, model: str, total: int, refusals: Sequence[Refusal], before: str | None = None) -> None:
        self.refusals, self.before = tuple(refusals), before
        many = f"{len(refusals)} of the {total} layers of {model!r}"
        lines = [f"{many} cannot be made convolutional."]
        for refusal in refusals:
            lines.append(f"  {refusal.name!r} ({refusal.kind}, layer {refusal.place}) {refusal.reason}.")
            lines += [f"    {refusal.remedy[0].upper()}{refusal.remedy[1:]}."] if refusal.remedy else []
        if before:
            lines.append(f"  To convert the part before it:  fullyconv.convert(model, until={before!r})")
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Refusal:
    """One layer that was refused: its name, class, place in the model, the reason and what the user can do."""

    name: str
    kind: str
    place: int
    reason: str
    remedy: str = ""


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)
