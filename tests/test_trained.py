"""Trained networks on real pictures: what nobody can argue with."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

import fullyconv
import nets
from fullyconv import pretrained

PHOTOS = ("coffee", "chelsea", "astronaut", "rocket", "camera")


@functools.cache
def chess():
    """The chess network up to its logits, and its conversion."""
    model = pretrained.chess_model()
    logits = _linear(model)
    return logits, fullyconv.convert(logits)


def _linear(model):
    """The same network before its last activation."""
    copy = keras.models.clone_model(model)
    copy.set_weights([nets.to_numpy(w) for w in model.weights])
    copy.layers[-1].activation = keras.activations.linear
    return copy


@pytest.mark.numerical
def test_one_pass_over_a_chess_board_equals_every_window():
    model, fcn = chess()
    board = pretrained.chess_board()[0].astype("float32")
    assert fcn.exactness == "exact"
    assert (fcn.grid.window, fcn.grid.stride) == ((50, 50), (4, 4))
    have = fcn.predict(board[None])[0]
    size = fcn.grid.windows_inside((400, 400))
    assert size == (88, 88)
    worst, scale = 0.0, float(np.abs(have).max())
    # 8 rows of windows at a time: all of the 7,744 windows on the default engine, every fifth strip elsewhere
    for row in range(0, size[0], 8 if nets.BACKEND == "openvino" else 40):
        strip = board[row * 4 : row * 4 + 7 * 4 + 50]
        want = nets.answers(model, strip, (50, 50), (4, 4), "channels_last")
        worst = max(worst, float(np.abs(want - have[row : row + len(want), : size[1]]).max()))
    assert worst <= 1e-6 * scale


def test_the_pieces_on_the_board():
    """The cell nearest to each square: the pitch of 50 is no multiple of the stride of 4, so that a few are off."""
    _, fcn = chess()
    board, squares = pretrained.chess_board()
    have = fcn.predict(board[None].astype("float32"))[0].argmax(-1)
    named = [
        pretrained.CHESS_LABELS[have[min(round(r * 12.5), 87), min(round(c * 12.5), 87)]]
        for r in range(8)
        for c in range(8)
    ]
    assert sum(a == b for a, b in zip(named, squares, strict=True)) >= 61


@pytest.mark.numerical
def test_mini_xception_at_the_window():
    model = pretrained.emotion_model()
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "native"
    assert fcn.grid.window == (64, 64)
    faces = np.stack([_grey("astronaut", (0, 160)), _grey("astronaut", (60, 200)), _grey("camera", (60, 200))])
    want, have = nets.run(model, faces), fcn.predict(faces)
    assert have.shape == (3, 1, 1, 7)
    assert np.ptp(want, axis=0).max() > 0.1
    assert np.abs(want - have[:, 0, 0]).max() <= 1e-5


def _grey(name, corner):
    pixels = pretrained.sample_image(name, 1)[corner[0] : corner[0] + 128 : 2, corner[1] : corner[1] + 128 : 2]
    return pixels.astype("float32") / 255 * 2 - 1


def test_mini_xception_holds_at_every_size(tally):
    model = pretrained.emotion_model()
    fcn = fullyconv.convert(model)
    every = 1 if nets.BACKEND == "openvino" else 8
    tally(nets.check_sizes(model, fcn, axes=(0,), every=every))


@functools.cache
def lite0():
    model = _linear(pretrained.efficientnet_lite0())
    return model, fullyconv.convert(model)


def _photo(name):
    pixels = pretrained.sample_image(name).astype("float32")
    return (pixels * pretrained.LITE0_PREPROCESS["scale"] + pretrained.LITE0_PREPROCESS["offset"])[:400, :400]


@pytest.mark.numerical
def test_efficientnet_lite0_at_the_window():
    model, fcn = lite0()
    assert fcn.exactness == "native"
    pair = np.stack([_photo("coffee")[100:324, 100:324], _photo("chelsea")[50:274, 100:324]])
    want, have = nets.run(model, pair), fcn.predict(pair)[:, 0, 0]
    labels = pretrained.imagenet_labels()
    assert labels[want[0].argmax()] == "espresso"
    assert "cat" in labels[want[1].argmax()] or "tabby" in labels[want[1].argmax()]
    nets.equal(want, have, float(np.abs(want[0] - want[1]).max()))


@pytest.mark.skipif(nets.BACKEND != "openvino", reason="measured once, on the default engine")
def test_agreement_with_windows_cut_from_photos(record_property):
    """A padded network is not equal on windows; on real photos the two mostly name the same class."""
    model, fcn = lite0()
    same = total = 0
    for name in PHOTOS:
        photo = _photo(name)
        have = fcn.predict(photo[None])[0]
        want = nets.answers(model, photo, (224, 224), fcn.grid.stride, "channels_last")
        rows, columns = want.shape[:2]
        assert (rows, columns) == fcn.grid.windows_inside(photo.shape[:2])
        have = have[:rows, :columns]
        assert np.abs(have - want)[:].max() > 1e-3 * np.abs(want).max()
        same, total = same + int((have.argmax(-1) == want.argmax(-1)).sum()), total + rows * columns
    record_property("agreement", f"{same} of {total}")
    assert total >= 150
    assert same / total > 0.5
