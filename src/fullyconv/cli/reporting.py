"""The command that writes a page: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fullyconv
from fullyconv.cli.app import command, prepare
from fullyconv.cli.options import Classifier, Conversion, Overwrite, Pixels, check_labels, check_output
from fullyconv.cli.process import say


@command
def report(
    source: Classifier,
    options: Conversion,
    pixels: Pixels,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.html", help="The page to write.")],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="NAME_OR_INDEX", help="A class to show; the five best if none. May be repeated."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The names of the classes: one a line, or a JSON list.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write what MODEL sees in IMAGE, and what converting it does, as one HTML page.

    The page has heat maps, the geometry drawn on the picture, how often cells agree with windows cut out, how long
    both take, and what each layer became. It needs no other file and no network.
    """
    from fullyconv.labels import read_labels

    check_output(output, ".html", ".htm", reads=(source.name, image, labels), overwrite=overwrite)
    names = read_labels(labels) if labels else None
    prepare()
    planned = fullyconv.plan(source.classifier(), **options)
    check_labels(planned, names, classes)
    mode = pixels or source.preprocess
    fullyconv.write_report(planned, image, output, classes=classes or None, preprocess=mode, labels=names)
    say(f"Wrote {output} ({output.stat().st_size / 1e6:,.1f} MB). Open it in a browser.")
