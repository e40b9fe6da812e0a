"""Messages that no other test needs, each whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from rich.console import Console

import fullyconv
from fullyconv import _keras, demo, page, pretrained
from fullyconv.classifier_weights import save
from fullyconv.geometry import Axis, Grid
from fullyconv.images import read_image
from test_cli import failure, small
from test_reading import colours


def said(kind: type[Exception], call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The whole text of an error."""
    with pytest.raises(kind, match=r"\w") as caught:
        call(*arguments, **options)
    return str(caught.value)


def two_answers() -> keras.Model:
    x = keras.Input((8, 8, 3))
    y = layers.Flatten()(x)
    return keras.Model(x, [layers.Dense(2)(y), layers.Dense(3)(y)], name="two")


# ------------------------------------------------------------------------------------------------- plan and convert


def test_options_of_a_plan():
    assert said(ValueError, fullyconv.plan, small(), pool="most") == (
        "pool must be one of ('window', 'drop', 'global') and context one of ('window', 'global'), not 'most' and "
        "'window'."
    )
    assert said(TypeError, fullyconv.convert, fullyconv.plan(small()), stride=1) == (
        "A plan has its options already: give ['stride'] to fullyconv.plan instead."
    )


def test_a_window_that_leaves_nothing():
    stack = [keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv"), layers.MaxPooling2D(4, name="pool")]
    model = keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(2)], name="open")
    assert said(fullyconv.WindowError, fullyconv.plan, model, window=2) == (
        "The window 2 x 2 is too small for 'open': nothing is left at 'conv'.\n"
        "Give the size it was trained on, such as window=224."
    )


def test_channels_that_are_open():
    model = keras.Sequential([keras.Input((8, 8, None)), layers.GlobalAveragePooling2D()], name="open")
    assert said(fullyconv.WindowError, fullyconv.plan, model) == (
        "'open' leaves its number of channels open: (None, 8, 8, None).\nGive its input a number."
    )


def test_a_layer_to_skip_where_there_is_none():
    assert said(fullyconv.UnsupportedModelError, fullyconv.plan, small(), skip="resizing") == (
        "'small' has no layer 'resizing' that can be skipped.\n"
        "The `skip` argument takes: none: it has no Resizing or CenterCrop."
    )


def test_a_part_that_ends_in_several_outputs():
    x = keras.Input((8, 8, 3))
    y = keras.Model(x, [layers.ReLU()(x), layers.Conv2D(2, 3)(x)], name="pair")(x)
    model = keras.Model(x, [layers.Flatten()(part) for part in y], name="net")
    assert said(fullyconv.UnsupportedModelError, fullyconv.plan, model, until="pair") == (
        "'pair' in 'net' has several outputs.\nThe `until` argument takes the name of a layer with one."
    )


def test_a_rule_that_moves_other_weights_than_its_layer_has():
    """What says so to those who write rules."""
    image = keras.KerasTensor((None, 2))
    for name, text in (
        ("kernel", "fc: weight kernel has shape (3, 3), expected (2, 4)"),
        ("gamma", "fc has no weights named 'gamma'"),
    ):
        values = {name: lambda: np.zeros((3, 3), "float32")}
        config = {"units": 4, "name": "fc"}
        assert said(ValueError, _keras.build_layer, layers.Dense, config, values, (image,), {}) == text


def test_a_walk_over_what_has_no_graph():
    assert said(TypeError, _keras.walk, keras.Sequential(), (), print) == "Sequential has no graph to walk"


# ---------------------------------------------------------------------------------------------------- FullyConv, Grid


def test_a_grid_of_one_output():
    fcn = fullyconv.convert(two_answers())
    with pytest.raises(fullyconv.GeometryError, match=r"\w") as caught:
        _ = fcn.grid
    assert str(caught.value) == "'two' has 2 outputs, each with a grid of its own.\nTake one from `.grids`."


def test_a_window_that_the_file_contradicts(tmp_path: Path):
    fullyconv.convert(small()).save(tmp_path / "fcn.keras")
    assert said(fullyconv.WindowError, fullyconv.load, tmp_path / "fcn.keras", window=9) == (
        "fcn.keras was made for a window of 12 x 10, not 9 x 9.\nLeave `window` out: the file knows it."
    )


def test_weights_that_fit_and_that_keras_cannot_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def load_weights(*_: Any) -> None:
        raise ValueError("The file is\n  odd.")

    path = tmp_path / "a.weights.h5"
    small().save_weights(path)
    monkeypatch.setattr(keras.Model, "load_weights", load_weights)
    assert said(fullyconv.ModelFileError, fullyconv.convert_weights, small(), path, tmp_path / "fcn.keras") == (
        f"Keras cannot load '{path}' into 'small': The file is odd.\nSave the weights again with the model."
    )


def test_values_for_another_number_of_axes():
    grid = Grid((Axis(8), Axis(8)))
    assert said(fullyconv.GeometryError, grid.cell_to_box, (1, 2, 3)) == (
        "This grid has 2 spatial axes, but 3 values were given: (1, 2, 3).\n"
        "Give one value per spatial axis, without batch and channels."
    )


def test_places_where_nothing_can_be_saved(tmp_path: Path):
    fcn = fullyconv.convert(small())
    assert said(fullyconv.OutputError, fcn.save, tmp_path / "fcn.h5") == (
        f"Cannot save to {tmp_path}/fcn.h5: the file must end in .keras, which keeps graphs of operations."
    )
    for call, name in ((fcn.save, "fcn.keras"), (lambda path: save(fcn, path), "fcn.weights.h5")):
        target = tmp_path / "no" / name
        assert said(fullyconv.OutputError, call, target) == (
            f"'{target}' cannot be written: there is no folder '{tmp_path}/no'."
        )


# ------------------------------------------------------------------------------------------ pictures, pages, the demo


def test_a_layer_without_positions_on_a_picture():
    x, beside = keras.Input((8, 8, 3)), keras.Input((4,))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="conv")(x))
    y = layers.Concatenate()([pooled, layers.Dense(2, name="beside")(beside)])
    geometry = fullyconv.geometry(keras.Model([x, beside], y, name="net"))
    assert said(fullyconv.GeometryError, geometry.picture, np.zeros((8, 8, 3), np.uint8), "beside") == (
        "'beside' in 'net' cannot be drawn: it has no positions.\nGive a layer before it, such as 'conv'."
    )


def test_pictures_whose_scale_is_not_known():
    assert said(fullyconv.ImageError, read_image, Image.fromarray(np.zeros((4, 4), np.float32))) == (
        "The picture holds values of Pillow's mode 'F', whose scale is not known; save it with 8 bits a channel, or "
        "pass an array with values 0..255."
    )


def test_a_picture_that_is_cut_off(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    text = said(fullyconv.ImageError, read_image, tmp_path / "cut.png")
    assert text.startswith(f"'{tmp_path}/cut.png' is truncated or damaged, and is not used in part (")
    assert text.endswith(").")


def test_no_class_at_all():
    picture = np.zeros((20, 20, 3), np.uint8)
    assert said(fullyconv.LabelError, fullyconv.heatmap, fullyconv.convert(colours()), picture, []) == (
        "No class was named; leave classes out for the one with the highest value."
    )


def test_a_photograph_that_scikit_image_does_not_have():
    assert said(fullyconv.ImageError, pretrained.sample_path, "cofee").startswith(
        "scikit-image has no picture 'cofee'; the nearest names are coffee, "
    )


def test_a_page_of_a_network_that_was_loaded(tmp_path: Path):
    fullyconv.convert(colours()).save(tmp_path / "fcn.keras")
    fcn = fullyconv.load(tmp_path / "fcn.keras")
    drawn = fullyconv.heatmap(fcn, np.zeros((20, 20, 3), np.uint8))
    assert said(ValueError, page.find, fcn, drawn, None) == (
        "A page needs the plan of the conversion, and a network that was loaded has none."
    )


class Failed:
    """A proof that does not hold."""

    ok = native_ok = size_ok = False
    native_error, tolerance = 1.0, 1e-5


def test_a_conversion_that_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo, "verify", lambda *_: Failed())
    with (tmp_path / "out.txt").open("w") as file:
        assert said(fullyconv.VerificationError, demo._converted, small(), ["a"], Console(file=file)) == (
            "The conversion does not hold, as the report above says: nothing was written."
        )
    monkeypatch.chdir(tmp_path)
    fullyconv.convert(small()).save("fcn.keras")
    monkeypatch.setattr(fullyconv, "verify", lambda *_: Failed())
    assert failure("classifier", "fcn.keras", "-o", "back.keras") == (
        "Error: 'back.keras' was not written: it does not answer as 'fcn.keras' does at its window."
    )
    assert not Path("back.keras").exists()


def test_a_model_that_returns_a_single_line():
    x = keras.Input((8, 8, 1), name="image")
    assert said(fullyconv.UnsupportedModelError, fullyconv.plan, keras.Model(x, x[0, :, 0, 0], name="net")) == (
        "'net' returns a single line of a map, which is no map of answers.\n"
        "Let it return the map, or what a layer makes of it."
    )
