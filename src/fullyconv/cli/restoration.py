"""The command that goes back: classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fullyconv
from fullyconv.cli.app import command, prepare
from fullyconv.cli.options import Overwrite, Size, Unsafe, check_output, load, parse_window
from fullyconv.cli.process import say
from fullyconv.errors import VerificationError


@command
def classifier(
    fcn: Annotated[Path, typer.Argument(metavar="FCN", help="A converted network, trained further or not.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.keras", help="The file to write.")],
    like: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="The classifier it was made from: its layers and settings come back."),
    ] = None,
    window: Annotated[
        Size | None, typer.Option(parser=parse_window, metavar="HxW", help="FCN's window, where its file lost it.")
    ] = None,
    unsafe: Unsafe = False,
    overwrite: Overwrite = False,
) -> None:
    """Make FCN the classifier again that it is at its window.

    The head's convolutions become Dense layers with FCN's weights. The classifier is compared with FCN before it is
    written; where they differ, nothing is written.
    """
    from fullyconv.files import written_whole

    check_output(output, ".keras", reads=(fcn, like), overwrite=overwrite)
    prepare()
    from fullyconv._saved import check_room
    from fullyconv.model_files import open_model

    network = load(fcn, window, unsafe)
    model = fullyconv.to_classifier(network, like=open_model(like, unsafe=unsafe) if like else None)
    proof = fullyconv.verify(model, network)
    say(f"Native error {proof.native_error:.1e}, at most {proof.tolerance:.0e} is allowed.")
    if not proof.native_ok:
        raise VerificationError(f"'{output}' was not written: it does not answer as '{fcn}' does at its window.")
    with written_whole(output) as draft:
        check_room(model, output)
        model.save(draft)
    say(f"Wrote {output} ({output.stat().st_size / 1e6:,.1f} MB).")
