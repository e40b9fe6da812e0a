"""The geometry of every layer: against the published table, against what cells really see, and as it is shown."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
import nets
import receptive_nets


def rows(model, **options):
    """The table, a line each, without its heading."""
    return [line.split() for line in str(fullyconv.geometry(model, **options)).splitlines()[2:]]


# ---------------------------------------------------------------------------------------------------------- published


@pytest.mark.parametrize("name", receptive_nets.PUBLISHED)
def test_published(name):
    _, stride, padding, field = receptive_nets.PUBLISHED[name]
    last = fullyconv.geometry(receptive_nets.published(name)).last
    assert (last.stride, last.padding, last.field_size) == ((stride,) * 2, (padding,) * 2, (field,) * 2)


def test_same_padding_is_that_of_the_window():
    """On an odd size TensorFlow pads a strided layer on the left, on an even one it does not."""
    even, odd = (fullyconv.geometry(receptive_nets.published("mobilenet_v1", n)).last for n in (224, 225))
    assert (even.padding, odd.padding) == ((126, 126), (157, 157))
    assert even.field_size == odd.field_size


# ------------------------------------------------------------------------------------------------ what cells really see


def perturbed(model, fcn, layer, axis):
    """How much a cell whose field lies inside an image changes, relative to the map, with lines of the image.

    Returns:
        The change with all lines outside its receptive field, with the first line inside, and with the last.
    """
    (low, high), stride = layer.receptive_field[axis], layer.stride[axis]
    cell = max(0, -((low - 1) // stride))
    start, end = int(low + cell * stride), int(high + cell * stride)
    size = nets.along(nets.window_of(model), axis, max(end + 2 * stride, nets.window_of(model)[axis]))
    base, other = (np.moveaxis(nets.images(size, 3, seed=seed)[0], axis, 0) for seed in (1, 2))
    outside, first, last = other.copy(), base.copy(), base.copy()
    outside[start:end] = base[start:end]
    first[start], last[end - 1] = 30 * other[start], 30 * other[end - 1]
    batch = np.stack([np.moveaxis(image, 0, axis) for image in (base, outside, first, last)])
    cells = nets.run(fcn.model, batch).take(cell, 1 + axis)
    return tuple(np.abs(cells[1:] - cells[0]).reshape(3, -1).max(1) / np.abs(cells[0]).max())


@pytest.mark.parametrize("trunk", ["residual", "inception", "separable"])
def test_pixels_outside_change_nothing_and_those_at_the_edge_do(trunk):
    model = nets.classifier(trunk)
    layer, fcn = fullyconv.geometry(model).layers[-1], fullyconv.convert(model)
    for axis in (0, 1):
        outside, first, last = perturbed(model, fcn, layer, axis)
        assert outside <= 1e-6
        assert min(first, last) > 1e-4


def test_a_context_sees_the_windows_around_each_cell():
    model = nets.classifier("excite")
    geometry, fcn = fullyconv.geometry(model), fullyconv.convert(model)
    for axis in (0, 1):
        outside, first, last = perturbed(model, fcn, geometry.layers[-1], axis)
        assert outside <= 1e-6
        assert min(first, last) > 1e-5
    merged = next(layer for layer in geometry.layers if layer.branches)
    assert merged.remarks == ("a context: pools the window around each cell",)
    everything = fullyconv.geometry(model, context="global")[merged.name]
    assert everything.field_size == (np.inf, np.inf)


def test_padding_in_the_place_of_cropped_cells_widens_the_grid_but_not_what_cells_see():
    x = keras.Input((24, 24, 3))
    y = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    y = layers.ZeroPadding2D(1, name="pad")(layers.Cropping2D(1, name="crop")(y))
    model = receptive_nets.make_positive(keras.Model(x, layers.Conv2D(4, 3, activation="relu", name="again")(y)))
    layer = fullyconv.geometry(model)["again"]
    assert layer.receptive_field == ((0, 5), (0, 5))
    assert fullyconv.geometry(model)["pad"].remarks == ("pads where cells were cropped",)
    fcn = fullyconv.convert(model)
    assert fcn.grid.receptive_field == ((-1, 6), (-1, 6))
    receptive_nets.seen_by(fcn, layer, 24, border=1)


ZOO = [
    ("VGG16", {}, "block5_pool"),
    ("MobileNet", {"alpha": 0.25}, "conv_pw_13_relu"),
    ("MobileNetV2", {"alpha": 0.35}, "out_relu"),
    ("MobileNetV3Small", {"minimalistic": True, "include_preprocessing": False}, None),
    ("ResNet50", {}, "conv3_block4_out"),
    ("DenseNet121", {}, "pool3_conv"),
    ("ConvNeXtTiny", {"include_preprocessing": False}, "convnext_tiny_stage_2_block_3_identity"),
    ("NASNetMobile", {}, "normal_concat_1"),
]


@pytest.mark.skipif(nets.BACKEND != "openvino", reason="large networks run on the default engine only")
@pytest.mark.parametrize(("name", "options", "until"), ZOO, ids=[name for name, *_ in ZOO])
def test_the_cells_of_a_network_see_exactly_their_receptive_fields(name, options, until):
    """The rest of keras.applications: benchmarks/receptive.py."""
    build = getattr(keras.applications, name)
    model = receptive_nets.make_positive(build(weights=None, include_top=False, input_shape=(64, 64, 3), **options))
    geometry = fullyconv.geometry(model)
    until = until or geometry.last.name
    receptive_nets.seen_by(fullyconv.convert(model, until=until), geometry[until], 64)
