"""The command: what it prints and writes, its exit codes, and the whole text of its errors."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

import fullyconv
from fullyconv import report
from fullyconv.cli import app
from fullyconv.cli.pictures import DEMO_FILES


def small(activation: str = "softmax") -> keras.Model:
    """A classifier of windows of 12 x 10 pixels, without padding."""
    keras.utils.set_random_seed(3)
    stack = [
        keras.Input((12, 10, 3)),
        layers.Conv2D(8, 3, activation="relu", bias_initializer="normal", name="conv"),
        layers.MaxPooling2D(2, name="pool"),
        layers.Flatten(name="flatten"),
        layers.Dense(4, activation=activation, bias_initializer="normal", name="logits"),
    ]
    return keras.Sequential(stack, name="small")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a model, a photo and names of classes in it."""
    monkeypatch.chdir(tmp_path)
    small().save("small.keras")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")
    Image.fromarray(pixels).save("photo.png")
    Path("names.txt").write_text("ant\nbee\ncat\ndog\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def done_lines(*arguments: str) -> list[str]:
    """What a command that succeeds prints."""
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def failure(*arguments: str, code: int = 1) -> str:
    """What a command that fails says on stderr."""
    done = run(*arguments)
    assert done.exit_code == code, done.output
    return done.stderr.rstrip("\n")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def process(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; a variable that is None is unset."""
    merged = {**os.environ, **variables}
    environment = {name: value for name, value in merged.items() if value is not None}
    command = [sys.executable, "-m", "fullyconv", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


# ------------------------------------------------------------------------------------------------------------ convert


def test_convert_verifies_and_writes_a_plain_model(folder: Path):
    done = run("convert", "small.keras", "-o", "fcn.keras")
    assert done.exit_code == 0, done.stderr
    assert files(folder) == {"small.keras", "photo.png", "names.txt", "fcn.keras"}
    assert keras.models.load_model("fcn.keras").output_shape == (None, None, None, 4)
    table = done.stdout.splitlines()
    assert table[0].split() == ["layer", "becomes", "at", "the", "window"]
    assert "logits   Dense -> Conv2D 5 x 4, 4 filters  1 x 1 x 4" in table
    assert "window 12 x 10, stride 2 x 2, field 12 x 10" in table
    assert "Exact means: every cell equals the classifier on its window." in table
    assert str(fullyconv.verify(small(), fullyconv.load("fcn.keras"))).split(" ", maxsplit=1)[0] in done.stdout
    assert table[-1].startswith("Wrote fcn.keras (")


def test_convert_replaces_an_older_file_where_it_is_told_to(folder: Path):
    Path("fcn.keras").write_text("older")
    assert run("convert", "small.keras", "-o", "fcn.keras").exit_code == 1
    assert Path("fcn.keras").read_text() == "older"
    assert run("convert", "small.keras", "-o", "fcn.keras", "--overwrite").exit_code == 0
    assert fullyconv.load("fcn.keras").window == (12, 10)


def test_convert_writes_nothing_that_does_not_hold(folder: Path, monkeypatch: pytest.MonkeyPatch):
    class Failed:
        ok = native_ok = size_ok = False

    monkeypatch.setattr(fullyconv, "verify", lambda *_: Failed())
    assert failure("convert", "small.keras", "-o", "fcn.keras") == (
        "Error: 'fcn.keras' was not written: the conversion does not hold, as the report above says."
    )
    assert "fcn.keras" not in files(folder)


def test_convert_options_reach_the_plan(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen = {}
    plan = fullyconv.plan

    def spy(model: keras.Model, **options: object) -> fullyconv.Plan:
        seen.update(options)
        return plan(model)

    monkeypatch.setattr(fullyconv, "plan", spy)
    options = ["--window", "12x10", "--pool", "drop", "--context", "global", "--until", "pool", "--skip", "resizing"]
    options += ["--head", "dense"]
    assert run("convert", "small.keras", "-o", "fcn.keras", "--stride", "1x2", *options).exit_code == 0
    wanted = {"window": (12, 10), "pool": "drop", "context": "global", "until": "pool", "skip": ("resizing",)}
    assert seen == wanted | {"stride": (1, 2), "head": "dense"}


@pytest.mark.parametrize(("given", "stride"), [("1", (1, 1)), ("1x2", (1, 2))])
def test_convert_makes_denser_maps(folder: Path, given: str, stride: tuple[int, int]):
    done = run("convert", "small.keras", "-o", "fcn.keras", "--stride", given)
    assert done.exit_code == 0, done.stderr
    assert f"window 12 x 10, stride {given[0]} x {given[-1]}, field 12 x 10" in done.stdout.splitlines()
    assert fullyconv.load("fcn.keras").grid.stride == stride
    assert run("verify", "small.keras", "fcn.keras").exit_code == 0


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("fcn.h5", "'fcn.h5' cannot be written: HDF5 loses a functional model's operations. End its name in .keras."),
        ("fcn.png", "'fcn.png' cannot be written: its name must end in .keras."),
        ("no/fcn.keras", "'no/fcn.keras' cannot be written: there is no folder 'no'.\nCreate it first."),
        ("dir.keras", "'dir.keras' cannot be written: it is a folder."),
    ],
)
def test_outputs_that_cannot_be(folder: Path, output: str, message: str):
    Path("dir.keras").mkdir()
    assert failure("convert", "small.keras", "-o", output) == f"Error: {message}"


def test_refused_layers_are_named(folder: Path):
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, name="conv")(x)
    y = layers.Dense(2, name="logits")(layers.LSTM(4, name="rows")(layers.Reshape((6, 24), name="lines")(y)))
    keras.Model(x, y, name="reader").save("reader.keras")
    text = failure("convert", "reader.keras", "-o", "fcn.keras")
    assert text.startswith("Error: 1 of the ")
    assert "'rows' (LSTM, layer " in text
    assert "fcn.keras" not in files(folder)


def test_window_missing(folder: Path):
    x = keras.Input((None, None, 3))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
    keras.Model(x, layers.Dense(2)(y), name="open").save("open.keras")
    assert "so its window must be given" in failure("convert", "open.keras", "-o", "fcn.keras")
    assert run("convert", "open.keras", "-o", "fcn.keras", "--window", "16x16").exit_code == 0


# ----------------------------------------------------------------------------------------------------- plan and verify


def test_plan_of_an_image(folder: Path):
    done = run("plan", "small.keras", "--size", "40x50")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "                                                          multiply-",
        "layer    becomes                           at the window       adds",
        "conv     Conv2D 3 x 3, 8 filters           10 x 8 x 8         394 k",
        "pool     MaxPooling2D 2 x 2                5 x 4 x 8",
        "flatten  Flatten -> nothing                5 x 4 x 8",
        "logits   Dense -> Conv2D 5 x 4, 4 filters  1 x 1 x 4          202 k",
        "",
        "window 12 x 10, stride 2 x 2, field 12 x 10",
        "exact",
        "Exact means: every cell equals the classifier on its window.",
        "",
        "For an image of 40 x 50:",
        "  15 x 21 cells, all of them windows inside the image",
        "  596 k multiply-adds, and 14.6 k additions in poolings",
        "  868 parameters",
        "  80.4 KiB of activations at the peak, for one image",
        "  at most 9.5 times faster than cutting 315 windows (5.64 M multiply-adds)",
        "",
        "Multiply-adds at each --stride; in brackets how many times those of one pass:",
        "stride  cells    one pass    memory  shift and stitch  cutting windows",
        "2       15 x 21     596 k  80.4 KiB                 -     5.64 M (9.5)",
        "1       29 x 41    1.20 M   479 KiB      2.38 M (2.0)    21.3 M (17.8)",
    ]
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_plan_of_a_window(folder: Path):
    lines = run("plan", "small.keras").stdout.splitlines()
    assert lines[lines.index("For a window of 12 x 10:") :] == [
        "For a window of 12 x 10:",
        "  17.9 k multiply-adds, and 640 additions in poolings",
        "  868 parameters",
        "  3.91 KiB of activations at the peak, for one image",
        "",
        "--size HxW says what an image costs, at this stride and at denser ones, and what it saves.",
    ]


def test_plan_of_several_outputs_and_unknown_work(folder: Path):
    keras.utils.set_random_seed(0)
    x = keras.Input((12, 12, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3)(x))
    keras.Model(x, {"kind": layers.Dense(2)(y), "age": layers.Dense(1)(y)}).save("two.keras")
    lines = run("plan", "two.keras", "--size", "20").stdout.splitlines()
    assert "  age: 9 x 9 cells, all of them windows inside the image" in lines
    assert "  kind: 9 x 9 cells, all of them windows inside the image" in lines
    assert not any(line.startswith("stride ") for line in lines), "there is no denser map than of stride 1"


def test_a_narrow_terminal_breaks_words_and_cuts_no_number():
    with io.StringIO() as text:
        report.show_costed_plan(fullyconv.plan(small()), Console(file=text, width=50), 40)
        table = text.getvalue().splitlines()
    assert all(len(line) <= 50 for line in table[:9])
    assert table[2:4] == ["conv     Conv2D 3 x 3, 8  10 x 8 x 8         312 k", "         filters"]


def test_plan_of_denser_maps(folder: Path):
    lines = run("plan", "small.keras", "--size", "40x50", "--stride", "1").stdout.splitlines()
    assert "pool: applied to 2 shifted copies along axis 0, in place of a stride." in lines
    assert "  29 x 41 cells, all of them windows inside the image" in lines
    assert "  at most 17.8 times faster than cutting 1,189 windows (21.3 M multiply-adds)" in lines
    assert failure("plan", "small.keras", "--stride", "3") == (
        "Error: A stride of 3 x 3 does not divide the stride 2 x 2 of 'small'.\n"
        "Give one of 1, 2, or one of them per axis."
    )


def test_plan_of_a_size_that_does_not_fit(folder: Path):
    for options in ([], ["--json"]):
        assert failure("plan", "small.keras", "--size", "8x8", *options) == (
            "Error: The input is 8 x 8, smaller than the window of 12 x 10.\n"
            "The network was trained on 12 x 10: enlarge the image, or pad it, to at least that size."
        )
        assert failure("plan", "small.keras", "--size", "40x40x40", *options) == (
            "Error: The size must be a whole number of pixels above 0, or 2 of them, one for each spatial axis, "
            "not 40x40x40.\nGive --size 224x224."
        )


def test_plan_of_a_model_that_is_refused(folder: Path):
    x = keras.Input((8, 8, 3), name="image")
    y = layers.LSTM(4, name="rows")(layers.Reshape((6, 24))(layers.Conv2D(4, 3, name="conv")(x)))
    keras.Model(x, layers.Dense(2)(y), name="reader").save("reader.keras")
    done = run("plan", "reader.keras", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["until"] == "conv"
    refusal = found["refusals"][0]
    assert (refusal["name"], refusal["kind"], set(refusal)) == (
        "rows",
        "LSTM",
        {"name", "kind", "place", "reason", "remedy"},
    )
    assert done.stderr.startswith("Error: 1 of the ")


def test_plan_as_json(folder: Path):
    found = json.loads(run("plan", "small.keras", "--json", "--size", "40x50").stdout)
    assert found["exactness"] == "exact"
    assert found["layers"][-1] == {
        "layer": "logits",
        "class": "Dense",
        "becomes": "Conv2D 5 x 4, 4 filters",
        "shape": [1, 1, 4],
        "multiply_adds": 15 * 21 * 4 * 5 * 4 * 8,
    }
    assert found["outputs"]["output"] == {
        "window": [12, 10],
        "stride": [2, 2],
        "offset": [0, 0],
        "receptive_field": [[0, 12], [0, 10]],
        "exactness": "exact",
        "reasons": [],
        "size": [40, 50],
        "cells": [15, 21],
        "windows_inside": [15, 21],
    }


def test_costs_as_json(folder: Path):
    found = json.loads(run("plan", "small.keras", "--json", "--size", "40x50").stdout)
    assert found["cost"] == {
        "size": [40, 50],
        "multiply_adds": 595_584,
        "additions": 14_592,
        "parameters": 868,
        "peak_activation": 82_368,
        "uncounted": [],
    }
    assert found["speedup"] == found["strides"][0]["speedup"] == 5_644_800 / 595_584
    assert found["strides"][1] == {
        "stride": [1, 1],
        "cells": [29, 41],
        "multiply_adds": 1_200_384,
        "additions": 58_368,
        "peak_activation": 490_944,
        "shift_and_stitch": 4 * 595_584,
        "windows": 29 * 41 * 17_920,
        "speedup": 29 * 41 * 17_920 / 1_200_384,
        "refused": None,
    }
    window = json.loads(run("plan", "small.keras", "--json").stdout)
    assert (window["cost"]["multiply_adds"], window["speedup"], window["strides"]) == (17_920, None, [])


def test_plan_of_several_outputs(folder: Path):
    x = keras.Input((12, 12, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3)(x))
    keras.Model(x, {"kind": layers.Dense(2)(y), "age": layers.Dense(1)(y)}).save("two.keras")
    found = json.loads(run("plan", "two.keras", "--json").stdout)
    assert set(found["outputs"]) == {"kind", "age"}


def test_verify_says_whether_it_holds(folder: Path):
    fullyconv.convert(small()).save("fcn.keras")
    assert run("verify", "small.keras", "fcn.keras").exit_code == 0
    assert run("verify", "small.keras", "fcn.keras", "--image", "photo.png").exit_code == 0
    other = small()
    other.set_weights([weight + 0.1 for weight in other.get_weights()])
    fullyconv.convert(other).save("other.keras")
    assert run("verify", "small.keras", "other.keras").exit_code == 1


def test_verify_on_a_picture_that_is_too_small(folder: Path):
    fullyconv.convert(small()).save("fcn.keras")
    Image.new("RGB", (8, 20)).save("thin.png")
    assert failure("verify", "small.keras", "fcn.keras", "--image", "thin.png") == (
        "Error: The input is 20 x 8, smaller than the window of 12 x 10.\n"
        "The network was trained on 12 x 10: enlarge the image, or pad it, to at least that size."
    )


def test_verify_needs_a_file(folder: Path):
    assert failure("verify", "small.keras", "fcn.keras") == (
        "Error: There is no file 'fcn.keras'.\nModels in that folder: small.keras."
    )


# ------------------------------------------------------------------------------------------------------------- heatmap


@pytest.mark.parametrize("converted", [False, True])
def test_heatmap_of_a_classifier_and_of_a_converted_network(folder: Path, converted: bool):
    model = "small.keras"
    if converted:
        fullyconv.convert(small()).save("fcn.keras")
        model = "fcn.keras"
    options = ["--labels", "names.txt", "--preprocess", "unit", "--class", "bee", "--class", "3"]
    done = run("heatmap", model, "photo.png", "-o", "map.png", *options)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Wrote map.png."
    assert {line.split()[1] for line in done.stdout.splitlines() if " (rows " in line} == {"bee", "dog"}
    with Image.open("map.png") as picture:
        assert min(picture.size) > 100


def test_heatmap_without_names_draws_the_best_class(folder: Path):
    done = run("heatmap", "small.keras", "photo.png", "-o", "map.png")
    assert done.exit_code == 0, done.stderr
    assert "class " in done.stdout


def test_heatmap_of_denser_maps(folder: Path):
    done = run("heatmap", "small.keras", "photo.png", "-o", "map.png", "--stride", "1", "--preprocess", "unit")
    assert done.exit_code == 0, done.stderr
    pixels = np.array(Image.open("photo.png"))[None] / 255
    best = fullyconv.convert(small(), stride=1).predict(pixels.astype("float32")).max()
    assert f"{best:8.4f}  class " in done.stdout
    fullyconv.convert(small()).save("fcn.keras")
    assert failure("heatmap", "fcn.keras", "photo.png", "-o", "other.png", "--stride", "1") == (
        "Error: 'fcn.keras' is converted already: --stride comes too late.\nGive the classifier, or no --stride."
    )


def test_heatmap_up_to_a_layer_has_channels(folder: Path):
    lines = done_lines("heatmap", "small.keras", "photo.png", "-o", "map.png", "--until", "pool")
    assert [line.split()[1] for line in lines if "(rows " in line] == ["channel"] * 5
    drawn = fullyconv.heatmap(fullyconv.convert(small(), until="pool"), "photo.png")
    assert "<tr><th>channel</th>" in drawn._repr_html_()
    assert drawn.label(3) == "channel 3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "--class", "owl", "--labels", "names.txt"], "There is no class 'owl'; no name is near to it."),
        (["photo.png", "--class", "9"], "There is no class 9; the model has 4, numbered from 0 to 3."),
        (["photo.png", "--labels", "no.txt"], "'no.txt' cannot be read: No such file or directory."),
        (["no.png"], "There is no picture 'no.png'; check the path."),
    ],
)
def test_heatmap_of_what_is_not_there(folder: Path, arguments: list[str], message: str):
    assert failure("heatmap", "small.keras", "-o", "map.png", *arguments) == f"Error: {message}"
    assert "map.png" not in files(folder)


# ----------------------------------------------------------------------------------------- usage, errors, the process


def test_help_names_every_command():
    done = run("--help")
    assert done.exit_code == 0
    for command in ("convert", "plan", "verify", "heatmap", "demo"):
        assert f"\n  {command} " in done.stdout
        assert run(command, "--help").exit_code == 0


def test_version():
    assert run("--version").stdout.startswith("fullyconv 0.1.1 on Python 3.")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["convert", "small.keras"],
        ["convert", "small.keras", "-o", "fcn.keras", "--pool", "most"],
        ["plan", "small.keras", "--size", "12by10"],
        ["plan", "small.keras", "--size", "0x10"],
        ["plan", "small.keras", "--stride", "0"],
        ["heatmap", "small.keras", "photo.png", "-o", "m.png", "--preprocess", "vgg"],
    ],
)
def test_usage(folder: Path, arguments: list[str]):
    assert run(*arguments).exit_code == 2


def test_a_size_that_is_none():
    assert failure("plan", "x.keras", "--size", "12by10", code=2).splitlines()[-1] == (
        "Error: Invalid value for '--size': '12by10' is not a size: write it as 224x224 (height x width)."
    )


def test_a_stride_that_is_none():
    assert failure("plan", "x.keras", "--stride", "two", code=2).splitlines()[-1] == (
        "Error: Invalid value for '--stride': 'two' is not a stride: write it as 8, or as 8x16 (height x width)."
    )


def test_errors_of_opening_a_model(folder: Path):
    assert failure("plan", "VGG61") == (
        "Error: 'VGG61' is neither a file here nor a model of keras.applications.\nThe nearest names are VGG19, VGG16."
    )


def test_random_weights(folder: Path):
    assert run("plan", "MobileNet", "--random-weights").exit_code == 0


def test_unsafe_runs_the_code_in_a_file(folder: Path):
    x = keras.Input((8, 8, 3))
    y = layers.Flatten()(layers.Lambda(lambda t: t * 2, output_shape=(8, 8, 3), name="double")(x))
    keras.Model(x, layers.Dense(2)(y)).save("code.keras")
    assert "safe mode" in failure("plan", "code.keras")
    assert "'double' (Lambda, " in failure("plan", "code.keras", "--unsafe")


def test_an_unforeseen_error_is_two_lines(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom\nand a long story")

    monkeypatch.setattr(fullyconv, "plan", fail)
    assert failure("plan", "small.keras") == (
        "Error: RuntimeError: boom\nThis was not foreseen; --debug shows where it happened."
    )
    assert isinstance(run("plan", "small.keras", "--debug").exception, RuntimeError)


def test_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fullyconv, "plan", stop)
    assert failure("plan", "small.keras", code=130) == "Stopped."


@pytest.mark.once
def test_the_command_takes_openvino_where_no_backend_was_chosen(folder: Path):
    """Keras's settings name one that is not installed, and are left as they are."""
    home = folder / "keras"
    home.mkdir()
    (home / "keras.json").write_text('{"backend": "cntk"}')
    done = process("plan", "small.keras", KERAS_BACKEND=None, KERAS_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ("Using Keras's OpenVINO backend: KERAS_BACKEND is not set, and cntk is not installed.\n")
    assert (home / "keras.json").read_text() == '{"backend": "cntk"}'


def test_the_command_obeys_a_backend_that_was_chosen(folder: Path):
    done = process("plan", "small.keras", KERAS_HOME=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    done = process("plan", "small.keras", KERAS_BACKEND="cntk", KERAS_HOME=str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: Keras is to use the backend 'cntk' (KERAS_BACKEND names it), which is not one"
    )


@pytest.mark.once
def test_help_says_nothing_of_backends(folder: Path):
    done = process("convert", "--help", KERAS_BACKEND=None, KERAS_HOME=str(folder / "none"))
    assert (done.returncode, done.stderr) == (0, "")
    assert not (folder / "none").exists()


@pytest.mark.skipif(keras.backend.backend() != "openvino", reason="the demo runs on OpenVINO; jax compiles for minutes")
def test_demo(folder: Path):
    done = run("demo", "-o", "out")
    assert done.exit_code == 0, done.stderr
    pictures = {"coffee.png", "chelsea.png", "camera.png"}
    assert files(folder / "out") == pictures | {"report.html", "efficientnet_lite0.keras"} == set(DEMO_FILES)
    assert "<title>efficientnet_lite0 on coffee.png</title>" in Path("out/report.html").read_text("utf-8")
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if " ms " in line}
    assert set(rows) == {"coffee", "chelsea", "camera"}
    assert "espresso" in rows["coffee"]
    assert "cat" in rows["chelsea"]
    assert "tripod" in rows["camera"]


def test_demo_where_it_cannot_write(folder: Path):
    Path("out").write_text("a file")
    assert failure("demo", "-o", "out") == (
        "Error: The folder 'out' cannot be used: 'out' is a file.\nGive another place with -o."
    )


@pytest.mark.parametrize(
    ("python", "command"),
    [
        ("the window:  fullyconv.convert(model, window=(224, 224))", "the window:  --window 224x224"),
        ("the window:  fullyconv.convert(model, window=(224,))", "the window:  --window 224"),
        ("for:  fullyconv.load(path, window=224)", "for:  --window 224"),
        ("before it:  fullyconv.convert(model, until='conv')", "before it:  --until conv"),
        ("Drop it with skip='resizing', and", "Drop it with --skip resizing, and"),
        ("Convert the part before it with `until`.", "Convert the part before it with --until LAYER."),
    ],
)
def test_remedies_are_options_of_the_command(python: str, command: str):
    assert report.in_commands(python) == command
