"""Denser maps: the classifier on every window that a smaller stride adds, against an oracle that cuts them out."""

from __future__ import annotations

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from PIL import Image

import fullyconv
import nets
import strategies
from fullyconv import pretrained
from test_pretrained import needs
from test_random import SETTINGS, passing_over_dull_nets, prepared

# As in test_random: PyTorch compiles nothing, the others compile each network anew.
EXAMPLES = {"torch": 14, "openvino": 4, "tensorflow": 6, "jax": 1}[nets.BACKEND]
numerical = pytest.mark.numerical
PADDED = ("strided_same", "residual", "max_same", "same", "padded", "dilated", "average_same", "inception", "separable")


def some(*values, jax=1):
    """The values to test with: all, but on JAX, which compiles every operation of every network anew, the first."""
    return values[:jax] if nets.BACKEND == "jax" else values


def formats():
    """Both data formats, where the backend has them."""
    reason = nets.NO_CHANNELS_FIRST
    return [
        pytest.param(f, marks=pytest.mark.skipif(nets.cannot_run(f), reason=reason)) for f in some(*nets.FORMATS[::-1])
    ]


def on_windows(model, fcn, data_format="channels_last", extra=5, count=1):
    """Every image of a batch against its own windows, at sizes of window + extra; gives the cells compared."""
    window = nets.window_of(model, data_format)
    extra = (extra,) * len(window) if isinstance(extra, int) else extra
    size = tuple(w + e for w, e in zip(window, extra, strict=True))
    channels = model.inputs[0].shape[1 if data_format == "channels_first" else -1]
    batch = nets.images(size, channels, count, 903, data_format)
    maps = [nets.to_last(y, data_format) for y in keras.tree.flatten(fcn.predict(batch))]
    compared = 0
    for index, (grid, have) in enumerate(zip(keras.tree.flatten(fcn.grids), maps, strict=True)):
        assert have.shape[:-1] == (count, *grid.cells(size))
        cells = tuple(slice(0, n) for n in grid.windows_inside(size))
        for image, found in zip(batch, have, strict=True):
            want = keras.tree.flatten(nets.answers(model, image, window, grid.stride, data_format))[index]
            spread = float(np.ptp(want.reshape(-1, want.shape[-1]), axis=0).max())
            assert spread >= 0.02 * np.abs(want).max(), "the windows hardly differ: this net proves nothing"
            nets.equal(want, found[cells], spread)
            compared += want[..., 0].size
    assert compared > count * len(maps), "only the first window was compared"
    return compared


def head(k, y, units=4):
    """Flatten and Dense."""
    return layers.Dense(units)(k.flatten()(y))


# -------------------------------------------------------------------------------------------------------- exact nets


@numerical
@pytest.mark.parametrize("stride", some(1, 2, 4))
@pytest.mark.parametrize("kind", some("flatten", "average"))
def test_every_window_of_a_net_without_padding(kind, stride, tally):
    model = nets.classifier("valid", head=kind)
    fcn = fullyconv.convert(model, stride=stride)
    assert (fcn.grid.stride, fcn.exactness) == ((stride, stride), "exact")
    assert fcn.grid.receptive_field == fullyconv.convert(model).grid.receptive_field
    nets.check_native(model, fcn)
    tally(on_windows(model, fcn))


@numerical
@pytest.mark.parametrize("trunk", some("overlapping", "strided", "separable_valid", "grouped"))
def test_strided_convolutions_and_overlapping_poolings(trunk, tally):
    model = nets.classifier(trunk, head="max")
    tally(on_windows(model, fullyconv.convert(model, stride=1), extra=(3, 4)))


@numerical
@pytest.mark.parametrize("data_format", formats())
@pytest.mark.parametrize("stride", some((1, 4), (4, 1), (2, 1)))
def test_a_stride_for_each_axis(stride, data_format, tally):
    model = nets.classifier("valid", data_format=data_format)
    fcn = fullyconv.convert(model, stride=stride)
    assert fcn.grid.stride == stride
    tally(on_windows(model, fcn, data_format))


@numerical
@pytest.mark.parametrize("stride", some(2, 1, 3, 6))
def test_a_stride_of_three_then_one_of_two(stride, tally):
    k = nets.Kit()
    x = k.input()
    model = nets.prepare(keras.Model(x, head(k, k.max(2)(k.conv(6, 3, strides=3)(x)))))
    fcn = fullyconv.convert(model, stride=stride)
    assert fcn.grid.stride == (stride, stride)
    tally(on_windows(model, fcn, extra=(7, 6)))


@numerical
@pytest.mark.parametrize("stride", some((1, 2), 1, 2, (2, 4)))
@pytest.mark.parametrize("merge", some("add", "concatenate"))
def test_branches_that_stride_at_once_and_by_and_by(merge, stride, tally):
    """The fragments of one lie in the batch in another order than those of the other."""
    k = nets.Kit()
    x = k.input()
    y = k.conv(5, 3)(x)
    at_once = k.conv(6, 4, strides=4)(y)
    by_and_by = k.max(2)(k.conv(6, 2, strides=2)(y))
    merged = (layers.Add() if merge == "add" else layers.Concatenate())([at_once, by_and_by])
    model = nets.prepare(keras.Model(x, head(k, k.conv(5, 2)(merged))))
    tally(on_windows(model, fullyconv.convert(model, stride=stride)))


@numerical
def test_a_residual_block_whose_shortcut_strides(tally):
    k = nets.Kit()
    x = k.input()
    y = k.conv(5, 3)(x)
    shortcut = k.conv(6, 1, strides=2, activation=None)(k.layer("Cropping", 1)(y))
    y = layers.Add()([shortcut, k.conv(6, 3, strides=2)(y)])
    deeper = k.conv(6, 3)(k.average(3, strides=2)(y))
    y = layers.Add()([k.layer("Cropping", ((1, 2), (1, 2)))(k.max(1, strides=2)(y)), deeper])
    model = nets.prepare(keras.Model(x, head(k, layers.ReLU()(y))))
    tally(on_windows(model, fullyconv.convert(model, stride=1)))


@numerical
@pytest.mark.parametrize(("rank", "stride"), some((3, (1, 4, 2)), (1, 1), (1, 2), (3, 2)))
def test_one_and_three_axes(rank, stride, tally):
    model = nets.classifier("valid", rank=rank)
    tally(on_windows(model, fullyconv.convert(model, stride=stride), extra={1: 9, 3: (2, 4, 3)}[rank]))


@numerical
def test_images_of_a_batch_do_not_mix(tally):
    model = nets.classifier("valid")
    fcn = fullyconv.convert(model, stride=1)
    tally(on_windows(model, fcn, extra=(3, 2), count=3))
    batch = nets.images((25, 21), 3, 3, 903)
    alone = np.concatenate([nets.run(fcn.model, image[None]) for image in batch])
    nets.equal_maps(alone, nets.run(fcn.model, batch), alone)


@numerical
@pytest.mark.parametrize("stride", some(1, 2))
def test_all_residues_of_the_size(stride, tally):
    model = nets.classifier("valid")
    fcn = fullyconv.convert(model, stride=stride)
    runner = nets.Runner(fcn.model, dynamic=True)
    image = nets.images((22 + 9, 19 + 8), 3, 1, 904)
    want = nets.answers(model, image[0], (22, 19), (stride, stride), "channels_last")
    sizes = [(22 + r, 19 + c) for r, c in some((1, 0), (2, 3), (3, 1), (0, 2), (4, 4), (5, 5), (9, 8), jax=2)]
    for size in sizes:
        have = runner(image[:, : size[0], : size[1]])[0]
        assert have.shape[:2] == fcn.grid.cells(size) == fcn.grid.windows_inside(size)
        nets.equal_maps(want[: have.shape[0], : have.shape[1]], have, want)
    tally(sum(np.prod(fcn.grid.cells(size)) for size in sizes))


@numerical
def test_a_vector_of_facts_goes_to_every_cell(tally, tmp_path):
    image, facts = keras.Input((15, 14, 3), name="image"), keras.Input((2,), name="facts")
    y = layers.MaxPooling2D(2)(layers.Conv2D(4, 3, strides=2, activation="relu")(image))
    joined = layers.Concatenate()([layers.Flatten()(y), facts])
    model = nets.prepare(keras.Model({"image": image, "facts": facts}, layers.Dense(3)(joined)))
    given = {"image": nets.images((19, 17), 3, 2, 905), "facts": np.array([[0.5, -1], [2, 0.25]], "float32")}
    fcn = fullyconv.convert(model, stride=1)
    have = fcn.predict(given)
    assert have.shape == (2, 5, 4, 3)
    fcn.save(tmp_path / "fcn.keras")
    assert fullyconv.load(tmp_path / "fcn.keras").grid.axes == fcn.grid.axes
    for picture, vector, found in zip(given["image"], given["facts"], have, strict=True):
        cut = nets.windows(picture, (15, 14), (1, 1), "channels_last")
        want = nets.run(model, {"image": cut, "facts": np.repeat(vector[None], len(cut), 0)})
        nets.equal(want, found.reshape(want.shape), float(np.ptp(want, axis=0).max()))
    tally(40)


@numerical
@pytest.mark.parametrize("stride", some(1, 2))
def test_outputs_of_different_strides(stride, tally):
    k = nets.Kit()
    x = k.input()
    early = k.conv(5, 3, strides=2)(x)
    late = k.max(3, strides=2)(k.conv(6, 3)(early))
    outputs = {"early": layers.Dense(3, name="early")(k.gap()(early)), "late": head(k, late, 2)}
    model = nets.prepare(keras.Model(x, outputs))
    fcn = fullyconv.convert(model, stride=stride)
    assert {name: grid.stride for name, grid in fcn.grids.items()} == dict.fromkeys(outputs, (stride, stride))
    tally(on_windows(model, fcn))


@numerical
@pytest.mark.parametrize("data_format", formats())
def test_saved_and_loaded(data_format, tmp_path, tally):
    model = nets.classifier("valid", data_format=data_format)
    fcn = fullyconv.convert(model, stride=(1, 2))
    fcn.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras")
    assert loaded.grid == fcn.grid
    assert loaded.exactness == "exact"
    tally(on_windows(model, loaded, data_format))
    stock = keras.saving.load_model(tmp_path / "net.keras")
    assert all(type(o).__module__.startswith("keras.") for o in stock._operations)
    image = nets.images((27, 24), 3, 2, 906, data_format)
    whole = nets.run(fcn.model, image)
    nets.equal_maps(nets.to_last(whole, data_format), nets.to_last(nets.run(stock, image), data_format), whole)


@pytest.mark.parametrize("trunk", some("residual", "valid", "strided_same", "max_same", "average_same", "inception"))
@pytest.mark.parametrize("stride", some(1, 2))
def test_the_grid_is_found_again_in_the_graph(trunk, stride, tmp_path):
    """A file that stock Keras saved has no record of the grid; the window must be told."""
    fcn = fullyconv.convert(nets.classifier(trunk), stride=stride)
    fcn.model.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras", window=(22, 19))
    assert loaded.grid.axes == fcn.grid.axes
    assert loaded.exactness == fcn.exactness


@numerical
def test_a_head_of_maps_of_two_depths(tally):
    k = nets.Kit()
    x = k.input()
    early = k.conv(5, 3, strides=2)(x)
    late = k.max(3, strides=2)(k.conv(6, 3)(early))
    joined = layers.Concatenate()([k.gap()(early), k.flatten()(late)])
    model = nets.prepare(keras.Model(x, layers.Dense(3)(joined)))
    tally(on_windows(model, fullyconv.convert(model, stride=1)))


# ------------------------------------------------------------------------------------------------------- padded nets


def on_shifted_images(model, stride, data_format="channels_last"):
    """The dense map against the plain network on the image shifted by each stride; gives the cells compared.

    Cells are compared whose window and receptive field lie inside the shifted image.
    """
    plain, dense = fullyconv.convert(model), fullyconv.convert(model, stride=stride)
    rank, steps = len(plain.window), plain.grid.stride
    fields = [(low, max(high, w)) for (low, high), w in zip(plain.grid.receptive_field, plain.window, strict=True)]
    wanted = (stride,) * rank if isinstance(stride, int) else stride
    assert dense.grid.stride == wanted
    size = tuple(int(high - low) + 3 * s for (low, high), s in zip(fields, steps, strict=True))
    channels = model.inputs[0].shape[1 if data_format == "channels_first" else -1]
    whole = nets.images([n + s for n, s in zip(size, steps, strict=True)], channels, 1, 907, data_format)
    cells = nets.to_last(dense.predict(whole), data_format)[0]
    shifts = list(itertools.product(*(range(0, s, k) for s, k in zip(steps, wanted, strict=True))))
    image = nets.to_last(whole, data_format)[0]
    cut = [image[tuple(slice(r, r + n) for r, n in zip(shift, size, strict=True))] for shift in shifts]
    maps = nets.to_last(plain.predict(nets.from_last(np.stack(cut), data_format)), data_format)
    inside = [
        [i for i in range(n) if low + i * s >= 0 and high + i * s <= pixels]
        for n, (low, high), s, pixels in zip(maps.shape[1:-1], fields, steps, size, strict=True)
    ]
    compared = 0
    for shift, found in zip(shifts, maps, strict=True):
        places = [[(r + i * s) // k for i in row] for r, row, s, k in zip(shift, inside, steps, wanted, strict=True)]
        nets.equal_maps(found[np.ix_(*inside)], cells[np.ix_(*places)], maps)
        compared += int(np.prod([len(row) for row in inside]))
    assert compared >= len(shifts) > 1, "a shift was not compared"
    return compared


@numerical
@pytest.mark.parametrize("trunk", some(*PADDED, jax=2))
def test_inside_an_image_a_padded_net_is_that_of_the_shifted_image(trunk, tally):
    if trunk == "average_same" and nets.BACKEND == "torch":
        pytest.skip(nets.UNEVEN_AVERAGE)
    model = nets.classifier(trunk, head="average")
    nets.check_native(model, fullyconv.convert(model, stride=1))
    tally(on_shifted_images(model, 1))


@numerical
@pytest.mark.parametrize("data_format", formats())
@pytest.mark.parametrize("stride", some((4, 1), 2))
def test_padded_nets_at_other_strides(stride, data_format, tally):
    tally(on_shifted_images(nets.classifier("strided_same", data_format=data_format), stride, data_format))


@numerical
@pytest.mark.parametrize("rank", some(1, 3))
def test_padded_nets_of_one_and_three_axes(rank, tally):
    tally(on_shifted_images(nets.classifier("max_same", rank=rank, head="average"), 2))


@numerical
@pytest.mark.parametrize("trunk", some("excite", *PADDED))
def test_at_its_own_stride_a_map_is_the_plain_one(trunk, tally):
    model = nets.classifier(trunk)
    plain = fullyconv.convert(model)
    same = fullyconv.convert(model, stride=plain.grid.stride)
    assert same.grid == plain.grid
    image = nets.images((41, 38), 3, 1, 908)
    want = plain.predict(image)
    nets.equal_maps(want, same.predict(image), want)
    tally(want[..., 0].size)


# ------------------------------------------------------------------------------------------------------ random nets


@numerical
@settings(SETTINGS, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(strategies.specs(padded=False), st.data())
def test_random_nets(spec, data):
    with passing_over_dull_nets():
        model = prepared(spec)
        own = [grid.stride for grid in keras.tree.flatten(fullyconv.plan(model).grids)]
        divisors = [[k for k in range(1, min(s) + 1) if all(n % k == 0 for n in s)] for s in zip(*own, strict=True)]
        stride = tuple(data.draw(st.sampled_from(ks), label="stride") for ks in divisors)
        extra = [
            data.draw(st.integers(k, k + min(s)), label="extra")
            for k, s in zip(stride, zip(*own, strict=True), strict=True)
        ]
        fcn = fullyconv.convert(model, stride=stride)
        assert fcn.exactness == "exact"
        on_windows(model, fcn, spec.data_format, extra, count=data.draw(st.integers(1, 2), label="batch"))


# ------------------------------------------------------------------------------------------------- a trained network


@pytest.fixture(scope="module")
def boards():
    """Two boards of 400 x 400 pixels, and their 64 squares."""
    with Image.open(Path(__file__).parent / "data" / "chess_opening.png") as picture:
        opening = np.array(picture.convert("RGB").resize((400, 400), Image.Resampling.NEAREST))
    squares = pretrained.fen_squares("rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR")
    return [(b.astype("float32"), s) for b, s in (pretrained.chess_board(), (opening, squares))]


@numerical
@needs("board-to-fen")
@pytest.mark.parametrize(("stride", "right"), some((2, [64, 64]), (None, [62, 61])))
def test_a_denser_map_reads_every_square_of_two_boards(stride, right, boards, tally):
    """Squares are 50 pixels apart: no multiple of the stride of 4 that the network has, but one of 2."""
    model = pretrained.chess_model()
    fcn = fullyconv.convert(model, stride=stride)
    step = fcn.grid.stride[0]
    nearest = [min(round(50 * i / step), fcn.grid.cells((400, 400))[0] - 1) for i in range(8)]
    for (board, squares), wanted in zip(boards, right, strict=True):
        cells = fcn.predict(board[None])[0][np.ix_(nearest, nearest)].reshape(64, -1)
        named = [pretrained.CHESS_LABELS[i] for i in cells.argmax(-1)]
        assert sum(a == b for a, b in zip(named, squares, strict=True)) == wanted
        if stride:
            cut = nets.run(model, nets.windows(board, (50, 50), (50, 50), "channels_last"))
            assert np.abs(cut - cells).max() <= 1e-5
    tally(128)


# --------------------------------------------------------------------------------------------------------- messages


def refusal(model, **options):
    with pytest.raises(fullyconv.FullyConvError, match=r"\w") as caught:
        fullyconv.plan(model, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("stride", "words"), [(3, "3 x 3"), ((1, 3), "1 x 3"), (8, "8 x 8"), (0, "0 x 0"), ((1,), "1")]
)
def test_a_stride_that_does_not_divide(stride, words):
    assert refusal(nets.classifier("valid"), stride=stride) == (
        f"A stride of {words} does not divide the stride 4 x 4 of 'valid'.\n"
        "Give one of 1, 2, 4, or one of them per axis."
    )


def test_one_answer_an_image_has_no_stride():
    x = keras.Input((20, 20, 3))
    y = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(4, 3, strides=2, name="conv")(x))
    model = keras.Model(x, layers.Dense(2, name="logits")(y), name="net")
    assert refusal(model, stride=1, pool="global") == (
        "1 of the 4 layers of 'net' cannot be made convolutional.\n"
        "  'pool' (GlobalAveragePooling2D, layer 2) pools the whole image, which has no denser cells.\n"
        '    Leave stride out, or pool="window".\n'
        "  To convert the part before it:  fullyconv.convert(model, until='conv')"
    )


def test_the_plan_says_which_layers_were_touched():
    x = keras.Input((20, 20, 3))
    y = layers.MaxPooling2D(name="late")(layers.Conv2D(4, 3, strides=2, name="early")(x))
    model = keras.Model(x, layers.Dense(2, name="logits")(layers.Flatten()(y)))
    of = "applied to 2 shifted copies along axis {}, in place of a stride."
    late = ["late: " + of.format(0), "late: " + of.format(1)]
    assert list(fullyconv.plan(model, stride=2).notes) == late
    assert list(fullyconv.plan(model, stride=(2, 4)).notes) == late[:1]
    assert list(fullyconv.plan(model, stride=1).notes) == ["early: " + of.format(0), "early: " + of.format(1), *late]
