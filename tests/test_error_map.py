"""The picture of the error: zero where a network is exact, and where a wrong weight is, large."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
from fullyconv.error_map import error_map, noise_picture
from fullyconv.errors import VerificationError
from fullyconv.report import verdict


def classifier(padding: str = "valid", first: bool = False, activation: str | None = "softmax") -> keras.Model:
    """A classifier of windows of 10 x 8 pixels."""
    form = "channels_first" if first else "channels_last"
    stack = [
        keras.Input((3, 10, 8) if first else (10, 8, 3)),
        layers.Conv2D(4, 3, padding=padding, activation="relu", data_format=form, name="conv"),
        layers.MaxPooling2D(2, data_format=form),
        layers.Flatten(data_format=form),
        layers.Dense(4, activation, bias_initializer="normal"),
    ]
    return keras.Sequential(stack, name="small")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (25, 31, 3), np.uint8)


def test_an_exact_network_has_no_error(picture):
    model = classifier()
    found = error_map(model, fullyconv.convert(model), picture, "unit")
    assert found.values.shape == (8, 12)
    assert found.values.max() < 1e-6
    assert found._footer(found_placement(found))[2] == (
        "96 of 96 windows are equal, to 1e-05. The network is exact: all should be."
    )
    assert min(found.picture().size) > 200


def found_placement(found):
    from fullyconv.placement import Placement

    return Placement(found.grid, found.values.shape, found.image.shape[:2])


def test_a_padded_network_differs_by_as_much_as_its_windows_say(picture):
    model = classifier("same", activation=None)
    fcn = fullyconv.convert(model)
    found = error_map(model, fcn, picture, "unit")
    x = (picture / 255).astype("float32")
    theirs = fullyconv.reference(model, x, 2)
    difference = np.abs(fcn.predict(x[None])[0, : len(theirs), : theirs.shape[1]] - theirs).max(-1)
    np.testing.assert_allclose(found.values, difference / np.abs(theirs).max(), atol=1e-6)
    assert found.values.max() > 1e-3


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="no channels-first convolution on CPUs")
def test_channels_first(picture):
    model = classifier(first=True)
    assert error_map(model, fullyconv.convert(model), picture, "unit").values.max() < 1e-6


def test_of_many_windows_some_are_compared(picture, monkeypatch):
    model = classifier()
    fcn = fullyconv.convert(model)
    monkeypatch.setattr("fullyconv.error_map.MOST", 20)
    found = error_map(model, fcn, picture, "unit")
    assert (found.values.shape, found.every, found.grid.stride) == ((3, 4), 3, (6, 6))
    assert found.values.max() < 1e-6
    assert (
        "12 of 12 windows are equal, to 1e-05. Along each axis one in 3 was compared."
        in (found._footer(found_placement(found))[2])
    )


def test_networks_without_windows(picture):
    x = keras.Input((10, 8, 3))
    y = layers.Flatten()(x)
    two = keras.Model(x, [layers.Dense(2)(y), layers.Dense(3)(y)])
    for model, options in ((two, {}), (classifier(), {"until": "conv"})):
        with pytest.raises(VerificationError, match=r"\.") as caught:
            error_map(model, fullyconv.convert(model, **options), picture)
        assert str(caught.value) == (
            "There is no picture of the error: it needs one input, and one output whose cells are windows.\n"
            "Leave the picture out; fullyconv.verify measures every network."
        )


def test_noise_is_larger_than_the_window():
    noise = noise_picture(fullyconv.convert(classifier()))
    assert (noise.shape, noise.dtype) == ((18, 16, 3), np.uint8)
    assert noise.std() > 20


def test_the_verdict_in_words():
    model = classifier()
    fcn = fullyconv.convert(model)
    assert verdict(fullyconv.verify(model, fcn)) == "It holds: every cell equals the classifier on its window."
    model.get_layer("conv").set_weights([w * 1.1 for w in model.get_layer("conv").get_weights()])
    assert verdict(fullyconv.verify(model, fcn)) == (
        "It does NOT hold: the two differ at the window; the windows do not bear out what the grid says.\n"
        "Is FCN the conversion of this very MODEL, with these weights?"
    )
