"""Networks that scale pixels themselves: recognised from the graph, said, and warned about where it happens twice."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image
from typer.testing import CliRunner

import fullyconv
import nets
from fullyconv.cli import app
from fullyconv.error_map import error_map
from fullyconv.scaling import preparation, scaling_of, twice

SIZE = 12
NAMES_NONE = (
    "No preprocessing was given, and the model names none: the pixels went in as they are, 0 to 255. If it was trained "
    "on another range, this map is wrong: give it, such as preprocess='tf'."
)
TWICE = (
    "The model scales pixels itself ('rescaling'), so they are scaled twice. Unless it was trained that way, the "
    "answers are wrong: leave the preprocessing out, with preprocess='none'."
)
PHOTO = np.random.default_rng(0).integers(0, 256, (SIZE + 4, SIZE + 7, 3)).astype("uint8")


def rescaling(scale: float = 1 / 127.5, offset: float = -1.0, name: str = "rescaling") -> layers.Layer:
    return layers.Rescaling(scale, offset, name=name)


def normalization(mean: Any, deviation: Any, **options: Any) -> layers.Layer:
    return layers.Normalization(mean=mean, variance=np.square(deviation), name="normalization", **options)


def adapted(high: float) -> layers.Layer:
    layer = layers.Normalization(name="normalization")
    layer.adapt(np.random.default_rng(1).uniform(0, high, (4, SIZE, SIZE, 3)).astype("float32"))
    return layer


class Own(layers.Layer):
    """A layer of the user's that scales."""

    def call(self, x):
        return x / 255.0


def chain(*steps: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return apply


def block(*steps: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *steps], name="augmentation")


def classifier(front: Callable[[Any], Any], channels: int = 3) -> keras.Model:
    """A network with this in front."""
    keras.utils.set_random_seed(3)
    x = keras.Input((SIZE, SIZE, channels))
    y = layers.Conv2D(4, 3, strides=2, activation="relu")(front(x))
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(y)), name="net")


def branches(*fronts: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: layers.Concatenate()([front(x) for front in fronts])


apps = keras.applications
# What stands in front, which names it is said to have, and the ends of the range that pixels get.
SCALING: dict[str, tuple[Callable[[], Any], tuple[str, ...], tuple[float, float]]] = {
    "Rescaling": (rescaling, ("rescaling",), (-1, 1)),
    "Normalization": (lambda: normalization([120.0] * 3, [60.0] * 3), ("normalization",), (-2, 2.25)),
    "Normalization the other way": (
        lambda: chain(normalization(-2.0, 1 / 60, axis=None, invert=True)),
        ("normalization",),
        (-2, 2.25),
    ),
    "division": (lambda: lambda x: x / 255, ("true_divide",), (0, 1)),
    "multiplication by a number in front": (lambda: lambda x: (1 / 255) * x, ("multiply",), (0, 1)),
    "division and subtraction": (lambda: lambda x: x / 127.5 - 1, ("true_divide", "subtract"), (-1, 1)),
    "turned round": (lambda: lambda x: 1 - x / 255, ("true_divide", "subtract"), (0, 1)),
    "negative": (lambda: lambda x: -(x / 255), ("true_divide", "negative"), (-1, 0)),
    "preprocess_input, tf": (lambda: apps.mobilenet_v2.preprocess_input, ("true_divide", "subtract"), (-1, 1)),
    "preprocess_input, torch": (lambda: apps.densenet.preprocess_input, ("true_divide", "add"), (-2.0357, 2.4087)),
    "preprocess_input, caffe": (lambda: apps.vgg16.preprocess_input, ("add",), (-116.779, 138.221)),
    "a chain": (
        lambda: chain(rescaling(1 / 255, 0), normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        ("rescaling", "normalization"),
        (-2.0357, 2.4087),
    ),
    "behind augmentation": (
        lambda: chain(layers.RandomFlip(), layers.RandomRotation(0.1), rescaling()),
        ("rescaling",),
        (-1, 1),
    ),
    "in a block": (
        lambda: block(layers.RandomZoom(0.1), rescaling(), layers.RandomContrast(0.1)),
        ("rescaling",),
        (-1, 1),
    ),
    "in a block in a block": (lambda: block(block(rescaling())), ("rescaling",), (-1, 1)),
    "behind what keeps pixels": (
        lambda: chain(
            layers.Identity(), layers.Dropout(0.1), layers.ZeroPadding2D(1), layers.MaxPooling2D(2), rescaling()
        ),
        ("rescaling",),
        (-1, 1),
    ),
    "of a cast": (lambda: lambda x: ops.cast(x, "float32") / 255.0, ("true_divide",), (0, 1)),
    "in a layer of one's own": (Own, ("true_divide",), (0, 1)),
    "in two branches": (
        lambda: branches(rescaling(name="first"), rescaling(1 / 255, 0, name="second")),
        ("first", "second"),
        (-0.5, 1),
    ),
    "bent afterwards": (lambda: chain(rescaling(1 / 255, 0), ops.square), ("rescaling",), (0, 1)),
}
# The same for what is made for values that were scaled before.
SMALLER: dict[str, tuple[Callable[[], Any], tuple[str, ...], tuple[float, float]]] = {
    "ImageNet's, of 0 to 1": (
        lambda: normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("normalization",),
        (-2.0357, 1131.298),
    ),
    "from 0..1 to -1..1": (lambda: rescaling(2, -1), ("rescaling",), (-1, 509)),
    "from -1..1 to 0..1": (lambda: rescaling(0.5, 0.5), ("rescaling",), (0.5, 128)),
}
NOT: dict[str, Callable[[], Any]] = {
    "nothing": lambda: lambda x: x,
    "a scale of 1": lambda: rescaling(1.0, 0.0),
    "one that is undone": lambda: lambda x: (x / 255) * 255,
    "another order of channels": lambda: lambda x: ops.take(x, [2, 1, 0], axis=-1),
    "a negative of the photo": lambda: lambda x: 255 - x,
    "BatchNormalization": layers.BatchNormalization,
    "a convolution of 1 x 1": lambda: layers.Conv2D(3, 1),
    "a Rescaling behind a convolution": lambda: chain(layers.Conv2D(3, 1), rescaling()),
    "one branch of two": lambda: branches(rescaling(), lambda x: x),
    "divided by the pixels": lambda: lambda x: 255 / (x + 256),
}


@pytest.mark.parametrize("case", [*SCALING, *SMALLER])
def test_scaling_is_read_off_the_graph(case: str):
    front, names, ends = {**SCALING, **SMALLER}[case]
    found = scaling_of(classifier(front()))
    assert found is not None
    assert found.names == names
    assert found.range.ends == pytest.approx(ends, rel=1e-3)
    assert found.of_pixels == (case in SCALING)


@pytest.mark.parametrize("case", NOT)
def test_what_does_not_scale(case: str):
    model = classifier(NOT[case]())
    assert scaling_of(model) is None
    assert preparation(model, None) == (NAMES_NONE,)
    assert twice(model, "tf") is None


@pytest.mark.parametrize("data_format", nets.FORMATS)
@pytest.mark.parametrize("preprocess_input", ["vgg16", "densenet", "mobilenet_v2"])
def test_preprocess_input_of_either_data_format(data_format: str, preprocess_input: str):
    x = keras.Input((3, SIZE, SIZE) if data_format == "channels_first" else (SIZE, SIZE, 3))
    y = getattr(apps, preprocess_input).preprocess_input(x, data_format=data_format)
    found = scaling_of(keras.Model(x, y))
    assert found is not None
    assert found.of_pixels


@pytest.mark.once
def test_a_backbone_that_starts_with_it():
    def built(**options: Any) -> keras.Model:
        return apps.MobileNetV3Small(input_shape=(64, 64, 3), include_top=False, weights=None, **options)

    backbone = built()
    model = keras.Sequential([keras.Input((64, 64, 3)), layers.RandomFlip(), backbone, layers.GlobalMaxPooling2D()])
    assert scaling_of(backbone) is not None
    assert scaling_of(model) == scaling_of(backbone)
    assert scaling_of(built(include_preprocessing=False)) is None


@pytest.mark.parametrize("stride", [None, 1])
@pytest.mark.parametrize("case", ["Rescaling", "Normalization", "preprocess_input, caffe", "in a block"])
def test_a_converted_network_says_what_its_classifier_does(case: str, stride: int | None, tmp_path: Path):
    """Also read from the file that Keras saves of it, in which nothing of ours is left."""
    model = classifier(SCALING[case][0]())
    fcn = fullyconv.convert(model, stride=stride)
    fcn.model.save(tmp_path / "fcn.keras")
    loaded = fullyconv.load(tmp_path / "fcn.keras", window=SIZE)
    assert scaling_of(model) is not None
    assert scaling_of(model) == scaling_of(fcn.model) == scaling_of(loaded.model)


@pytest.mark.numerical
@pytest.mark.parametrize("case", ["Rescaling", "Normalization", "division and subtraction"])
def test_the_map_with_the_notes_advice_is_the_classifier_on_each_window(case: str):
    model = classifier(SCALING[case][0]())
    fcn = fullyconv.convert(model)
    names = ", ".join(map(repr, SCALING[case][1]))
    plain, right = fullyconv.heatmap(fcn, PHOTO), fullyconv.heatmap(fcn, PHOTO, preprocess="none")
    assert plain.notes == (f"The model scales pixels itself ({names}): they went in as they are, 0 to 255.",)
    assert right.notes == ("Preprocessing: x as it is, 0 to 255 ('none').",)
    assert plain.map.shape == (3, 4, 3)
    for i, j in np.ndindex(3, 4):
        window = PHOTO[None, 2 * i : 2 * i + SIZE, 2 * j : 2 * j + SIZE].astype("float32")
        want = nets.run(model, window)[0]
        np.testing.assert_allclose(plain.map[i, j], want, atol=1e-5)
        np.testing.assert_allclose(right.map[i, j], want, atol=1e-5)
    wrong = fullyconv.heatmap(fcn, PHOTO, preprocess="tf")
    assert np.abs(wrong.map - plain.map).max() > 0.05
    assert wrong.notes == ("Preprocessing: x / 127.5 - 1 ('tf').", TWICE.replace("'rescaling'", names))


def test_every_preprocessing_that_scales_is_warned_about():
    fcn = fullyconv.convert(classifier(rescaling()))
    for mode in ("torch", "caffe", "unit", {"scale": 1 / 128}, {"offset": [-100, -110, -120], "bgr": True}):
        assert fullyconv.heatmap(fcn, PHOTO, preprocess=mode).notes[1] == TWICE
    for mode in ("none", {}, {"bgr": True}, {"scale": 1.0, "offset": 0}):
        (note,) = fullyconv.heatmap(fcn, PHOTO, preprocess=mode).notes
        assert note.startswith("Preprocessing: ")
    fcn.preprocess = "tf"
    assert fullyconv.heatmap(fcn, PHOTO).notes == ("Preprocessing: x / 127.5 - 1 ('tf'), as the model says.", TWICE)
    assert fullyconv.heatmap(fcn, PHOTO, preprocess="none").notes == ("Preprocessing: x as it is, 0 to 255 ('none').",)
    assert error_map(classifier(rescaling()), fcn, PHOTO).notes == (TWICE,)
    assert not error_map(classifier(rescaling()), fcn, PHOTO, "none").notes


def test_a_function_may_scale_too():
    def flipped(x):
        return x[:, ::-1]

    fcn = fullyconv.convert(classifier(rescaling()))
    assert fullyconv.heatmap(fcn, PHOTO, preprocess=flipped).notes == (
        "Preprocessing: the function flipped.",
        "The model scales pixels itself ('rescaling'). If the function flipped scales them too, they are scaled twice "
        "and the answers are wrong: then leave the preprocessing out, with preprocess='none'.",
    )


def test_a_normalization_of_values_that_were_scaled_before():
    """With ImageNet's mean of 0..1 in it, pixels have to be brought to 0..1 first: that is no scaling twice."""
    model = classifier(adapted(1.0))
    found = scaling_of(model)
    low, high = found.range.ends
    assert (low, high) == pytest.approx((-1.73, 884), rel=0.05)
    assert preparation(model, None) == (
        f"No preprocessing was given: the pixels went in as they are, 0 to 255. The model scales what it is given "
        f"itself ('normalization'), here to values from {low:.4g} to {high:.4g}: it seems to be trained on a smaller "
        f"range. If so, this map is wrong: give preprocess='unit' for 0 to 1, or preprocess='tf' for -1 to 1.",
    )
    assert preparation(model, "unit") == ("Preprocessing: x / 255 ('unit').",)
    assert preparation(classifier(adapted(255.0)), "unit")[1] == TWICE.replace("rescaling", "normalization")


def test_many_names_are_counted():
    front = chain(*(rescaling(1 / 3, 0, name=f"step {i}") for i in range(5)))
    assert preparation(classifier(front), None) == (
        "The model scales pixels itself ('step 0', 'step 1', 'step 2' and 2 more): they went in as they are, 0 to 255.",
    )


@pytest.mark.once
def test_names_of_keras_applications_are_told_once():
    assert preparation(apps.VGG16(weights=None, classes=2, include_top=False), "caffe") == (
        "Preprocessing: blue, green, red minus ImageNet's means ('caffe').",
    )


@pytest.mark.once
def test_every_command_that_prepares_pixels_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    classifier(rescaling()).save("net.keras")
    Image.fromarray(PHOTO).save("photo.png")

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, done.output
        return done.stdout

    itself = "The model scales pixels itself ('rescaling'): they went in as they are, 0 to 255."
    warning = TWICE.replace("preprocess='none'", "--preprocess none")
    assert itself in run("heatmap", "net.keras", "photo.png", "-o", "map.png").splitlines()
    assert warning in run("convert", "net.keras", "-o", "fcn.keras", "--preprocess", "tf").splitlines()
    assert warning in run("heatmap", "fcn.keras", "photo.png", "-o", "twice.png").splitlines()
    assert warning in run("heatmap", "fcn.keras", "photo.png", "-o", "scaled.png", "--scale", "0.01").splitlines()
    assert warning in run("verify", "net.keras", "fcn.keras", "--image", "photo.png").splitlines()
    assert warning not in run("verify", "net.keras", "fcn.keras", "--preprocess", "none", "-o", "error.png")
    run("report", "net.keras", "photo.png", "-o", "report.html", "--preprocess", "unit")
    assert TWICE in html.unescape(Path("report.html").read_text())
