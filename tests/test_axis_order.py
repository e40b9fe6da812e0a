"""Models that turn the order of the axes: images are read in their own order, and outputs in theirs."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import fullyconv
import nets
from fullyconv.cli.options import check_labels
from fullyconv.error_map import error_map
from fullyconv.inputs import channels_first

LABELS = ["ant", "bee", "cat", "dog"]


def trunk(x, data_format="channels_last", rank=2):
    """A convolution and a pooling of any rank."""
    conv, pool = (getattr(layers, f"{name}{rank}D") for name in ("Conv", "MaxPooling"))
    return pool(2, data_format=data_format)(conv(5, 3, activation="relu", data_format=data_format)(x))


def head(x, data_format="channels_last", rank=2):
    """Four classes."""
    pooled = getattr(layers, f"GlobalAveragePooling{rank}D")(data_format=data_format)(x)
    return layers.Dense(4, activation="softmax")(pooled)


def several(x):
    """A vector and two maps, one in each order."""
    y = trunk(layers.Permute((2, 3, 1))(x))
    return [head(y), y, layers.Permute((3, 1, 2), name="turned_at_the_end")(y)]


FIRST = "channels_first"
# The shape of the images, the network, and whether the channels are first in each output.
TURNING = {
    "to last": ((3, 12, 12), lambda x: head(trunk(layers.Permute((2, 3, 1), name="permute")(x))), [False]),
    "to first": ((12, 12, 3), lambda x: head(trunk(ops.moveaxis(x, -1, 1), FIRST), FIRST), [True]),
    "there and back": (
        (3, 12, 12),
        lambda x: head(trunk(ops.transpose(trunk(layers.Permute((2, 3, 1))(x)), (0, 3, 1, 2)), FIRST), FIRST),
        [True],
    ),
    "the output alone": ((12, 12, 3), lambda x: layers.Permute((3, 1, 2))(trunk(x)), [True]),
    "signals": ((3, 30), lambda x: head(trunk(ops.swapaxes(x, 1, 2), rank=1), rank=1), [False]),
    "volumes": ((2, 8, 8, 8), lambda x: head(trunk(layers.Permute((2, 3, 4, 1))(x), rank=3), rank=3), [False]),
    "several outputs": ((3, 12, 12), several, [False, False, True]),
}
WITHOUT_FIRST = ("to last", "the output alone", "signals", "volumes", "several outputs")  # no layer is channels_first
RUNNING = WITHOUT_FIRST if nets.cannot_run(FIRST) else tuple(TURNING)
PICTURES = [name for name in ("to last", "to first") if name in RUNNING]


@functools.cache
def made(name: str):
    """A network, and its conversion."""
    keras.utils.set_random_seed(1)
    shape, build, _ = TURNING[name]
    x = keras.Input(shape)
    model = keras.Model(x, build(x), name="net")
    return model, fullyconv.convert(model)


def photo(fcn) -> tuple[np.ndarray, np.ndarray]:
    """A picture, and as the network takes it."""
    pixels = np.random.default_rng(0).integers(0, 256, (19, 25, 3)).astype("uint8")
    values = (pixels / 255).astype("float32")
    return pixels, np.moveaxis(values, -1, 0) if fcn.data_format == FIRST else values


@pytest.mark.numerical
@pytest.mark.parametrize("name", RUNNING)
def test_the_proof_holds_and_the_order_comes_back_from_a_file(name, tmp_path):
    model, fcn = made(name)
    assert [grid.channels_first for grid in keras.tree.flatten(fcn.grids)] == TURNING[name][2]
    fcn.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras")
    assert loaded.grids == fcn.grids
    for each in (fcn, loaded):
        proof = fullyconv.verify(model, each)
        assert proof.ok, str(proof)
        assert proof.exactness == "exact"
        assert proof.difference > 1e-2
        assert proof.size_error is not None


@pytest.mark.numerical
@pytest.mark.parametrize("name", PICTURES)
def test_what_reads_a_picture_finds_the_classes(name, tally):
    model, fcn = made(name)
    pixels, values = photo(fcn)
    cut = fullyconv.reference(model, values, fcn.grid.stride)
    shown = fullyconv.heatmap(fcn, pixels, "bee", "unit", LABELS)
    assert shown.map.shape == cut.shape
    assert shown.top[0].label == "bee"
    np.testing.assert_allclose(shown.map, cut, atol=1e-5)
    logits = fullyconv.heatmap(fcn, pixels, None, "unit", values="logits").map
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), cut, atol=1e-5)
    assert error_map(model, fcn, pixels, "unit").values.max() <= 1e-5
    check_labels(fcn, LABELS)
    tally(cut[..., 0].size)


@pytest.mark.numerical
def test_a_map_that_is_turned_at_the_end_is_drawn_by_its_channels():
    _, fcn = made("the output alone")
    pixels, values = photo(fcn)
    cells = fcn.predict(values[None])[0]
    assert cells.shape == (5, 8, 11)
    drawn = fullyconv.heatmap(fcn, pixels, preprocess="unit").map
    np.testing.assert_allclose(drawn, np.moveaxis(cells, 0, -1), atol=1e-6)


@pytest.mark.numerical
@pytest.mark.parametrize("name", PICTURES)
def test_a_head_without_its_pooling_is_compared_at_every_position(name):
    model, _ = made(name)
    proof = fullyconv.verify(model, fullyconv.convert(model, pool="drop"))
    assert proof.ok, str(proof)


@pytest.mark.numerical
@pytest.mark.parametrize("name", PICTURES)
def test_the_way_back_from_the_graph_alone(name, tmp_path):
    model, fcn = made(name)
    fcn.save(tmp_path / "net.keras")
    back = fullyconv.to_classifier(fullyconv.load(tmp_path / "net.keras"))
    images = np.random.default_rng(0).uniform(size=(2, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(fullyconv.compile(back)(images), fullyconv.compile(model)(images), atol=1e-6)


@pytest.mark.numerical
@pytest.mark.parametrize("name", PICTURES)
def test_a_report_of_both_networks(name, tmp_path):
    model, fcn = made(name)
    fullyconv.write_report(model, photo(fcn)[0], tmp_path / "page.html", preprocess="unit", labels=LABELS)
    assert "28 of 28 (100%)" in (tmp_path / "page.html").read_text()


@pytest.mark.skipif(nets.BACKEND != "openvino", reason="the files of the other backends are tried in test_export.py")
def test_a_file_for_another_runtime(tmp_path):
    _, fcn = made("to first")
    exported = fullyconv.export(fcn, tmp_path / "net.xml")
    assert all(check.error <= exported.tolerance for check in exported.checks)


def twice():
    """Two branches, each of which turns the image."""
    x = keras.Input((3, 12, 12))
    turned = [layers.Permute((2, 3, 1), name=f"turn{i}")(x) for i in range(2)]
    return keras.Model(x, [head(trunk(y)) for y in turned])


ORDERS = {
    "a moveaxis": (lambda: made("to first")[0], False),
    "a swapaxes": (lambda: made("signals")[0], True),
    "two branches": (twice, True),
    "no layer, and open sizes": (lambda: fullyconv.convert(made("to last")[0], until="permute").model, True),
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_of_the_images_is_read_along_the_path_to_the_first_layer_that_says_so(name):
    build, first = ORDERS[name]
    assert channels_first(build()) is first
