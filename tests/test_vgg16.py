"""VGG16, the network everybody converts first: 138 million weights, window 224 x 224."""

from __future__ import annotations

import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import fullyconv
import nets


@pytest.fixture(scope="module")
def vgg16():
    keras.utils.set_random_seed(1)
    return nets.prepare(keras.applications.VGG16(weights=None, classifier_activation=None), count=2)


@pytest.fixture(scope="module")
def fcn(vgg16):
    return fullyconv.convert(vgg16)


@pytest.mark.numerical
def test_one_call_gives_the_classifier_at_the_window(vgg16, fcn):
    nets.check_native(vgg16, fcn)


def test_the_grid(fcn):
    grid = fcn.grid
    assert (grid.window, grid.stride) == ((224, 224), (32, 32))
    assert grid.exactness == "native"
    low, high = grid.receptive_field[0]
    assert high - low == 404  # 212 of the trunk, and 6 more positions of stride 32
    assert grid.cell_to_box((2, 9)) == ((64, 288), (288, 512))


def test_512_pixels_give_ten_by_ten_answers(fcn):
    image = nets.images((512, 512), 3)
    y = fcn.predict(image)
    assert y.shape == (1, 10, 10, 1000)
    assert fcn.grid.cells((512, 512)) == fcn.grid.windows_inside((512, 512)) == (10, 10)
    # a cell in the middle does not see the border: it is the same in the image cut to start 32 pixels later
    low, high = fcn.grid.receptive_field[0]
    cell = -(-(-low + 32) // 32)
    assert high + cell * 32 <= 512
    shifted = fcn.predict(image[:, 32:, 32:])
    nets.equal(y[0, cell, cell], shifted[0, cell - 1, cell - 1], float(np.ptp(y)))


def test_plan_answers_within_two_seconds(vgg16):
    start = time.perf_counter()
    plan = fullyconv.plan(vgg16)
    assert time.perf_counter() - start < 2
    assert plan.grids.stride == (32, 32)


def test_the_weights_are_those_of_the_source(vgg16, fcn):
    assert fcn.model.count_params() == vgg16.count_params()
    kernel = nets.to_numpy(vgg16.get_layer("fc1").kernel)
    assert (nets.to_numpy(fcn.model.get_layer("fc1").kernel).reshape(kernel.shape) == kernel).all()


STOCK = """
import sys
sys.modules["fullyconv"] = None
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
print(model.input_shape, model.output_shape)
np.save(sys.argv[3], np.asarray(keras.ops.convert_to_numpy(model(np.load(sys.argv[2])))))
"""


def test_the_file_opens_in_stock_keras(vgg16, fcn, tmp_path):
    image = nets.images((224, 224), 3, seed=3)
    path, given, got = tmp_path / "vgg16.keras", tmp_path / "in.npy", tmp_path / "out.npy"
    fcn.save(path)
    np.save(given, image)
    done = subprocess.run([sys.executable, "-c", STOCK, path, given, got], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(None, None, None, 3) (None, None, None, 1000)"
    want, have = nets.run(vgg16, image), np.load(got)
    assert have.shape == (1, 1, 1, 1000)
    if nets.BACKEND == "openvino":  # there stock Keras computes in the device's default precision, bf16 on some
        assert (want.argmax(), np.abs(want - have[:, 0, 0]).max() < 0.05 * np.abs(want).max()) == (have.argmax(), True)
    else:
        nets.equal(want, have[:, 0, 0], float(np.ptp(want)))
