"""`fullyconv demo`: a trained network from a Python package converted, proved, and used on three photos."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from fullyconv import pretrained, report
from fullyconv.convert import FullyConv, convert
from fullyconv.engine import Compiled, compile
from fullyconv.errors import OutputError, VerificationError
from fullyconv.heatmap import Heatmap, heatmap
from fullyconv.preprocessing import preprocess
from fullyconv.reference import at_corners
from fullyconv.verify import verify

if TYPE_CHECKING:
    import keras

PHOTOS = ("coffee", "chelsea", "camera")


@dataclass(frozen=True)
class Comparison:
    """One photo, answered in one pass and by cutting its windows.

    Args:
        name: Name of the photo.
        drawn: Its heat map.
        agreement: Share of the windows for which both name the same class.
        difference: Mean over the windows of the largest difference of a probability.
        seconds: Time of the one pass.
        cut_seconds: Time of cutting the windows and classifying them, in batches.
    """

    name: str
    drawn: Heatmap
    agreement: float
    difference: float
    seconds: float
    cut_seconds: float


def run(folder: Path, console: Console) -> None:
    """Convert EfficientNet-Lite0, prove it, draw three photos into a folder, and compare with cutting windows.

    Raises:
        ModelFileError: the packages of `fullyconv[demo]` are missing.
        OutputError: the folder cannot be written.
        VerificationError: the conversion does not hold.
    """
    model = pretrained.efficientnet_lite0()
    labels = pretrained.imagenet_labels()
    _make(folder)
    report.show(
        console, f"{model.name}, trained on ImageNet's {len(labels)} classes: {model.count_params():,} weights.\n"
    )
    fcn = _converted(model, labels, console)
    classify = compile(model)
    rows = [_compare(classify, model, fcn, name) for name in PHOTOS]
    _show(rows, fcn, console)
    for row in rows:
        row.drawn.save(folder / f"{row.name}.png")
    fcn.save(folder / f"{model.name}.keras")
    report.show(console, f"\nWrote {', '.join(f'{name}.png' for name in PHOTOS)} and {model.name}.keras to {folder}/.")
    report.show(console, f"Try yours:  fullyconv heatmap {folder / model.name}.keras photo.jpg -o map.png")


def _make(folder: Path) -> None:
    """Create a folder, or say why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The folder '{folder}' cannot be made: {error.strerror}.\nGive another one with -o."
        raise OutputError(msg) from error


def _converted(model: keras.Model, labels: list[str], console: Console) -> FullyConv:
    """The network converted, with the table of its conversion and its proof printed."""
    fcn = convert(model)
    fcn.labels, fcn.preprocess = labels, pretrained.LITE0_PREPROCESS
    if fcn.plan is not None:
        report.show_plan(fcn.plan, console, fold=True)
    proof = verify(model, fcn)
    report.show(console, f"\n{proof}\n")
    if not proof.ok:
        raise VerificationError("The conversion does not hold, as the report above says: nothing was written.")
    return fcn


def _compare(classify: Compiled, model: keras.Model, fcn: FullyConv, name: str) -> Comparison:
    """One photo both ways; each is run once before it is timed."""
    image = preprocess(pretrained.sample_image(name), fcn.preprocess)
    drawn = heatmap(fcn, pretrained.sample_path(name))
    corners = [tuple(int(low) for low, _ in fcn.grid.cell_to_box(cell)) for cell in np.ndindex(*drawn.map.shape[:2])]
    _, seconds = _timed(lambda: fcn.predict(image[None]))
    theirs, cut_seconds = _timed(lambda: at_corners(classify, model, image, corners, fcn.window))
    ours = drawn.map.reshape(theirs.shape)
    agreement = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    difference = float(np.abs(ours - theirs).max(-1).mean())
    return Comparison(name, drawn, agreement, difference, seconds, cut_seconds)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the time of the second of two runs."""
    call()
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _show(rows: list[Comparison], fcn: FullyConv, console: Console) -> None:
    """Print the comparison with cutting windows."""
    window = report.by(fcn.grid.window)
    report.show(console, f"One pass over each photo, against cutting every window of {window} and classifying it:\n")
    heading = ("photo", "pixels", "best window", "windows", "same class", "difference", "one pass", "cut", "times")
    report.show_table(heading, map(_cells, rows), console, right=3)
    report.show(console, "\nsame class: windows for which both name the same of the 1000 classes.")
    report.show(console, "difference: of the probability that differs most in a window, the mean over the windows;")
    report.show(console, "not zero, since a window cut out sees zeros beyond its edge where the pass sees the photo.")


def _cells(row: Comparison) -> tuple[str, ...]:
    """One row of the comparison, as text."""
    (height, width), (down, across) = row.drawn.image.shape[:2], row.drawn.map.shape[:2]
    best = row.drawn.top[0]
    return (
        row.name,
        f"{width} x {height}",
        f"{best.label} {best.probability:.2f}",
        str(across * down),
        f"{row.agreement:.0%}",
        f"{row.difference:.3f}",
        f"{row.seconds * 1000:.0f} ms",
        f"{row.cut_seconds * 1000:.0f} ms",
        f"{row.cut_seconds / row.seconds:.1f}",
    )
