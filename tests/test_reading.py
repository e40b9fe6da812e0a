"""A network asked about a picture: logits, softmax, wrong inputs, and what a notebook shows."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import fullyconv
from fullyconv.errors import GeometryError, ImageError, InputTooSmallError, LabelError
from fullyconv.heatmap import heatmap
from fullyconv.preprocessing import of_application, preprocess


def colours(activation: str | None = "softmax", units: int = 3, last: list | None = None) -> keras.Model:
    """A classifier of windows of 8 x 8 pixels by their mean red, green and blue."""
    stack = [keras.Input((8, 8, 3)), layers.AveragePooling2D(4), layers.GlobalAveragePooling2D(name="mean")]
    stack += [layers.Dense(units, activation, name="logits"), *(last or [])]
    model = keras.Sequential(stack, name="colours")
    model.get_layer("logits").set_weights([np.eye(3, units, dtype="float32") / 50, np.zeros(units, "float32")])
    return model


@pytest.fixture(scope="module")
def network() -> fullyconv.FullyConv:
    return fullyconv.convert(colours())


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (20, 28, 3), np.uint8)


def means(picture: np.ndarray) -> np.ndarray:
    """The logits of `colours` in every window."""
    rows, columns = ((n - 8) // 4 + 1 for n in picture.shape[:2])
    cells = [[picture[4 * i : 4 * i + 8, 4 * j : 4 * j + 8].mean((0, 1)) for j in range(columns)] for i in range(rows)]
    return np.array(cells) / 50


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


# --------------------------------------------------------------------------------------------- logits and softmax


@pytest.mark.parametrize(
    ("activation", "last"), [("softmax", None), (None, None), (None, [layers.Softmax()]), ("sigmoid", None)]
)
def test_logits_and_their_softmax_whatever_the_network_ends_in(picture, activation, last):
    fcn = fullyconv.convert(colours(activation, last=last))
    drawn = heatmap(fcn, picture, values="logits")
    np.testing.assert_allclose(drawn.map, means(picture), rtol=1e-5)
    assert drawn.kind == "logit"
    assert drawn.notes[-1] == "The values are the logits, before the last activation, as asked."
    drawn = heatmap(fcn, picture, values="softmax")
    np.testing.assert_allclose(drawn.map, softmax(means(picture)), rtol=1e-5)
    assert drawn.kind == "probability"
    assert drawn.notes[-1] == "The values are the softmax over the classes of the network's logits, as asked."


def test_what_a_network_returns_is_named_after_its_last_activation(picture):
    assert heatmap(fullyconv.convert(colours("sigmoid")), picture).kind == "probability"
    drawn = heatmap(fullyconv.convert(colours(None)), picture)
    assert drawn.kind == "score"
    assert drawn.notes[-1] == (
        "The values are scores, no probabilities; values='softmax' makes them so if they are logits."
    )


def test_values_that_are_none(picture, network):
    with pytest.raises(LabelError, match=r"\.") as caught:
        heatmap(network, picture, values="probability")
    assert str(caught.value) == (
        "There are no values 'probability'; use 'softmax', 'logits', or None for the network's own."
    )
    with pytest.raises(LabelError, match=r"\.") as caught:
        heatmap(fullyconv.convert(colours("sigmoid", 1)), picture, values="softmax")
    assert str(caught.value) == (
        "The softmax of one class is 1 everywhere.\nLeave values='softmax' out, or take a network that ends in a "
        "sigmoid."
    )


@pytest.mark.parametrize("values", [None, "logits", "softmax"])
def test_answers_that_are_not_finite(picture, values):
    model = colours("softmax" if values == "softmax" else None)
    model.get_layer("logits").set_weights([np.full((3, 3), 3e38, "float32"), np.zeros(3, "float32")])
    with pytest.raises(ImageError, match=r"\.") as caught:
        heatmap(fullyconv.convert(model), picture, values=values)
    rows, columns = fullyconv.convert(model).grid.windows_inside(picture.shape[:2])
    cells = rows * columns
    assert str(caught.value) == (
        f"The network's answers to the picture are NaN or infinite in {cells} of {cells} cells.\n"
        "See whether the pixels are prepared as they were in training, and whether its weights are finite."
    )


# -------------------------------------------------------------------------------------------------- what goes in


def test_a_path_an_array_and_a_pillow_image_are_one_picture(picture, network, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    drawn = [
        heatmap(network, each, labels=tmp_path / "names.txt", preprocess="none")
        for each in (picture, tmp_path / "a.png", Image.fromarray(picture))
    ]
    for each in drawn:
        np.testing.assert_array_equal(each.map, drawn[0].map)
        assert each.labels == ("red", "green", "blue")
    assert [each.name for each in drawn] == ["", "a.png", ""]


def said(kind: type, *arguments, **options) -> str:
    with pytest.raises(kind, match=r"\.") as caught:
        heatmap(*arguments, **options)
    return str(caught.value)


def test_pictures_that_are_none(picture, network):
    assert said(ImageError, network, picture[None]) == (
        "The array has the shape (1, 20, 28, 3); one picture of shape (height, width) or (height, width, channels) is "
        "needed."
    )
    for wrong in (None, 5):
        assert said(ImageError, network, wrong) == (
            f"{wrong} is not a picture; give a path, a Pillow image, or an array (height, width, channels)."
        )
    assert said(ImageError, network, "no.png") == "There is no picture 'no.png'; check the path."
    assert said(ImageError, network, picture / 127.5 - 1).startswith("The array holds values from -1 to 0.99")
    assert said(InputTooSmallError, network, picture[:7]) == (
        "The input is 7 x 28, smaller than the window of 8 x 8.\n"
        "The network was trained on 8 x 8: enlarge the image, or pad it, to at least that size."
    )


def test_networks_that_are_none(picture):
    model = colours()
    assert said(GeometryError, model, picture) == (
        "A heat map needs a converted network, and this is a Sequential.\n"
        "Convert the classifier first:  fullyconv.heatmap(fullyconv.convert(model), image)"
    )
    assert said(GeometryError, "model.keras", picture).startswith(
        "A heat map needs a converted network, and this is a str."
    )
    x = keras.Input((8, 8, 3))
    y = layers.Flatten()(x)
    two = fullyconv.convert(keras.Model(x, [layers.Dense(2)(y), layers.Dense(3)(y)]))
    assert said(ImageError, two, picture) == (
        "A heat map needs a network with one output, and this one has several.\n"
        "Convert the part that ends in one:  keras.Model(model.inputs, model.outputs[0])"
    )


def test_options_that_are_none(picture, network):
    assert said(LabelError, network, picture, 1.5) == "1.5 names no classes; give an index, a name, or a list of these."
    assert said(GeometryError, network, picture, threshold="0.5") == (
        "The threshold '0.5' is no number; give one such as 0.5."
    )
    assert said(ImageError, network, picture, preprocess="vgg").startswith(
        "There is no preprocessing 'vgg'; use one of"
    )


# ----------------------------------------------------------------------------------------------------- predict, verify


def test_predict_is_given_another_number_of_arrays(picture, network):
    with pytest.raises(GeometryError, match=r"\.") as caught:
        network.predict([picture[None], picture[None]])
    assert str(caught.value) == (
        "2 arrays were given, and 'colours' has 1 input.\n"
        "Give one array for each input; several images of one size go into one array:  np.stack(images)"
    )


def test_verify_is_given_images_that_do_not_fit(picture, network):
    with pytest.raises(InputTooSmallError, match="The input is 7 x 28, smaller than the window of 8 x 8"):
        fullyconv.verify(colours(), network, images=[picture[:7]])
    with pytest.raises(GeometryError, match=r"\.") as caught:
        fullyconv.verify(colours(), network, images=[picture[..., :1]])
    assert str(caught.value) == (
        "The input has the shape (1, 20, 28, 1), but 'colours' reads (None, None, None, 3).\n"
        "Give a batch of images with the channels last."
    )


# ------------------------------------------------------------------------------------------------ keras.applications


def test_the_modes_are_those_of_keras_applications():
    pixels = np.random.default_rng(0).integers(0, 255, (1, 4, 5, 3)).astype("float32")
    seen = set()
    for name in (n for n, value in vars(keras.applications).items() if n[:1].isupper() and callable(value)):
        home = getattr(keras.applications, getattr(keras.applications, name).__module__.rsplit(".", 1)[-1])
        mode = of_application(name.lower())
        seen.add(mode)
        np.testing.assert_allclose(preprocess(pixels, mode), home.preprocess_input(pixels.copy()), rtol=1e-5, atol=1e-5)
    assert seen == {"caffe", "torch", "tf", "none"}


# ---------------------------------------------------------------------------------------------------------- shown


def test_a_notebook_shows_the_picture_a_table_and_what_was_assumed(picture, network):
    drawn = heatmap(network, picture, labels=["<b>red", "green", "blue"], preprocess="none")
    page = drawn._repr_html_()
    assert page.startswith('<img src="data:image/png;base64,iVBOR')
    assert "<b>" not in page
    assert "<td>&lt;b&gt;red</td>" in page
    best = drawn.top[0]
    (top, bottom), (left, right) = best.box
    assert f"<td>{best.probability:.3f}</td><td>rows {top} to {bottom}, columns {left} to {right}</td>" in page
    assert page.endswith("<p>Preprocessing: x as it is, 0 to 255 (&#x27;none&#x27;).</p>")
    many = heatmap(network, picture, labels=["red", "green", "blue"], threshold=0.3)
    assert many._repr_html_().count("<td>rows") == len(many.detections(0.3))


def test_upsampled_is_the_value_at_a_centre_and_nothing_beyond_the_cells(picture, network):
    drawn = heatmap(network, picture)
    up = drawn.upsampled(1)
    assert (up.shape, up.dtype) == ((20, 28), np.float32)
    # a window's centre lies between pixels 3 and 4: the mean of the four around it is its value
    for i, j in np.ndindex(*drawn.map.shape[:2]):
        around = up[4 * i + 3 : 4 * i + 5, 4 * j + 3 : 4 * j + 5]
        if 0 < i < 3 and 0 < j < 5:
            lines = drawn.map[i - 1 : i + 2, j - 1 : j + 2, 1]
            wanted = np.array([1, 14, 1]) @ lines @ np.array([1, 14, 1]) / 256
            np.testing.assert_allclose(around.mean(), wanted, rtol=1e-5)
    assert np.isnan(up[:2]).all()
    assert np.isnan(up[:, 26:]).all()
    assert np.isfinite(up[2:18, 2:26]).all()
