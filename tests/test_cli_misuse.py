"""The command misused: exit code, the whole message, nothing written, and no Keras imported where none is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import zarr
from keras import layers
from PIL import Image

import fullyconv
from fullyconv import report
from test_cli import failure, process, run, small
from test_reading import colours

pytestmark = pytest.mark.once  # nothing here differs from backend to backend


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, converted and not, of a picture and of names, that every test shares: none writes to it."""
    folder = tmp_path_factory.mktemp("models")
    small().save(folder / "small.keras")
    colours().save(folder / "colours.keras")
    fullyconv.convert(small()).save(folder / "fcn.keras")
    fullyconv.convert(small()).model.save(folder / "tuned.keras")
    x = keras.Input((12, 12, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3)(x))
    keras.Model(x, {"kind": layers.Dense(2)(y), "age": layers.Dense(1)(y)}, name="two").save(folder / "two.keras")
    pinned = [keras.Input((9, 9, 3), name="image"), layers.Resizing(8, 8, name="scale"), layers.Flatten(name="flat")]
    keras.Sequential([*pinned, layers.Dense(2, name="answer")], name="pinned").save(folder / "pinned.keras")
    x = keras.Input((8, 8, 3))
    y = layers.Lambda(lambda t: t * 2, output_shape=(8, 8, 3), name="double")(x)
    keras.Model(x, layers.Dense(2)(layers.Flatten()(y)), name="code").save(folder / "code.keras")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")
    Image.fromarray(pixels).save(folder / "photo.png")
    (folder / "three.txt").write_text("ant\nbee\ncat\n")
    (folder / "four.txt").write_text("ant\nbee\ncat\ndog\n")
    (folder / "torn.keras").write_bytes((folder / "small.keras").read_bytes()[:500])
    for name in (
        "old.png",
        "old.npz",
        "old.csv",
        "old.html",
        "old.onnx",
        "net.bin",
        "out/photo.png",
        "demo/report.html",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    zarr.create_group(folder / "group.zarr").create_array("mine", data=np.arange(3))
    (folder / "saved").mkdir()
    (folder / "saved" / "notes.txt").write_text("mine")
    (folder / "link.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.fixture(autouse=True)
def _folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


A_FILE = "--random-weights is for a name of keras.applications, and 'small.keras' is a file: leave it out."
CONVERTED = "'fcn.keras' is converted already.\nGive the classifier that it was converted from as MODEL."
PLAIN = (
    "small.keras is a classifier already, not a converted network: it reads images of 12 x 10 alone.\n"
    "Give a network that was converted:  fullyconv convert MODEL -o FCN.keras"
)
LOST = (
    "tuned.keras does not say which window its network was made for: Keras saved it, which drops that, or it was never "
    "converted.\nGive the size it was trained on:  --window 224"
)
LONG = "a" * 300
TOO_LONG = "file name too long.\nGive another name or place."
THREE = "There are 3 labels for 4 classes; give one for each, in the model's order."

# What is misspelt: told without Keras, with the usage, exit code 2.
MISSPELT = {
    "heatmap small.keras photo.png": "nothing would be written: give -o, --detections or --map.",
    "heatmap small.keras photo.png -o o.png --random-weights": A_FILE,
    "plan small.keras --random-weights": A_FILE,
    "export no/small.keras --random-weights -o s.xml": A_FILE.replace("small", "no/small"),
    "heatmap small.keras photo.png -o o.png --per-class": (
        "--per-class is about detections: give --threshold or --detections with it."
    ),
    "heatmap small.keras photo.png -o o.png --threshold nan": "--threshold nan is no number: give one such as 0.5.",
    "heatmap small.keras photo.png -o o.png --bgr --preprocess tf": (
        "--preprocess tf says all of it: give it, or --bgr and its like."
    ),
    "geometry small.keras --image photo.png": (
        "--image and -o go together: a drawing needs a photo, and a file to write."
    ),
    "geometry small.keras --cell 1,2": ("--cell is a cell to draw: give a photo with --image, and a file with -o."),
    "verify small.keras fcn.keras --image photo.png --image photo.png -o e.png": (
        "-o draws the error on one picture, and 2 were given with --image."
    ),
}


def there(name: str, option: str = "-o") -> str:
    return f"'{name}' is there already.\nGive --overwrite to replace it, or another name with {option}."


# What is there already is not replaced.
THERE = {
    "convert small.keras -o fcn.keras": there("fcn.keras"),
    "classifier fcn.keras -o small.keras": there("small.keras"),
    "report small.keras photo.png -o old.html": there("old.html"),
    "verify small.keras fcn.keras -o old.png": there("old.png"),
    "geometry small.keras --image photo.png -o old.png": there("old.png"),
    "heatmap fcn.keras photo.png -o old.png": there("old.png"),
    "heatmap fcn.keras photo.png -o link.png": there("link.png"),
    "heatmap fcn.keras photo.png -o out": there("out/photo.png"),
    "heatmap fcn.keras photo.png --map old.npz": there("old.npz", "--map"),
    "heatmap fcn.keras photo.png --map group.zarr": there("group.zarr", "--map"),
    "heatmap fcn.keras photo.png --detections old.csv": there("old.csv", "--detections"),
    "export fcn.keras -o old.onnx": there("old.onnx"),
    "export fcn.keras -o net.xml": there("net.bin"),
    "export fcn.keras -o saved --format tf_saved_model": there("saved"),
    "demo -o demo": there("demo/report.html"),
    "heatmap fcn.keras photo.png --map group.zarr --overwrite": (
        "'group.zarr' is not replaced: it is a folder that is not just a map that fullyconv wrote.\n"
        "Give another name with --map."
    ),
    "export fcn.keras -o saved --format tf_saved_model --overwrite": (
        "'saved' is not replaced: it is a folder that is not just a SavedModel.\nGive another name with -o."
    ),
    "heatmap fcn.keras photo.png -o pipe.png --overwrite": (
        "'pipe.png' is not replaced: it is a named pipe.\nGive another name with -o."
    ),
}
# Every command's output is tried before the work, and before Keras is imported.
PLACES = {
    "convert small.keras -o no/new.keras": "no/new.keras",
    "classifier fcn.keras -o no/new.keras": "no/new.keras",
    "report small.keras photo.png -o no/r.html": "no/r.html",
    "verify small.keras fcn.keras -o no/e.png": "no/e.png",
    "geometry small.keras --image photo.png -o no/g.png": "no/g.png",
    "heatmap fcn.keras photo.png -o no/o.png": "no/o.png",
    "heatmap fcn.keras photo.png --map no/m.zarr": "no/m.zarr",
    "heatmap fcn.keras photo.png --detections no/d.csv": "no/d.csv",
    "export fcn.keras -o no/net.xml": "no/net.xml",
}

# What is refused without Keras, exit code 1.
SEEN_AT_ONCE = {
    "heatmap small.keras no.png -o o.png": "There is no picture 'no.png'; check the path.",
    "heatmap small.keras photo.png -o o.png --labels no.txt": "'no.txt' cannot be read: No such file or directory.",
    "heatmap small.keras photo.png -o o.txt": (
        "'o.txt' cannot be written: its name must end in .png or .jpg or .jpeg or .webp."
    ),
    "convert small.keras -o fcn.txt": "'fcn.txt' cannot be written: its name must end in .keras.",
    "convert small.keras -o new.keras --labels no.txt": "'no.txt' cannot be read: No such file or directory.",
    "classifier fcn.keras -o back.h5": (
        "'back.h5' cannot be written: HDF5 loses a functional model's operations. End its name in .keras."
    ),
    "report small.keras photo.png -o no/r.html": (
        "'no/r.html' cannot be written: there is no folder 'no'.\nCreate it first."
    ),
    "report small.keras photo.png -o photo.html --labels no.txt": "'no.txt' cannot be read: No such file or directory.",
    "geometry small.keras --image no.png -o o.png": "There is no picture 'no.png'; check the path.",
    "geometry small.keras --image photo.png -o photo.png": (
        "'photo.png' is one of the files that are read.\nGive another name to write to."
    ),
    "convert small.keras -o photo.png/x.keras": (
        "'photo.png/x.keras' cannot be written: 'photo.png' is not a folder.\nGive another place."
    ),
    "demo -o photo.png": ("The folder 'photo.png' cannot be used: 'photo.png' is a file.\nGive another place with -o."),
    f"export fcn.keras -o {LONG}.xml": f"'{LONG}.xml' cannot be written: {TOO_LONG}",
    f"heatmap fcn.keras photo.png --map {LONG}.zarr": f"'{LONG}.zarr' cannot be written: {TOO_LONG}",
    **{line: f"'{at}' cannot be written: there is no folder 'no'.\nCreate it first." for line, at in PLACES.items()},
    **THERE,
}

# What is refused when the model has been read, exit code 1.
REFUSED = {
    "plan no.keras": "There is no file 'no.keras'.\nModels in that folder: two.keras, fcn.keras, torn.keras.",
    "plan torn.keras": (
        "'torn.keras' is truncated: it starts as a model and ends too early (500 bytes).\nCopy or download it again."
    ),
    "plan small.keras --size 40x40x3": (
        "The size must be a whole number of pixels above 0, or 2 of them, one for each spatial axis, not 40x40x3.\n"
        "Give --size 224x224."
    ),
    "plan small.keras --window 9x9": (
        "The window 9x9 contradicts the input of 'small', which is 12x10.\nLeave it out."
    ),
    "plan small.keras --window 9x9x9": "The window 9x9x9 has 3 sizes, but 'small' has 2 spatial axes.",
    "plan small.keras --stride 3": (
        "A stride of 3 x 3 does not divide the stride 2 x 2 of 'small'.\nGive one of 1, 2, or one of them per axis."
    ),
    "plan pinned.keras --until nothing": (
        "'pinned' has no layer named 'nothing'.\n--until takes one of: image, scale, flat, answer ..."
    ),
    "plan pinned.keras": (
        "1 of the 4 layers of 'pinned' cannot be made convolutional.\n"
        "  'scale' (Resizing, layer 1) pins the size of the image.\n"
        "    Drop it with --skip scale, and bring images to the scale that it made."
    ),
    "plan pinned.keras --skip crop": ("'pinned' has no layer 'crop' that can be skipped.\n--skip takes: 'scale'."),
    "plan code.keras": (
        "'code.keras' carries Python code of its own, which Keras's safe mode does not run.\n"
        "Loading it would let the file do anything you can do on this machine.\n"
        "If you trust its author: --unsafe here, keras.models.load_model(path, safe_mode=False) in Python."
    ),
    "plan code.keras --unsafe": (
        "1 of the 4 layers of 'code' cannot be made convolutional.\n"
        "  'double' (Lambda, layer 1) holds code that cannot be read as layers.\n"
        "    Write what it does with Keras layers or `keras.ops`."
    ),
    "convert fcn.keras -o again.keras": CONVERTED,
    "plan fcn.keras": CONVERTED,
    "verify fcn.keras small.keras": CONVERTED,
    "report fcn.keras photo.png -o r.html": CONVERTED,
    "verify small.keras small.keras": PLAIN,
    "classifier small.keras -o back.keras": PLAIN,
    "classifier tuned.keras -o back.keras": LOST,
    "verify small.keras tuned.keras": LOST,
    "classifier fcn.keras -o back.keras --like colours.keras": (
        "'small' is no conversion of 'colours': they differ in 3 places.\n"
        "  conv is only in the network\n"
        "  logits: kernel (5, 4, 8, 4), bias (4,) in the network, kernel (1, 1, 3, 3), bias (3,) in its conversion\n"
        "  mean: MaxPooling2D in the network, AveragePooling2D in its conversion\n"
        "Give the classifier that it was made from: --like MODEL."
    ),
    "heatmap fcn.keras photo.png -o o.png --window 9x9": (
        "fcn.keras was made for a window of 12 x 10, not 9 x 9.\nLeave --window out: the file knows it."
    ),
    "heatmap small.keras photo.png -o o.png --scale 1,2": (
        "The scale of the preprocessing is for 2 channels, and the picture has 3; give one number, or one for each "
        "channel."
    ),
    "heatmap two.keras photo.png -o o.png": (
        "A heat map needs a network with one output, and this one has several.\n"
        "Convert the part that ends in one:  --until LAYER"
    ),
    "export small.keras -o small.docx": (
        "'small.docx' does not say which format it is to be.\n"
        "End its name in .onnx, .tflite or .xml, or give --format litert, onnx, openvino or tf_saved_model."
    ),
}

# Classes and their names are compared with the outputs before anything is converted.
CLASSES = {
    "heatmap small.keras photo.png -o o.png --class 9": ("There is no class 9; the model has 4, numbered from 0 to 3."),
    "heatmap small.keras photo.png -o o.png --class owl --labels four.txt": (
        "There is no class 'owl'; no name is near to it."
    ),
    "heatmap small.keras photo.png -o o.png --class owl": (
        "The model has no names for its classes, so 'owl' is none of them; give labels, or an index from 0 to 3."
    ),
    "heatmap small.keras photo.png -o o.png --labels three.txt": THREE,
    "heatmap fcn.keras photo.png -o o.png --labels three.txt": THREE,
    "heatmap small.keras photo.png -o o.png --until pool --class 8": (
        "There is no class 8; the model has 8, numbered from 0 to 7."
    ),
    "report small.keras photo.png -o r.html --class 4": "There is no class 4; the model has 4, numbered from 0 to 3.",
    "report small.keras photo.png -o r.html --labels three.txt": THREE,
    "convert small.keras -o new.keras --labels three.txt": THREE,
}


@pytest.mark.parametrize("line", MISSPELT)
def test_what_is_misspelt_has_exit_code_2(line: str):
    assert failure(*line.split(), code=2).splitlines()[2:] == ["", f"Error: Invalid value: {MISSPELT[line]}"]


@pytest.mark.parametrize("line", [*SEEN_AT_ONCE, *REFUSED])
def test_what_is_refused_has_exit_code_1_and_writes_nothing(models: Path, line: str):
    before = {path: path.lstat().st_mtime_ns for path in models.rglob("*")}
    assert failure(*line.split()) == f"Error: {(SEEN_AT_ONCE | REFUSED)[line]}"
    assert {path: path.lstat().st_mtime_ns for path in models.rglob("*")} == before


@pytest.mark.parametrize("line", CLASSES)
def test_classes_and_labels_are_checked_before_the_conversion(line: str, monkeypatch: pytest.MonkeyPatch):
    def convert(*_: object, **__: object) -> None:
        raise AssertionError("it was converted")

    monkeypatch.setattr(fullyconv, "convert", convert)
    assert failure(*line.split()) == f"Error: {CLASSES[line]}"


@pytest.mark.parametrize("line", ["", "nonsense", "plan", "plan small.keras --pool most", "plan small.keras --colour"])
def test_what_is_no_command_has_exit_code_2(line: str):
    assert run(*line.split()).exit_code == 2


@pytest.mark.parametrize("line", ["--help", "--version", "plan small.keras", "geometry small.keras --json"])
def test_what_is_done_has_exit_code_0(line: str):
    assert run(*line.split()).exit_code == 0


def test_what_does_not_hold_has_exit_code_1(tmp_path: Path):
    other = small()
    other.set_weights([weight + 0.1 for weight in other.get_weights()])
    fullyconv.convert(other).save(tmp_path / "other.keras")
    assert run("verify", "small.keras", str(tmp_path / "other.keras")).exit_code == 1


WITHOUT_KERAS = """
import sys
from typer.testing import CliRunner
from fullyconv.cli import app

for line in sys.stdin.read().splitlines():
    code = CliRunner().invoke(app, line.split()).exit_code
    print(code, "keras" in sys.modules, line)
"""


def test_what_can_be_seen_without_keras_is_told_without_importing_it():
    lines = [*MISSPELT, *SEEN_AT_ONCE, "plan small.keras --size 12by10"]
    command = [sys.executable, "-c", WITHOUT_KERAS]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    codes = [2 if line in MISSPELT or "12by10" in line else 1 for line in lines]
    assert done.stdout.splitlines() == [f"{code} False {line}" for code, line in zip(codes, lines, strict=True)]


def test_a_process_has_the_exit_code_of_its_command():
    assert [process(*line.split()).returncode for line in ("plan x.keras --size 0", "heatmap x y.png -o o.png")] == [
        2,
        1,
    ]


@pytest.mark.parametrize("line", PLACES)
def test_a_folder_that_takes_no_files(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A read-only medium is played: the tests may run as root, who may write everywhere."""

    def refuse(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("fullyconv.outputs.tempfile.TemporaryFile", refuse)
    folder = tmp_path / "no"
    folder.mkdir()
    assert failure(*line.replace("no/", f"{folder}/").split()) == (
        f"Error: '{folder}/{Path(PLACES[line]).name}' cannot be written: no file can be made in '{folder}' "
        "(read-only file system).\nGive another place."
    )
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fullyconv.outputs.tempfile.TemporaryFile", refuse)
    for line, option in (("heatmap fcn.keras . -o a/b", "-o"), ("demo -o a/b", "-o")):
        assert failure(*line.split()) == (
            "Error: The folder 'a/b' cannot be used: no file can be made in '.' (permission denied).\n"
            f"Give another place with {option}."
        )


def test_a_place_of_the_system(tmp_path: Path):
    """Where not even root can make a file, which only trying shows."""
    said = failure("convert", "small.keras", "-o", "/proc/new.keras")
    reason = r"no file can be made in '/proc' \([a-z ]+\)"
    assert re.fullmatch(rf"Error: '/proc/new\.keras' cannot be written: {reason}\.\nGive another place\.", said)


@pytest.mark.parametrize(
    ("python", "command"),
    [
        (
            "end in x, or give format='litert', 'onnx' or 'openvino'.",
            "end in x, or give --format litert, onnx or openvino.",
        ),
        ("(pool='drop')", "(--pool drop)"),
        ('leave stride out, or pool="window"', "leave --stride out, or --pool window"),
        ("say what it becomes: rules={Mine: rule}", "say what it becomes: rules={Mine: rule} in Python"),
        ("Leave `like` out: what there is", "Leave --like out: what there is"),
        ("Leave values='softmax' out", "Leave --softmax out"),
        ("The `skip` argument takes: 'scale'.", "--skip takes: 'scale'."),
        ("kernel (5, 4, 8, 4) of 'photo (1, 2)'", "kernel (5, 4, 8, 4) of 'photo (1, 2)'"),
    ],
)
def test_messages_speak_of_options(python: str, command: str):
    assert report.in_commands(python) == command
