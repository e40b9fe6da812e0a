"""Networks written for other runtimes: what the file gives, what is left where it fails, the whole text of errors."""

import re
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

import fullyconv
from fullyconv import formats
from fullyconv.cli import app
from fullyconv.export import check_target
from fullyconv.outputs import SAVED_MODEL, check_free

ON_OPENVINO = keras.backend.backend() == "openvino"
where_all_run = pytest.mark.skipif(keras.backend.backend() in ("tensorflow", "torch"), reason="as the full suite does")
only_openvino = pytest.mark.skipif(not ON_OPENVINO, reason="the format of this backend")


def classifier() -> keras.Model:
    """Two images in, two answers out, all with names; padding, normalization and swish inside."""
    keras.utils.set_random_seed(1)
    a, b = keras.Input((12, 10, 3), name="left"), keras.Input((12, 10, 2), name="right")
    x = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])(a)
    x = layers.Concatenate()([layers.Conv2D(4, 3, padding="same", activation="relu")(x), b])
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    outputs = {"kind": layers.Dense(3, name="three")(x), "age": layers.Dense(1, activation="relu", name="one")(x)}
    return keras.Model({"left": a, "right": b}, outputs, name="pair")


def plain() -> keras.Model:
    keras.utils.set_random_seed(1)
    stack = [keras.Input((12, 10, 3), name="image"), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)]
    return keras.Sequential(stack, name="plain")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@only_openvino
def test_openvino_reads_what_was_written(tmp_path: Path):
    import openvino as ov

    fcn = fullyconv.convert(classifier())
    done = fullyconv.export(fcn, tmp_path / "pair.xml")
    assert files(tmp_path) == {"pair.xml", "pair.bin"}
    assert done.files == (tmp_path / "pair.xml", tmp_path / "pair.bin")
    assert [check.shapes for check in done.checks] == [
        ((1, 12, 10, 3), (1, 12, 10, 2)),
        ((4, 15, 16, 3), (4, 15, 16, 2)),
    ]
    assert all(check.error < 1e-6 for check in done.checks)
    assert done.checks[1].difference > 0.01
    run = ov.Core().compile_model(str(tmp_path / "pair.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rng = np.random.default_rng(3)
    images = {name: rng.uniform(0, 9, (2, 31, 22, n)).astype("float32") for name, n in (("left", 3), ("right", 2))}
    found, wanted = run(images), fcn.predict(images)
    for name in ("kind", "age"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5 * np.abs(wanted[name]).max())


@only_openvino
def test_what_is_printed(tmp_path: Path):
    done = fullyconv.export(fullyconv.convert(plain()), tmp_path / "plain.xml", "openvino")
    first, second, hint = str(done).splitlines()
    assert first == f"at 1 x 12 x 10 x 3: error {done.checks[0].error:.1e} of the largest value"
    assert second == (
        f"at 4 x 15 x 16 x 3: error {done.checks[1].error:.1e} of the largest value"
        f" (two images differ by {done.checks[1].difference:.1e})"
    )
    assert hint == (
        "Some CPUs compute it in bfloat16 unless it is compiled with INFERENCE_PRECISION_HINT=f32, as it was here."
    )


@only_openvino
def test_models_that_were_not_converted(tmp_path: Path):
    fixed = fullyconv.export(plain(), tmp_path / "fixed.xml")
    assert [check.shapes for check in fixed.checks] == [((1, 12, 10, 3),), ((4, 12, 10, 3),)]
    model = keras.Sequential([keras.Input((2, None, None)), layers.Conv2D(3, 3, data_format="channels_first")])
    given = fullyconv.export(model, tmp_path / "open.xml", window=(8, 6))
    assert [check.shapes for check in given.checks] == [((1, 2, 8, 6),), ((4, 2, 11, 12),)]
    model.name = "open"
    with pytest.raises(fullyconv.WindowError, match="accepts images of any size") as caught:
        fullyconv.export(model, tmp_path / "other.xml")
    assert str(caught.value) == (
        "'open' accepts images of any size, so a size to check the file at must be given.\n"
        "Give one it can take:  fullyconv.export(model, path, window=224)"
    )


@only_openvino
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda outputs: [y + 1 for y in outputs],
            "'OUT' was not written: it does not give what the network gives.\n"
            "At 1 x 12 x 10 x 3: error ERROR of the largest value, where 1e-04 is allowed.\n"
            "The tensorflow backend can:  KERAS_BACKEND=tensorflow fullyconv export FCN.keras -o OUT",
        ),
        (
            lambda outputs: outputs * 2,
            "'OUT' was not written: at 1 x 12 x 10 x 3 it does not run, or gives other shapes.\n"
            "What runs openvino says: ValueError: outputs of the shapes [(1, 1, 1, 2), (1, 1, 1, 2)], where the "
            "network gives [(1, 1, 1, 2)]\n"
            "The tensorflow backend can:  KERAS_BACKEND=tensorflow fullyconv export FCN.keras -o OUT",
        ),
    ],
)
def test_nothing_is_left_of_a_file_that_differs(
    spoil: Callable[[list], list], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "plain.xml").write_text("older")
    kind = formats.FORMATS["openvino"]

    def broken(path: Path, model: keras.Model) -> formats.Run:
        run = kind.open(path, model)
        return lambda arrays: spoil(run(arrays))

    monkeypatch.setitem(formats.FORMATS, "openvino", formats.Format(".xml", kind.ways, broken))
    with pytest.raises(fullyconv.VerificationError, match="was not written") as caught:
        fullyconv.export(fullyconv.convert(plain()), tmp_path / "plain.xml")
    said = str(caught.value).replace(str(tmp_path / "plain.xml"), "OUT")
    number = said.split("error ")[1].split()[0] if "ERROR" in message else ""
    assert said == message.replace("ERROR", number)
    assert files(tmp_path) == {"plain.xml"}
    assert (tmp_path / "plain.xml").read_text() == "older"


@only_openvino
def test_a_file_beside_it_is_replaced_only_where_that_was_asked_for(tmp_path: Path):
    fcn, mine = fullyconv.convert(plain()), tmp_path / "plain.bin"
    mine.write_text("mine")
    with pytest.raises(fullyconv.OutputError, match="is there already") as caught:
        fullyconv.export(fcn, tmp_path / "plain.xml")
    assert str(caught.value) == f"'{mine}' is there already.\nGive overwrite=True to replace it, or another name."
    assert (files(tmp_path), mine.read_text()) == ({"plain.bin"}, "mine")
    for _ in range(2):
        fullyconv.export(fcn, tmp_path / "plain.xml", overwrite=True)
    assert files(tmp_path) == {"plain.xml", "plain.bin"}
    assert mine.stat().st_size > 1000


def test_only_a_saved_model_makes_room_for_one(tmp_path: Path):
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    with pytest.raises(fullyconv.OutputError, match=r"^'.*net' is there already\.\nGive overwrite=True to replace it"):
        check_target(folder, "tf_saved_model")
    check_free(folder, True, folder=SAVED_MODEL)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(fullyconv.OutputError, match="is not replaced") as caught:
        check_target(folder, "tf_saved_model", overwrite=True)
    assert str(caught.value) == (
        f"'{folder}' is not replaced: it is a folder that is not just a SavedModel.\nGive another name."
    )


@pytest.mark.numerical
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="what writes a SavedModel without warnings")
def test_a_saved_model_is_replaced_whole(tmp_path: Path):
    fcn = fullyconv.convert(plain())
    fullyconv.export(fcn, tmp_path / "net", "tf_saved_model")
    before = (tmp_path / "net" / "saved_model.pb").stat().st_ino
    fullyconv.export(fcn, tmp_path / "net", "tf_saved_model", overwrite=True)
    assert (tmp_path / "net" / "saved_model.pb").stat().st_ino != before
    assert files(tmp_path) == {"net"}


def test_an_exporter_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("Exception encountered when calling Conv2D.call().\n\n\x1b[1mno such thing\x1b[0m\nmore")

    running = keras.backend.backend()
    kind = formats.Format(".tflite", {running: formats.Way(fail)}, formats.FORMATS["litert"].open)
    monkeypatch.setitem(formats.FORMATS, "litert", kind)
    with pytest.raises(fullyconv.ExportError, match="could not be written") as caught:
        fullyconv.export(plain(), tmp_path / "plain.tflite")
    assert str(caught.value) == (
        f"'plain' could not be written as litert on Keras's {running} backend.\n"
        "Its exporter says: RuntimeError: no such thing\n"
        "No other backend writes it: choose another format."
    )
    assert files(tmp_path) == set()


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    running = keras.backend.backend()
    way = formats.Way(lambda *_: None, {"no_such_package": "fullyconv[export]"})
    monkeypatch.setitem(formats.FORMATS, "onnx", formats.Format(".onnx", {running: way}, formats.FORMATS["onnx"].open))
    with pytest.raises(fullyconv.ExportError, match="Keras's") as caught:
        fullyconv.export(plain(), tmp_path / "plain.onnx")
    assert str(caught.value) == (
        f"Writing onnx on Keras's {running} backend takes no_such_package, which is not installed.\n"
        "Install it:  pip install 'fullyconv[export]'"
    )


@where_all_run
@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        (
            "fcn.bin",
            None,
            "'fcn.bin' does not say which format it is to be.\n"
            "End its name in .onnx, .tflite or .xml, or give format='litert', 'onnx', 'openvino' or 'tf_saved_model'.",
        ),
        (
            "fcn.onnx",
            "caffe",
            "format='caffe' is unknown.\nUse 'litert', 'onnx', 'openvino' or 'tf_saved_model'.",
        ),
        ("fcn.onnx", "openvino", "'fcn.onnx' cannot be written as openvino: its name must end in .xml."),
        ("none/fcn.onnx", None, "'none/fcn.onnx' cannot be written: there is no folder 'none'.\nCreate it first."),
        (
            "there",
            "tf_saved_model",
            "'there' is there already.\nGive overwrite=True to replace it, or another name.",
        ),
        (
            "fcn.tflite",
            None,
            f"Keras's {keras.backend.backend()} backend does not write litert.\n"
            "The tensorflow backend can:  KERAS_BACKEND=tensorflow fullyconv export FCN.keras -o fcn.tflite",
        ),
        (
            "fcn.onnx",
            "onnx",
            f"Keras's {keras.backend.backend()} backend does not write onnx.\n"
            "The tensorflow or torch backend can:  KERAS_BACKEND=tensorflow fullyconv export FCN.keras -o fcn.onnx",
        ),
    ],
)
def test_what_cannot_be_written(
    name: str, format: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    with pytest.raises((fullyconv.ExportError, fullyconv.OutputError), match=re.escape(message)) as caught:
        fullyconv.export(plain(), name, format)
    assert str(caught.value) == message
    assert files(tmp_path) == {"there"}


@where_all_run
def test_a_backend_that_must_be_installed_first(monkeypatch: pytest.MonkeyPatch):
    from fullyconv import backend

    monkeypatch.setattr(backend, "is_installed", lambda _: False)
    with pytest.raises(fullyconv.ExportError, match="Keras's") as caught:
        fullyconv.export(plain(), "fcn.tflite")
    assert str(caught.value) == (
        f"Keras's {keras.backend.backend()} backend does not write litert.\n"
        "The tensorflow backend can, after pip install 'fullyconv[tensorflow]':  "
        "KERAS_BACKEND=tensorflow fullyconv export FCN.keras -o fcn.tflite"
    )


def test_a_model_without_a_graph(tmp_path: Path):
    class Own(keras.Model):
        def call(self, x: object) -> object:
            return x

    with pytest.raises(fullyconv.UnsupportedModelError, match="has no graph") as caught:
        fullyconv.export(Own(name="own"), tmp_path / "own.xml")
    assert str(caught.value) == (
        "'own' has no graph, so it cannot be exported.\nBuild it as a Sequential or Functional model."
    )


@only_openvino
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    plain().save("plain.keras")
    done = CliRunner().invoke(app, ["export", "plain.keras", "-o", "fcn.xml"])
    assert done.exit_code == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[:2]] == ["at 1 x 12 x 10 x 3", "at 4 x 15 x 16 x 3"]
    assert done.stdout.splitlines()[-1] == "Wrote fcn.xml (0.0 MB)."
    failed = CliRunner().invoke(app, ["export", "plain.keras", "-o", "fcn.onnx"])
    assert failed.exit_code == 1
    assert failed.stderr == (
        "Error: Keras's openvino backend does not write onnx.\n"
        "The tensorflow or torch backend can:  KERAS_BACKEND=tensorflow fullyconv export FCN.keras -o fcn.onnx\n"
    )


@pytest.mark.numerical
@pytest.mark.filterwarnings("ignore")  # exporters of others
@pytest.mark.parametrize("kind", [name for name, f in formats.FORMATS.items() if keras.backend.backend() in f.ways])
def test_every_format_of_this_backend(kind: str, tmp_path: Path, tally: Callable[[int], None]):
    fcn = fullyconv.convert(plain() if keras.backend.backend() == "jax" else classifier())
    target = tmp_path / f"fcn{formats.FORMATS[kind].ending}"
    done = fullyconv.export(fcn, target, kind)
    assert target.exists()
    assert all(path.stat().st_size for path in done.files)
    assert files(tmp_path) == {path.relative_to(tmp_path).parts[0] for path in done.files}
    assert max(check.error for check in done.checks) < 1e-5
    assert done.checks[1].difference > 0.01
    tally(sum(check.shapes[0][0] for check in done.checks))


@pytest.mark.parametrize("backend", ["openvino", "tensorflow", "torch", "jax"])
def test_what_each_backend_writes(backend: str):
    """The table in the docstrings, the help and the changelog."""
    written = {
        "openvino": {"openvino"},
        "tensorflow": {"litert", "onnx", "openvino", "tf_saved_model"},
        "torch": {"onnx"},
        "jax": {"tf_saved_model"},
    }
    assert {name for name, kind in formats.FORMATS.items() if backend in kind.ways} == written[backend]
