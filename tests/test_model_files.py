"""Opening a model by path or by name: what opens, and the whole text of every refusal."""

import zipfile
from pathlib import Path

import keras
import pytest
from keras import layers

from fullyconv.errors import ModelFileError, UnsupportedModelError
from fullyconv.model_files import open_model


class Mine(layers.Layer):
    """A layer the process that opens the file is not told about."""

    def call(self, x):
        return x


def small(*extra: layers.Layer) -> keras.Model:
    return keras.Sequential(
        [keras.Input((8, 8, 3)), *extra, layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3, name="logits")]
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(source: str, kind: type[Exception] = ModelFileError) -> str:
    with pytest.raises(kind, match=r"\S") as caught:
        open_model(source)
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.hdf5"])
def test_opens_what_keras_saves(folder: Path, name: str):
    small().save(name)
    model = open_model(name)
    assert model.layers[-1].name == "logits"
    assert not model.compiled


def test_opens_a_path_object(folder: Path):
    small().save("model.keras")
    assert open_model(folder / "model.keras").output_shape == (None, 3)


@pytest.mark.parametrize("name", ["MobileNet", "mobilenet"])
def test_opens_an_application_with_random_weights(folder: Path, name: str):
    assert open_model(name, random_weights=True).name.startswith("mobilenet")


def test_the_folder_of_the_model_may_not_exist(folder: Path):
    assert refusal("nowhere/model.keras") == (
        "There is no folder 'nowhere', so no model 'model.keras' in it.\nCheck the path."
    )


def test_missing_file_with_near_ones(folder: Path):
    for name in ("faces.keras", "chess.keras", "cells.h5"):
        Path(name).touch()
    assert refusal("ches.keras") == "There is no file 'ches.keras'.\nModels in that folder: chess.keras, faces.keras."
    assert refusal("x.h5") == "There is no file 'x.h5'.\nModels in that folder: cells.h5."


def test_missing_file_in_a_folder_without_models(folder: Path):
    assert refusal("a.keras") == "There is no file 'a.keras'.\nThat folder holds no .keras, .h5 or .hdf5 file."


def test_folders(folder: Path):
    (folder / "plain").mkdir()
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").touch()
    assert refusal("plain") == "'plain' is a folder.\nGive the path of a .keras, .h5 or .hdf5 file."
    assert refusal("saved") == (
        "'saved' is a TensorFlow SavedModel, which Keras 3 cannot open as a model.\n"
        "Load it with the Keras 2 that wrote it and save it as .h5, which Keras 3 opens."
    )


PYTORCH = (
    "Rebuild the network in Keras, copy the weights into it and save that as .keras.\n"
    "torch.load(path, weights_only=True) reads them without running code that the file may carry."
)


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        *((f"n.{ending}", "PyTorch weights", PYTORCH) for ending in ("pth", "pt", "ckpt", "bin")),
        ("n.safetensors", "weights without a network", PYTORCH.splitlines()[0]),
        ("n.onnx", "an ONNX graph", "Save the Keras model it was exported from as .keras."),
        ("n.pb", "a TensorFlow graph", "Load it with the TensorFlow that wrote it and save the Keras model as .keras."),
        ("n.tflite", "a TensorFlow Lite graph", "Save the Keras model it was made from as .keras."),
        ("n.xml", "an OpenVINO graph", "Save the Keras model it was made from as .keras."),
        (
            "n.json",
            "a description without weights",
            "Rebuild the model, load its weights and save the whole as .keras.",
        ),
    ],
)
def test_files_of_other_kinds(folder: Path, name: str, what: str, remedy: str):
    Path(name).write_bytes(b"x")
    assert refusal(name) == f"'{name}' is not a Keras model: by its name it holds {what}.\n{remedy}"


def test_an_ending_keras_does_not_know(folder: Path):
    Path("photo.png").write_bytes(b"x")
    assert refusal("photo.png") == (
        "'photo.png' is not a Keras model by its name.\n"
        "Keras reads the kind of a file from its ending: .keras, .h5 or .hdf5.\n"
        "If it is one of these, rename it."
    )


def test_empty(folder: Path):
    Path("model.keras").touch()
    assert refusal("model.keras") == "'model.keras' is empty.\nCopy or download it again."


@pytest.mark.parametrize(("name", "kind"), [("a.keras", "zip archive"), ("a.h5", "HDF5 file"), ("a.hdf5", "HDF5 file")])
def test_not_what_its_name_says(folder: Path, name: str, kind: str):
    Path(name).write_bytes(b"not a model" * 100)
    assert refusal(name) == (
        f"'{name}' is not a model: a {Path(name).suffix} file is a {kind}, and this is not.\n"
        "Save the model with model.save."
    )


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_truncated(folder: Path, name: str):
    small().save(name)
    Path(name).write_bytes(Path(name).read_bytes()[:5000])
    assert refusal(name) == (
        f"'{name}' is truncated: it starts as a model and ends too early (5,000 bytes).\nCopy or download it again."
    )


def test_a_zip_of_something_else(folder: Path):
    with zipfile.ZipFile("a.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal("a.keras") == (
        "'a.keras' is a zip archive without a Keras model in it.\n"
        "A .keras file has the members config.json and model.weights.h5: save the model again with model.save."
    )


@pytest.mark.parametrize("name", ["net.weights.h5", "net.h5"])
def test_weights_only(folder: Path, name: str):
    small().save_weights("net.weights.h5")
    Path("net.weights.h5").rename(name)
    assert refusal(name) == (
        f"'{name}' holds weights without the model they belong to.\n"
        "Give them with the classifier they belong to: fullyconv convert MODEL --weights FILE here, "
        "fullyconv.convert_weights in Python."
    )


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_custom_layers_are_named(folder: Path, name: str):
    small(keras.Sequential([Mine()]), Mine()).save(name)
    assert refusal(name) == (
        f"'{name}' has layers of classes that Keras does not know: Mine.\n"
        "The file names them; their code is in the program that trained the model.\n"
        "There, model = keras.models.load_model(path, custom_objects={'Mine': Mine}), then fullyconv.convert(model)."
    )


def test_custom_layers_the_program_knows(folder: Path):
    small(Mine()).save("a.keras")
    with keras.saving.custom_object_scope({"Mine": Mine}):
        assert isinstance(open_model("a.keras").layers[0], Mine)


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_code_in_the_file_is_not_run(folder: Path, name: str):
    small(layers.Lambda(lambda x: x * 2)).save(name)
    assert refusal(name) == (
        f"'{name}' carries Python code of its own, which Keras's safe mode does not run.\n"
        "Loading it would let the file do anything you can do on this machine.\n"
        "If you trust its author: --unsafe here, keras.models.load_model(path, safe_mode=False) in Python."
    )
    assert open_model(name, unsafe=True).layers[-1].name == "logits"


def test_whatever_else_keras_says_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise ValueError("The weights do not fit.\nA long story.")

    small().save("a.keras")
    monkeypatch.setattr(keras.models, "load_model", fail)
    assert refusal("a.keras") == (
        "Keras cannot load 'a.keras': The weights do not fit.\nSave it again as .keras with Keras 3.15 or later."
    )


def test_a_model_for_text(folder: Path):
    keras.Sequential(
        [keras.Input((100,)), layers.Embedding(50, 8, name="words"), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    ).save("text.keras")
    assert refusal("text.keras", UnsupportedModelError) == (
        "'text.keras' takes no image: it reads text.\n"
        "Its input has the shape (None, 100), without spatial axes; 'words' (Embedding) looks up words.\n"
        "Give a classifier whose input is (height, width, channels), or has one or three spatial axes."
    )


def test_a_model_for_tables(folder: Path):
    keras.Sequential([keras.Input((7,)), layers.Dense(2)]).save("table.keras")
    assert refusal("table.keras", UnsupportedModelError) == (
        "'table.keras' takes no image: it reads a table.\n"
        "Its input has the shape (None, 7), without spatial axes.\n"
        "Give a classifier whose input is (height, width, channels), or has one or three spatial axes."
    )


def test_unknown_names(folder: Path):
    assert refusal("VGG61") == (
        "'VGG61' is neither a file here nor a model of keras.applications.\nThe nearest names are VGG19, VGG16."
    )
    assert refusal("zzz") == (
        "'zzz' is neither a file here nor a model of keras.applications.\n"
        "It has ConvNeXtBase, ConvNeXtLarge, ConvNeXtSmall and others."
    )


def test_weights_that_cannot_be_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(**_: object) -> None:
        raise Exception("URL fetch failure on VGG16: no route")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    assert refusal("VGG16") == (
        "The ImageNet weights of VGG16 cannot be fetched: URL fetch failure on VGG16: no route.\n"
        "Give a file saved where they can be, or build VGG16 with random weights to try the conversion:\n"
        "--random-weights here, keras.applications.VGG16(weights=None) in Python."
    )
