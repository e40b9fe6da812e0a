"""`fullyconv demo`: a trained network from a Python package converted, proved, and used on three photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fullyconv import page, report
from fullyconv.comparison import Comparison, compare
from fullyconv.convert import FullyConv, convert
from fullyconv.demo import pretrained
from fullyconv.engine import Compiled, compile
from fullyconv.errors import VerificationError
from fullyconv.files import make_folder
from fullyconv.heatmap import Heatmap, heatmap
from fullyconv.verify import verify

if TYPE_CHECKING:
    import keras

PHOTOS = ("coffee", "chelsea", "camera")


@dataclass(frozen=True)
class Row:
    """One photo, answered in one pass and by cutting its windows."""

    name: str
    drawn: Heatmap
    compared: Comparison


def run(folder: Path, console: Console) -> None:
    """Convert EfficientNet-Lite0, prove it, draw three photos into a folder, and compare with cutting windows.

    Raises:
        ModelFileError: the packages of `fullyconv[demo]` are missing.
        OutputError: the folder cannot be written.
        VerificationError: the conversion does not hold.
    """
    model = pretrained.efficientnet_lite0()
    labels = pretrained.imagenet_labels()
    report.show(
        console, f"{model.name}, trained on ImageNet's {len(labels)} classes: {model.count_params():,} weights.\n"
    )
    fcn = _converted(model, labels, console)
    classify = compile(model)
    rows = [_compare(classify, model, fcn, name) for name in PHOTOS]
    _show(rows, fcn, console)
    make_folder(folder)
    for row in rows:
        row.drawn.save(folder / f"{row.name}.png")
    page.write(page.find(fcn, rows[0].drawn, rows[0].compared), folder / "report.html")
    fcn.save(folder / f"{model.name}.keras")
    written = ", ".join([*(f"{name}.png" for name in PHOTOS), "report.html"])
    report.show(console, f"\nWrote {written} and {model.name}.keras to {folder}/.")
    report.show(console, f"Open {folder / 'report.html'} in a browser: what {PHOTOS[0]}.png shows, and more.")
    report.show(console, f"Try yours:  fullyconv heatmap {folder / model.name}.keras photo.jpg -o map.png")


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


def _compare(classify: Compiled, model: keras.Model, fcn: FullyConv, name: str) -> Row:
    """One photo both ways."""
    drawn = heatmap(fcn, pretrained.sample_path(name))
    return Row(name, drawn, compare(model, fcn, drawn, fcn.preprocess, classify))


def _show(rows: list[Row], fcn: FullyConv, console: Console) -> None:
    """Print the comparison with cutting windows."""
    window = report.by(fcn.grid.window)
    report.show(console, f"One pass over each photo, against cutting every window of {window} and classifying it:\n")
    heading = ("photo", "pixels", "best window", "windows", "same class", "difference", "one pass", "cut", "times")
    report.show_table(heading, map(_cells, rows), console, right=3)
    report.show(console, "\nsame class: windows for which both name the same of the 1000 classes.")
    report.show(console, "difference: of the probability that differs most in a window, the mean over the windows;")
    report.show(console, "not zero, since a window cut out sees zeros beyond its edge where the pass sees the photo.")


def _cells(row: Row) -> tuple[str, ...]:
    """One row of the comparison, as text."""
    height, width = row.drawn.image.shape[:2]
    best, compared = row.drawn.top[0], row.compared
    return (
        row.name,
        f"{width} x {height}",
        f"{best.label} {best.probability:.2f}",
        str(compared.windows),
        f"{compared.agreement:.0%}",
        f"{compared.difference.mean():.3f}",
        f"{compared.seconds * 1000:.0f} ms",
        f"{compared.cut_seconds * 1000:.0f} ms",
        f"{compared.speedup:.1f}",
    )
