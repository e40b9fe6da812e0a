"""The commands for what lies around a network: export, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import fullyconv
from fullyconv import doctor as diagnosis
from fullyconv.cli.app import command, no_stderr, prepare
from fullyconv.cli.options import ClassifierOrNetwork, Conversion, Overwrite
from fullyconv.cli.process import say
from fullyconv.files import check_not_read
from fullyconv.outputs import SAVED_MODEL, check_free, check_place


@command
def export(
    source: ClassifierOrNetwork,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The file to write; for tf_saved_model a folder.")
    ],
    options: Conversion,
    format: Annotated[
        Literal["onnx", "openvino", "litert", "tf_saved_model"] | None,
        typer.Option(help="By default what OUT ends in: .onnx, .xml (openvino) or .tflite (litert)."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the converted network for another runtime.

    The file takes any batch and images of any size from the window on. It is run by its own runtime at two sizes and
    compared with the network before it gets its name; where they differ, nothing is written.

    \b
    What is written on which Keras backend (set KERAS_BACKEND):
      openvino         OUT.xml, OUT.bin   openvino, tensorflow
      onnx             OUT.onnx           tensorflow, torch; pip install 'fullyconv[export]'
      litert           OUT.tflite         tensorflow
      tf_saved_model   a folder           tensorflow, jax
    """  # noqa: D301  # the backspace is meant: it keeps the lines apart
    check_not_read(output, [source.name])
    check_place(output)
    check_free(output, overwrite, "-o", SAVED_MODEL if format == "tf_saved_model" else None)
    if output.suffix.lower() == ".xml":
        check_free(output.with_suffix(".bin"), overwrite, "-o")
    prepare()
    from fullyconv.export import check_target

    check_target(output, format, overwrite)
    network = source.converted(options)
    with no_stderr():  # what exporters print; what they raise is told
        written = fullyconv.export(network, output, format, overwrite=overwrite)
    say(written)
    size = sum(path.stat().st_size for path in written.files)
    say(f"Wrote {output} ({size / 1e6:,.1f} MB).")


@command
def doctor(
    start: Annotated[
        bool, typer.Option("--start", help="Start Keras on that backend too, which takes seconds: does it work?")
    ] = False,
) -> None:
    """Say what is installed, what is missing, and which backend will be used.

    Exit code 0 where fullyconv can run, 1 where something keeps it from that. Nothing is changed.
    """
    found = diagnosis.diagnose(start)
    say(found)
    raise typer.Exit(1 if found.problems else 0)
