"""The command that says where the cells of every layer lie: geometry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import fullyconv
from fullyconv import report
from fullyconv.cli.app import command, prepare
from fullyconv.cli.options import Cell, ClassifierOrNetwork, Context, Overwrite, Skip, Window, check_output, parse_cell
from fullyconv.cli.process import say


@command
def geometry(
    source: ClassifierOrNetwork,
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="Show this layer alone.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="PHOTO", help="Draw a cell of the layer on this picture.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.png", help="The drawing to write.")
    ] = None,
    cell: Annotated[
        Cell | None,
        typer.Option(
            parser=parse_cell, metavar="ROW,COLUMN", help="The cell to draw; by default the one in the middle."
        ),
    ] = None,
    window: Window = None,
    context: Context = "window",
    skip: Skip = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Say where the cells of every layer of MODEL lie.

    A table of stride, offset, receptive field and effective padding in pixels. With --image and -o, one cell of the
    layer, or of the last map, is drawn on a photo: what it can see, and where all the others are. No weights are used.
    """
    if (image is None) != (output is None):
        raise typer.BadParameter("--image and -o go together: a drawing needs a photo, and a file to write.")
    if cell is not None and image is None:
        raise typer.BadParameter("--cell is a cell to draw: give a photo with --image, and a file with -o.")
    if image is not None:
        from fullyconv.images import find_pictures

        find_pictures([image])
    if output is not None:
        check_output(output, ".png", ".jpg", ".jpeg", ".webp", reads=(source.name, image), overwrite=overwrite)
    prepare()
    found = fullyconv.geometry(source.without_weights().either(window), window=window, context=context, skip=skip or ())
    shown = found.only(layer) if layer else found
    if as_json:
        typer.echo(json.dumps(shown.as_json(), indent=2))
    else:
        heading, *rows = shown.rows()
        report.show_table(heading, rows, report.terminal())
    if image is not None and output is not None:
        found.save(output, image, layer, cell)
        say(f"Wrote {output}.", err=as_json)
