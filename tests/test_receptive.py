"""The geometry of every layer: against the published table, against what cells really see, and as it is shown."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image
from typer.testing import CliRunner

import fullyconv
import nets
import receptive_nets
from fullyconv.cli import app

# ---------------------------------------------------------------------------------- published


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


# ---------------------------------------------------------------------------------- what cells really see


def unprepared(trunk, rank=2, data_format="channels_last"):
    """A classifier with weights as Keras draws them, and its layer before the head."""
    kit = nets.Kit(rank, data_format)
    x = kit.input()
    y = nets.TRUNKS[trunk].build(kit, x)
    return keras.Model(x, layers.Dense(5)(kit.flatten()(y)), name=trunk)


def test_pixels_outside_change_nothing_and_those_at_the_edge_do():
    model = nets.classifier("residual")
    layer, fcn = fullyconv.geometry(model).layers[-1], fullyconv.convert(model)
    for axis in (0, 1):
        outside, first, last = receptive_nets.perturbed(model, fcn, layer, axis)
        assert outside <= 1e-6
        assert min(first, last) > 1e-4


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("trunk", ["dilated", "average_same", "inception", "separable", "residual_valid"])
def test_cells_see_exactly_their_receptive_fields(trunk, axis):
    model = receptive_nets.make_positive(unprepared(trunk))
    receptive_nets.seen_by(fullyconv.convert(model), fullyconv.geometry(model).layers[-1], 22, axis=axis)


def test_a_context_sees_the_windows_around_each_cell():
    model = nets.classifier("excite")
    geometry, fcn = fullyconv.geometry(model), fullyconv.convert(model)
    for axis in (0, 1):
        outside, first, last = receptive_nets.perturbed(model, fcn, geometry.layers[-1], axis)
        assert outside <= 1e-6
        assert min(first, last) > 1e-5
    merged = next(layer for layer in geometry.layers if layer.branches)
    assert merged.remarks == ("a context: pools the window around each cell",)
    everything = fullyconv.geometry(model, context="global")[merged.name]
    assert everything.field_size == (np.inf, np.inf)


def test_contexts_are_pooled_as_far_apart_as_the_outputs_cells():
    kit = nets.Kit()
    x = kit.input((24, 24))
    y = kit.flatten()(kit.conv(4, 3, strides=2)(nets.TRUNKS["excite"].build(kit, x)))
    model = keras.Model(x, layers.Dense(3)(y))
    assert fullyconv.geometry(model).layers[-1].receptive_field == fullyconv.plan(model).grids.receptive_field


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
    assert layer.cell_to_box((0, 0), field=True) == ((0, 5), (0, 5))
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


@pytest.mark.skipif(nets.BACKEND != "openvino", reason="large networks run on the default engine only")
def test_the_cells_of_a_network_with_contexts_see_nothing_outside_their_receptive_fields():
    """Not all of it can be seen to act: a pixel far away is one of thousands that a context averages."""
    keras.utils.set_random_seed(0)
    options = {"include_preprocessing": False, "include_top": False, "input_shape": (64, 64, 3)}
    model = keras.applications.MobileNetV3Small(weights=None, **options)
    last = fullyconv.geometry(model).layers[-1]
    outside, *_ = receptive_nets.perturbed(model, fullyconv.convert(model, until=last.name), last)
    assert outside <= 1e-6
    first = "expanded_conv_squeeze_excite_mul"
    fcn = fullyconv.convert(model, until=first)  # its contexts stand as close as its own cells
    outside, *inside = receptive_nets.perturbed(model, fcn, fullyconv.geometry(fcn).layers[-1])
    assert outside <= 1e-6 < min(inside)


# ---------------------------------------------------------------------------------- every layer


def hybrid():
    """A CNN with branches that differ, an attention over its map, and a head beside it."""
    x = keras.Input((64, 48, 3))
    stem = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    shortcut = layers.Conv2D(8, 1, strides=2, name="shortcut")(stem)
    y = layers.Conv2D(8, (3, 5), strides=2, padding="same", name="conv")(stem)
    y = layers.Add(name="add")([shortcut, y])
    z = layers.Reshape((-1, 8), name="tokens")(y)
    z = layers.LayerNormalization(name="norm")(layers.MultiHeadAttention(2, 4, name="attention")(z, z))
    z = layers.Dense(3, name="answer")(layers.GlobalAveragePooling1D(name="pool")(z))
    aux = layers.Dense(2, name="aux")(layers.GlobalAveragePooling2D(name="gap")(y))
    return keras.Model(x, [z, aux], name="hybrid")


def test_the_table():
    """Fields of branches are united, and what cannot be converted is named, and what is behind it."""
    lines = str(fullyconv.geometry(hybrid())).splitlines()
    assert sorted(lines[2:]) == [
        "add        Add                     16 x 12  4       3/2     7 x 11   0 x 2    "
        "union of 3, 7 x 11; centres 2 apart",
        "answer     Dense                                                              unknown: is behind 'attention'",
        "attention  MultiHeadAttention                                                 "
        "unknown: mixes every position with every other",
        "aux        Dense                   1 x 1    4       0       67 x 55  0 x 2",
        "conv       Conv2D                  16 x 12  4       3/2     7 x 11   0 x 2",
        "gap        GlobalAveragePooling2D  1 x 1    4       0       67 x 55  0 x 2",
        "norm       LayerNormalization                                                 unknown: is behind 'attention'",
        "pool       GlobalAveragePooling1D                                             unknown: is behind 'attention'",
        "shortcut   Conv2D                  16 x 12  4       -1/2    3        0",
        "stem       Conv2D                  32 x 24  2       1/2     3        0",
        "tokens     Reshape                 16 x 12  4       3/2     7 x 11   0 x 2    "
        "rearranged: the numbers are those of the map that it holds",
    ]
    assert lines[0].split() == ["layer", "class", "map", "stride", "offset", "field", "padding", "note"]


def test_a_layer():
    geometry = fullyconv.geometry(hybrid())
    layer = geometry["add"]
    assert (layer.stride, layer.offset, layer.size) == ((4, 4), (Fraction(3, 2),) * 2, (16, 12))
    assert layer.receptive_field == ((0, 7), (-2, 9))
    assert [(b.name, b.receptive_field) for b in layer.branches] == [
        ("shortcut", ((0, 3), (0, 3))),
        ("conv", ((0, 7), (-2, 9))),
    ]
    assert layer.cell_to_box((1, 0), field=True) == ((4, 11), (-2, 9))
    assert geometry.last is layer
    assert [layer.name for layer in geometry.refused if "behind" not in layer.refused] == ["attention"]


def test_a_pooling_that_covers_the_map_slides_by_one_cell():
    stack = [keras.Input((8, 8, 1)), layers.MaxPooling2D(4, name="pool"), layers.AveragePooling2D(2, name="all")]
    layer = fullyconv.geometry(keras.Sequential(stack))["all"]
    assert (layer.stride, layer.field_size, layer.note) == (
        (4, 4),
        (8, 8),
        "covers the whole map, and slides by one cell",
    )


@pytest.mark.parametrize("trunk", ["valid", "strided_same", "residual", "excite"])
def test_a_converted_network_has_the_geometry_of_its_grid(trunk):
    model = unprepared(trunk)
    fcn = fullyconv.convert(model)
    before, after = fullyconv.geometry(model).layers[-1], fullyconv.geometry(fcn).layers[-1]
    assert before.receptive_field == after.receptive_field == fcn.grid.receptive_field
    assert before.stride == after.stride == fcn.grid.stride


@pytest.mark.parametrize(("rank", "data_format"), [(1, "channels_last"), (3, "channels_last"), (2, "channels_first")])
def test_other_ranks_and_formats(rank, data_format):
    model = unprepared("inception", rank, data_format)
    assert len(fullyconv.geometry(model).last.stride) == rank
    assert fullyconv.geometry(model).last.field_size == (11,) * rank


def test_inner_models_vectors_and_layers_used_twice():
    inner = keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(2, 3, name="conv")], name="inner")
    x, extra = keras.Input((16, 16, 2)), keras.Input((3,))
    y = layers.GlobalMaxPooling2D(name="pool")(inner(inner(x)))
    y = layers.Concatenate(name="both")([y, layers.Dense(2, name="embedded")(extra)])
    geometry = fullyconv.geometry(keras.Model([x, extra], layers.Dense(2)(y)))
    assert [layer.field_size for layer in geometry.layers if layer.name == "conv"] == [(3, 3), (5, 5)]
    assert geometry["conv"].field_size == (5, 5)
    assert geometry["embedded"].row[2:] == ("", "", "", "", "", "")
    assert geometry["both"].field_size == (16, 16)


def test_fractions_and_no_end():
    x = keras.Input((9, 9, 2))
    y = layers.UpSampling2D(2, name="up")(layers.Conv2D(4, 3, name="conv")(x))
    y = layers.GroupNormalization(2, name="norm")(y)
    geometry = fullyconv.geometry(keras.Model(x, layers.Conv2D(2, 1, name="last")(ops.relu(y))))
    assert geometry["up"].row[2:7] == ("14 x 14", "1/2", "1", "7/2", "1/2")
    assert geometry["last"].row[2:7] == ("14 x 14", "1/2", "1", "all", "all")
    assert geometry.as_json()["layers"][-1]["receptive_field"] == [[None, None]] * 2
    json.dumps(geometry.as_json())


ENLARGING = {
    "transposed, valid": lambda: layers.Conv2DTranspose(3, 3, strides=2, name="last"),
    "transposed, same": lambda: layers.Conv2DTranspose(3, 4, strides=2, padding="same", name="last"),
    "transposed, odd and same": lambda: layers.Conv2DTranspose(3, 5, strides=2, padding="same", name="last"),
    "transposed, a kernel below its stride": lambda: layers.Conv2DTranspose(3, 2, strides=3, name="last"),
    "transposed, dilated": lambda: layers.Conv2DTranspose(3, 2, dilation_rate=2, name="last"),
    "nearest": lambda: layers.UpSampling2D(3, name="last"),
    "bilinear": lambda: layers.UpSampling2D(2, interpolation="bilinear", name="last"),
    "resized larger": lambda: layers.Resizing(17, 23, name="last"),
    "resized smaller": lambda: layers.Resizing(5, 4, name="last"),
    "resized, nearest": lambda: layers.Resizing(13, 4, interpolation="nearest", name="last"),
    "cropped": lambda: layers.CenterCrop(4, 3, name="last"),
}


@pytest.mark.parametrize("kind", ENLARGING)
def test_layers_that_no_classifier_has(kind):
    """Their geometry is known though they are not converted; held against what changes when rows change."""
    keras.utils.set_random_seed(3)
    x = keras.Input((24, 20, 2))
    y = ENLARGING[kind]()(layers.Conv2D(3, 3, strides=2, name="conv")(x))
    model = keras.Model(x, y)
    last = fullyconv.geometry(model)["last"]
    assert last.size == y.shape[1:3]
    assert last.note
    image = np.random.default_rng(0).normal(size=(1, 24, 20, 2)).astype("float32")
    for axis, ((low, high), step, pixels) in enumerate(
        zip(last.receptive_field, last.stride, (24, 20), strict=True), start=1
    ):
        batch = np.repeat(image, pixels + 1, axis=0)
        for i in range(pixels):
            batch[i][(slice(None),) * (axis - 1) + (i,)] += 3.0
        out = nets.run(model, batch)
        changed = np.abs(out[:-1] - out[-1]).max(axis=tuple(a for a in (1, 2, 3) if a != axis)) > 1e-5
        spans = []
        for cell in range(last.size[axis - 1]):
            seen = np.flatnonzero(changed[:, cell])
            if len(seen):
                assert low + cell * step <= seen.min(), "a cell sees more than its field"
                assert seen.max() < high + cell * step, "a cell sees more than its field"
                spans.append(seen.max() + 1 - seen.min())
        assert max(spans) > high - low - 2 * 2 - 1, "the field is too wide"


def test_channels_first_where_only_such_a_layer_says_so():
    x = keras.Input((3, 12, 16))
    resized = fullyconv.geometry(keras.Model(x, layers.Resizing(6, 6, data_format="channels_first", name="r")(x)))["r"]
    assert (resized.row[2], resized.row[3]) == ("6 x 6", "2 x 8/3")
    y = layers.Conv2DTranspose(2, 2, strides=2, data_format="channels_first", name="t")(x)
    assert fullyconv.geometry(keras.Model(x, y))["t"].row[2:4] == ("24 x 32", "1/2")
    y = layers.Permute((2, 1, 3), name="p")(keras.Input((8, 6, 3)))
    assert fullyconv.geometry(keras.Model(y._keras_history.operation.input, y))["p"].row[2] == "6 x 8"


def test_a_map_whose_rows_and_columns_change_places():
    x = keras.Input((12, 20, 2))
    y = layers.Permute((2, 1, 3), name="turned")(layers.Conv2D(3, (3, 5), strides=(2, 1), name="conv")(x))
    y = layers.Conv2D(3, 1, name="next")(y)
    y = layers.Reshape((4, 20, 3), name="other")(y)
    geometry = fullyconv.geometry(keras.Model(x, layers.Dense(2)(layers.Flatten()(y))))
    assert geometry["conv"].row[2:7] == ("5 x 16", "2 x 1", "1/2 x 2", "3 x 5", "0")
    assert geometry["turned"].row[2:7] == ("16 x 5", "1 x 2", "2 x 1/2", "5 x 3", "0")
    assert geometry["next"].row[2:7] == geometry["turned"].row[2:7]
    assert geometry["other"].note == "rearranged: the numbers are those of the map that it holds"


# ---------------------------------------------------------------------------------- as a picture


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A white photo and a model in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (150, 100), (255, 255, 255)).save("photo.png")
    hybrid().save("hybrid.keras")
    return "photo.png"


def test_a_picture_shows_the_field_the_cell_and_the_centres(photo):
    """Drawn four times as large: the field is bright, what is outside is dim."""
    geometry = fullyconv.geometry(hybrid())
    drawn = np.asarray(geometry.picture(photo, "add", cell=(12, 20)))
    corner, factor = (58, 24), 620 / 150
    inside = [round(c + factor * at) for c, at in zip(corner, (49.8, 87), strict=True)]
    outside = [round(c + factor * at) for c, at in zip(corner, (49.8, 95), strict=True)]
    assert drawn[tuple(inside)].tolist() == [255, 255, 255]
    assert drawn[tuple(outside)].max() < 150
    assert (np.abs(drawn.astype(int) - (255, 140, 0)).sum(-1) == 0).any()


def test_a_picture_shows_where_a_field_goes_beyond_it(photo):
    geometry = fullyconv.geometry(hybrid())
    plain = geometry.picture(photo, "conv", cell=(0, 0))
    assert plain.height > geometry.picture(photo, "conv").height
    assert (np.abs(np.asarray(plain).astype(int) - (186, 190, 198)).sum(-1) == 0).sum() > 1000


MESSAGES = {
    "nothing": "'hybrid' has no layer named 'nothing'.\nGive one of: ",
    "attention": (
        "'attention' in 'hybrid' cannot be drawn: it mixes every position with every other.\n"
        "Give a layer before it, such as 'add'."
    ),
}


@pytest.mark.parametrize("layer", MESSAGES)
def test_layers_that_cannot_be_drawn(photo, layer):
    with pytest.raises(fullyconv.GeometryError, match=r"\w") as caught:
        fullyconv.geometry(hybrid()).picture(photo, layer)
    assert str(caught.value).startswith(MESSAGES[layer])


def test_the_command_draws_the_cell_that_is_asked_for(photo):
    for name, arguments in (("middle.png", []), ("cell.png", ["--cell", "12,20"])):
        done = CliRunner().invoke(app, ["geometry", "hybrid.keras", "--image", photo, "-o", name, *arguments])
        assert done.exit_code == 0, done.output
    drawn, middle = (np.asarray(Image.open(name)) for name in ("cell.png", "middle.png"))
    assert (drawn == np.asarray(fullyconv.geometry(hybrid()).picture(photo, cell=(12, 20)))).all()
    assert (drawn != middle).any()
    done = CliRunner().invoke(app, ["geometry", "hybrid.keras", "--image", photo, "-o", "no.png", "--cell", "1.5,2"])
    assert done.exit_code == 2
    assert "'1.5,2' is no cell: write its row and column as 3,4, counted from 0." in done.stderr


@pytest.mark.parametrize("command", ["geometry", "plan"])
def test_a_name_needs_no_weights(command, monkeypatch):
    """Where only the graph is read, nothing is downloaded."""
    monkeypatch.setattr(keras.utils, "get_file", None)
    done = CliRunner().invoke(app, [command, "MobileNet"])
    assert done.exit_code == 0, done.output
    assert "conv_dw_13" in done.output


def test_cells_pictures_and_networks_that_cannot_be_drawn(photo):
    geometry = fullyconv.geometry(hybrid())
    with pytest.raises(fullyconv.GeometryError, match=r"\w") as caught:
        geometry.picture(photo, "add", cell=(25, 0))
    assert str(caught.value) == (
        "'add' has no cell (25, 0): on 100 x 150 pixels it has 25 x 38.\nGive its row and column, counted from 0."
    )
    for cell in (3, (1.5, 0), (1, 2, 3)):
        with pytest.raises(fullyconv.GeometryError, match=re.escape(f"'add' has no cell {cell}: on 100 x 150 pixels")):
            geometry.picture(photo, "add", cell=cell)
    with pytest.raises(fullyconv.InputTooSmallError, match="The input is 40 x 60, smaller than the window of 64 x 48"):
        geometry.picture(np.zeros((40, 60, 3)))
    with pytest.raises(fullyconv.ImageError, match=r"\w") as caught:
        fullyconv.geometry(unprepared("valid", 1)).picture(photo)
    assert str(caught.value) == (
        "'valid' has 1 spatial axis, and cannot be drawn on a picture.\nRead its geometry from the table."
    )


def test_nothing_known():
    x = keras.Input((8, 8, 3))
    geometry = fullyconv.geometry(keras.Model(x, layers.Lambda(lambda y: y, name="own")(x), name="net"))
    assert geometry["own"].note == "unknown: holds code that cannot be read as layers"
    with pytest.raises(fullyconv.GeometryError, match=r"\w") as caught:
        _ = geometry.last
    assert str(caught.value) == "'net' has no layer whose geometry is known.\nSee the reasons in its table."
    with pytest.raises(ValueError, match=r"context must be one of \('window', 'global'\), not 'none'."):
        fullyconv.geometry(hybrid(), context="none")


# ---------------------------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(app, ["geometry", *arguments])


def test_the_command_prints_the_table(photo):
    done = run("hybrid.keras")
    assert done.exit_code == 0, done.stderr
    table = [line.split() for line in str(fullyconv.geometry(hybrid())).splitlines()]
    assert [line.split() for line in done.stdout.splitlines()] == [table[0], *table[2:]]


def test_the_command_prints_json_and_draws(photo):
    done = run("hybrid.keras", "--layer", "add", "--json", "--image", photo, "-o", "out.png")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["layers"] == fullyconv.geometry(hybrid()).only("add").as_json()["layers"]
    assert done.stderr == "Wrote out.png.\n"
    with Image.open("out.png") as drawn:
        assert drawn.size == fullyconv.geometry(hybrid()).picture(photo, "add").size


def test_the_command_reads_converted_networks(photo):
    fullyconv.convert(hybrid(), until="conv").save("fcn.keras")
    done = run("fcn.keras", "--layer", "conv")
    assert " ".join(done.stdout.splitlines()[1].split()) == "conv Conv2D 16 x 12 4 3/2 7 x 11 0 x 2"


def test_misspelt_commands(photo):
    assert "--image and -o go together" in run("hybrid.keras", "--image", photo).stderr
    assert run("hybrid.keras", "--image", photo, "-o", "out.txt").stderr == (
        "Error: 'out.txt' cannot be written: its name must end in .png or .jpg or .jpeg or .webp.\n"
    )
    assert not Path("out.txt").exists()
