"""The commands that convert a model and say what holds: convert, plan, verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import fullyconv
from fullyconv import report
from fullyconv.cli.app import command, prepare
from fullyconv.cli.options import (
    Classifier,
    Conversion,
    Overwrite,
    Pixels,
    Size,
    check_labels,
    check_output,
    load,
    parse_size,
    parse_window,
    picture,
    warn_of_scaling,
)
from fullyconv.cli.process import say
from fullyconv.errors import OutputError, UnsupportedLayerError, VerificationError


@command
def convert(
    source: Classifier,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.keras", help="The file to write.")],
    options: Conversion,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="MODEL's weights, where they are in a file of their own: .weights.h5, .h5 or .keras."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The names of the classes, to travel in OUT: one a line, or JSON."),
    ] = None,
    pixels: Pixels = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert MODEL, verify the result against it, and write it.

    The result is a plain .keras file that stock Keras opens; where OUT ends in .weights.h5, its weights. It is compared
    with MODEL before it is written; where they differ, nothing is written. A .keras file also keeps what is said of
    labels and pixels, so that heatmap need not be told again.
    """
    from fullyconv.labels import read_labels

    ending = ".h5" if output.name.endswith(".weights.h5") else ".keras"
    check_output(output, ending, reads=(source.name, weights, labels), overwrite=overwrite)
    if ending == ".h5" and (labels or pixels):
        raise OutputError(
            f"'{output}' holds weights alone: what is said of labels and pixels would be lost.\n"
            "End its name in .keras, or leave that out."
        )
    names = read_labels(labels) if labels else None
    prepare()
    from fullyconv.classifier_weights import save

    model = source.open_with(weights)
    planned = fullyconv.plan(model, **options)
    check_labels(planned, names)
    report.show_plan(planned, report.terminal())
    fcn = fullyconv.convert(planned)
    fcn.labels, fcn.preprocess = names, source.preprocess if pixels is None else pixels
    warn_of_scaling(fcn, fcn.preprocess)
    proof = fullyconv.verify(model, fcn)
    say(proof)
    if not (proof.native_ok and proof.size_ok):
        raise VerificationError(f"'{output}' was not written: the conversion does not hold, as the report above says.")
    save(fcn, output)
    say(f"Wrote {output} ({output.stat().st_size / 1e6:,.1f} MB).")


@command
def plan(
    source: Classifier,
    options: Conversion,
    size: Annotated[
        Size | None,
        typer.Option(parser=parse_size, metavar="HxW", help="Say what an image of this size gives and costs."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what each layer of MODEL would become, and what the map would cost.

    Nothing is built or written. Layers that cannot be converted are named, all at once. With --size the map of such an
    image is laid beside cutting windows and beside denser maps; --json has all of it.
    """
    prepare()
    try:
        planned = fullyconv.plan(source.without_weights().classifier(), **options)
    except UnsupportedLayerError as error:
        if as_json:
            typer.echo(json.dumps(report.refusals_as_json(error), indent=2))
        raise
    extent = size[0] if size and len(size) == 1 else size
    if as_json:
        typer.echo(json.dumps(report.plan_as_json(planned, extent), indent=2))
    else:
        report.show_costed_plan(planned, report.terminal(), extent)


@command
def verify(
    source: Classifier,
    fcn: Annotated[Path, typer.Argument(metavar="FCN", help="The converted network, as fullyconv convert wrote it.")],
    image: Annotated[
        list[Path] | None, typer.Option(help="Compare on this picture instead of noise. May be repeated.")
    ] = None,
    pixels: Pixels = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="ERROR.png", help="Draw how far they are apart on each window of the picture."
        ),
    ] = None,
    window: Annotated[
        Size | None, typer.Option(parser=parse_window, metavar="HxW", help="FCN's window, where its file lost it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure whether FCN answers as MODEL does, and say so in words.

    They are compared at MODEL's window, at other sizes, and on every window of a larger image. The exit code is 1 where
    it does not hold.
    """
    if output:
        check_output(
            output, ".png", ".jpg", ".jpeg", ".webp", reads=(source.name, fcn, *(image or ())), overwrite=overwrite
        )
    if output and len(image or ()) > 1:
        msg = f"-o draws the error on one picture, and {len(image or ())} were given with --image."
        raise typer.BadParameter(msg)
    prepare()
    model = source.classifier()
    network = load(fcn, window, source.unsafe)
    if image or output:
        warn_of_scaling(network, pixels or network.preprocess)
    proof = fullyconv.verify(model, network, images=[picture(network, path, pixels) for path in image or ()])
    say(f"{proof}\n\n{report.verdict(proof)}")
    if output:
        from fullyconv.error_map import error_map, noise_picture

        shown = image[0] if image else noise_picture(network)
        error_map(model, network, shown, pixels, proof.tolerance).save(output)
        say(f"Wrote {output}.")
    raise typer.Exit(0 if proof.ok else 1)
