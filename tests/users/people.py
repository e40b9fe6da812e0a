"""Classifiers of the kinds that people have, a photograph, and what is right: python tests/users/people.py FOLDER

Right are the classifier's own answers, of plain Keras, on every window cut out of the photograph: `right.npz` has an
array `(rows, columns, units)` for each output, called `model` or `model/output`. Nothing here imports fullyconv.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image

WINDOW = (32, 24)
PHOTO = (58, 71)
STRIDE = 2


def transfer_learned() -> keras.Model:
    """Augmentation, Rescaling, a backbone that is a model of its own, and a head: Keras's tutorial."""
    image = keras.Input((None, None, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, use_bias=False)(image)))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x)))
    backbone = keras.Model(image, layers.Conv2D(12, 1)(x), name="backbone")
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomContrast(0.2)])
    entered = keras.Input((*WINDOW, 3))
    x = backbone(layers.Rescaling(1 / 127.5, -1)(augmentation(entered)), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(entered, layers.Dense(4, activation="softmax")(x), name="transfer_learned")


def normalized() -> keras.Model:
    """Normalization, adapted to data, and a Flatten."""
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(120, 60, (4, 8, 8, 3)).astype("float32"))
    stack = [
        keras.Input((*WINDOW, 3)),
        normalization,
        layers.Conv2D(6, 5, activation="relu"),
        layers.MaxPooling2D(STRIDE),
        layers.Flatten(),
        layers.Dense(8, activation="relu"),
        layers.Dense(3, activation="softmax"),
    ]
    return keras.Sequential(stack, name="normalized")


def prepared() -> keras.Model:
    """`preprocess_input` of keras.applications as operations, and one sigmoid."""
    entered = keras.Input((*WINDOW, 3))
    x = keras.applications.mobilenet_v2.preprocess_input(entered)
    x = layers.Conv2D(8, 3, strides=STRIDE, activation="relu")(x)
    x = layers.GlobalMaxPooling2D()(layers.SeparableConv2D(8, 3, activation="relu")(x))
    return keras.Model(entered, layers.Dense(1, activation="sigmoid")(x), name="prepared")


def two_headed() -> keras.Model:
    """Two outputs by name."""
    entered = keras.Input((*WINDOW, 3))
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(entered))
    x = layers.Conv2D(8, 3, activation="relu")(layers.AveragePooling2D(STRIDE)(x))
    kind = layers.Dense(4, activation="softmax", name="kind")(layers.GlobalAveragePooling2D()(x))
    size = layers.Dense(1, name="size")(layers.Flatten()(x))
    return keras.Model(entered, {"kind": kind, "size": size}, name="two_headed")


def write(folder: Path) -> None:
    """Write each model, `photo.png` and `right.npz` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(5).integers(0, 256, (8, 9, 3), dtype="uint8")
    picture = Image.fromarray(coarse).resize(PHOTO[::-1], Image.Resampling.NEAREST)
    picture.save(folder / "photo.png")
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(picture, "float32"), WINDOW, axis=(0, 1))
    windows = np.moveaxis(windows[::STRIDE, ::STRIDE], 2, -1)
    right: dict[str, np.ndarray] = {}
    for build in (transfer_learned, normalized, prepared, two_headed):
        keras.utils.set_random_seed(11)
        model = build()
        _liven(model)
        model.save(folder / f"{model.name}.keras")
        right |= _answers(model, windows)
    np.savez(folder / "right.npz", **right)


def _answers(model: keras.Model, windows: np.ndarray) -> dict[str, np.ndarray]:
    answers = model.predict(windows.reshape(-1, *windows.shape[2:]), batch_size=256, verbose=0)
    named = answers if isinstance(answers, dict) else {"": answers}
    maps = {f"{model.name}/{name}".rstrip("/"): a.reshape(*windows.shape[:2], -1) for name, a in named.items()}
    assert all(np.ptp(values, axis=(0, 1)).max() > 0.1 for values in maps.values()), "the answers hardly differ"
    return maps


def _liven(model: keras.Model) -> None:
    """Biases and statistics that matter, and heads that tell windows apart."""
    rng = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, layers.Dense) and layer.activation is not keras.activations.relu:
            layer.kernel.assign(8 * keras.ops.convert_to_numpy(layer.kernel))
    for variable in model.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.2, variable.shape))
        elif kind in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
