"""The command as users run it: its script, out of a wheel, in environments with and without TensorFlow.

`make test` prepares the environments (environments.py) and the models (people.py) in build/users/. These tests import
neither Keras nor the package: they start processes, and compare what those write with the answers of plain Keras.

A process of its own is given to every command once (`test_alone`), and on every backend to the command that comes
first, of which there are several kinds: it chooses the backend and imports Keras. What follows in that process
(`test_in_one_process`) then tests what each command does there, which a second import of Keras would not change.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.users

USERS = Path(__file__).resolve().parents[2] / "build" / "users"
DRIVER = Path(__file__).with_name("drive.py")
NAMES = ("transfer_learned", "normalized", "prepared")
# Where, on which backend, with which models, and the command that comes first in its process. What TensorFlow
# being there can change is tested on one model.
BACKENDS = [
    ("alone", "openvino", NAMES, "report"),
    ("no-tensorflow", "jax", NAMES, "convert"),
    ("no-tensorflow", "torch", NAMES, "report"),
    ("full", "tensorflow", NAMES, "geometry"),
    ("full", "openvino", NAMES[:1], "plan"),
    ("full", "jax", NAMES[:1], "report"),
    ("full", "torch", NAMES[:1], "convert"),
]
HOLDS = r"at the window +holds: error (0\.0e\+00|\d\.\de-0[6-9]) "
HANGS = 600  # seconds after which a process is given up: no measure of speed


@pytest.fixture(scope="session")
def right() -> dict[str, np.ndarray]:
    """The classifiers' own answers on windows."""
    with np.load(USERS / "models" / "right.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the models and the photograph."""
    shutil.copytree(USERS / "models", tmp_path, dirs_exist_ok=True)
    return tmp_path


def environ(backend: str | None) -> dict[str, str]:
    """The variables of a process that knows nothing of this checkout, and has settings of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS_", "PYTEST_"))}
    return kept | ({"KERAS_BACKEND": backend} if backend else {})


def script(environment: str, folder: Path, *arguments: str, backend: str | None = "openvino", code: int = 0) -> str:
    """Run the script `fullyconv`; what it prints."""
    command = [str(USERS / environment / "bin" / "fullyconv"), *arguments]
    run = subprocess.run(
        command, check=False, cwd=folder, env=environ(backend), capture_output=True, text=True, timeout=HANGS
    )
    assert run.returncode == code, f"{arguments}: exit code {run.returncode}\n{run.stdout}{run.stderr}"
    assert "Traceback" not in run.stderr, run.stderr
    return run.stdout if code == 0 else run.stderr


def in_one_process(environment: str, backend: str, folder: Path, commands: Sequence[Sequence[str]]) -> list[dict]:
    """Run commands one behind the other in one process; of each its exit code and what it prints."""
    python = str(USERS / environment / "bin" / "python")
    run = subprocess.run(
        [python, "-P", str(DRIVER)],
        check=False,
        cwd=folder,
        env=environ(backend),
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def assert_map(path: Path, expected: np.ndarray) -> None:
    """The map in a file has the classifier's answer in every window."""
    with np.load(path) as file:
        np.testing.assert_allclose(file["map"], expected, atol=2e-5)
        assert file["stride"].tolist() == [2, 2]


def assert_detections(path: Path, expected: np.ndarray) -> None:
    """The best detection in a file is the best answer in any window."""
    best = next(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert float(best["probability"]) == pytest.approx(expected.max(), abs=2e-5)
    row, column, class_index = (int(i) for i in np.unravel_index(expected.argmax(), expected.shape))
    assert (int(best["class"]), int(best["top"]), int(best["left"])) == (class_index, 2 * row, 2 * column)


def assert_page(path: Path, expected: np.ndarray) -> None:
    """A report names the best answer."""
    assert f"{expected.max():.3f}" in path.read_text(encoding="utf-8")


def assert_picture(path: Path) -> None:
    """A picture is there, and whole."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data.endswith(b"IEND\xaeB`\x82")


def commands_of(name: str, every: bool = True) -> list[list[str]]:
    """Every command that takes a model with one output, or those that write and read a converted one."""
    model, fcn, back = f"{name}.keras", f"{name}_fcn.keras", f"{name}_back.keras"
    pictures = ["photo.png", "-o", f"{name}.png", "--map", f"{name}.npz", "--detections", f"{name}.csv"]
    first = [["convert", model, "-o", fcn], ["heatmap", fcn, *pictures, "--threshold", "0.1"]]
    others = [
        ["plan", model, "--json"],
        ["verify", model, fcn],
        ["geometry", model, "--json"],
        ["report", model, "photo.png", "-o", f"{name}.html"],
        ["classifier", fcn, "-o", back],
        ["heatmap", back, "photo.png", "--map", f"{name}_back.npz"],
    ]
    return first + (others if every else [])


def assert_done(name: str, folder: Path, printed: Mapping[str, str], expected: np.ndarray) -> None:
    """What `commands_of` wrote, and printed by the name of the command, is right."""
    assert f"Wrote {name}_fcn.keras" in printed["convert"]
    assert re.search(HOLDS, printed["convert"]), printed["convert"]
    assert_picture(folder / f"{name}.png")
    assert_map(folder / f"{name}.npz", expected)
    assert_detections(folder / f"{name}.csv", expected)
    if "plan" not in printed:
        return
    plan = json.loads(printed["plan"])
    assert plan["exactness"] == "exact"
    assert [grid["stride"] for grid in plan["outputs"].values()] == [[2, 2]]
    assert re.search(HOLDS, printed["verify"]), printed["verify"]
    assert json.loads(printed["geometry"])["layers"][-1]["stride"] == [2, 2]
    assert_page(folder / f"{name}.html", expected)
    assert_map(folder / f"{name}_back.npz", expected)


@pytest.mark.parametrize(("environment", "backend", "names", "first"), BACKENDS)
def test_in_one_process(environment, backend, names, first, folder, right):
    """Models with one output, in one process a backend: the first through every command, all converted and drawn."""
    commands = [(name, command) for name in names for command in commands_of(name, name == names[0])]
    commands.sort(key=lambda each: (each[0], each[1][0]) != (names[0], first))  # the rest stays in order
    runs = in_one_process(environment, backend, folder, [command for _, command in commands])
    for (name, command), run in zip(commands, runs, strict=True):
        assert run["code"] == 0, f"{name}: {command}\n{run['out']}{run['err']}"
        assert "Traceback" not in run["err"]
    for name in names:
        printed = {
            c[0]: run["out"] for (owner, c), run in zip(commands[::-1], runs[::-1], strict=True) if owner == name
        }
        assert_done(name, folder, printed, right[name])


@pytest.mark.parametrize(("environment", "backend"), [each[:2] for each in BACKENDS[:4]])
def test_several_outputs(environment, backend, folder, right):
    """A model with two outputs: a heat map of the one that is named; converted, and compared."""
    model, fcn = "two_headed.keras", "two_headed_fcn.keras"
    commands = [
        ["heatmap", model, "photo.png", "--until", "kind", "-o", "kind.png", "--map", "kind.npz"],
        ["heatmap", model, "photo.png", "-o", "none.png"],
        ["convert", model, "-o", fcn],
        ["verify", model, fcn],
    ]
    runs = in_one_process(environment, backend, folder, commands)
    assert [run["code"] for run in runs] == [0, 1, 0, 0], runs
    assert runs[1]["err"] == (
        "Error: A heat map needs a network with one output, and this one has several.\n"
        "Convert the part that ends in one:  --until LAYER\n"
    )
    assert not (folder / "none.png").exists()
    assert re.search(HOLDS, runs[3]["out"]), runs[3]["out"]
    assert_picture(folder / "kind.png")
    assert_map(folder / "kind.npz", right["two_headed/kind"])


def test_several_outputs_everywhere(folder, right):
    """What does not depend on the backend: the other output, the plan, and back to a classifier that converts again."""
    model, fcn = "two_headed.keras", "two_headed_fcn.keras"
    commands = [
        ["heatmap", model, "photo.png", "--until", "size", "--map", "size.npz"],
        ["plan", model, "--json"],
        ["convert", model, "-o", fcn],
        ["classifier", fcn, "-o", "back.keras"],
        ["verify", "back.keras", fcn],
    ]
    runs = in_one_process("alone", "openvino", folder, commands)
    assert [run["code"] for run in runs] == [0] * 5, runs
    assert sorted(json.loads(runs[1]["out"])["outputs"]) == ["kind", "size"]
    assert_map(folder / "size.npz", right["two_headed/size"])


def test_alone(folder, right):
    """Each command in a process of its own, on the backend it takes by itself where no other is installed."""
    name = "transfer_learned"
    printed = {command[0]: script("alone", folder, *command, backend=None) for command in commands_of(name)}
    assert_done(name, folder, printed, right[name])


@pytest.mark.parametrize("environment", ["alone", "no-tensorflow", "full"])
def test_doctor(environment, folder):
    """Says that all is well, and which backends there are."""
    said = script(environment, folder, "doctor", backend="openvino")
    backends = {"alone": [], "no-tensorflow": ["jax", "torch"], "full": ["jax", "tensorflow", "torch"]}[environment]
    for backend in ("jax", "tensorflow", "torch"):
        assert bool(re.search(rf"{backend} +\d", said)) == (backend in backends), said


def test_demo(folder):
    """Runs where its packages are, and says what to install where they are not."""
    refused = script("alone", folder, "demo", code=1)
    assert refused.endswith('is needed and not installed; run:  pip install "fullyconv[demo]"\n')
    said = script("no-tensorflow", folder, "demo", "-o", "demo")
    assert "espresso" in said
    assert len(list((folder / "demo").glob("*.png"))) == 3


def test_openvino_export(folder, right):
    """The graph answers as the classifier does, by its own runtime, at a size of its own."""
    script("alone", folder, "export", "prepared.keras", "-o", "prepared.xml")
    import openvino

    network = openvino.Core().compile_model(folder / "prepared.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_answers(network([photo(folder)])[0], right["prepared"])


@pytest.mark.parametrize(("environment", "backend"), [("no-tensorflow", "torch"), ("full", "tensorflow")])
def test_onnx_export(environment, backend, folder, right):
    """The graph answers as the classifier does, by its own runtime, at a size of its own."""
    script(environment, folder, "export", "prepared.keras", "-o", "prepared.onnx", backend=backend)
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "prepared.onnx")
    assert_answers(session.run(None, {session.get_inputs()[0].name: photo(folder)})[0], right["prepared"])


def test_saved_model_export(folder):
    """JAX writes it with TensorFlow's help, and says what to install where there is none."""
    command = ["export", "prepared.keras", "-o", "saved", "--format", "tf_saved_model"]
    refused = script("no-tensorflow", folder, *command, backend="jax", code=1)
    assert "tensorflow" in refused
    assert not (folder / "saved").exists()
    script("full", folder, *command, backend="jax")
    assert (folder / "saved" / "saved_model.pb").stat().st_size > 1000


def photo(folder: Path) -> np.ndarray:
    """The photograph as a batch."""
    with Image.open(folder / "photo.png") as picture:
        return np.asarray(picture, "float32")[None]


def assert_answers(cells: np.ndarray, expected: np.ndarray) -> None:
    """A network's cells are the classifier's answers in every window."""
    rows, columns = expected.shape[:2]  # behind them lie cells whose windows leave the photograph
    np.testing.assert_allclose(cells[0, :rows, :columns], expected, atol=2e-5)
