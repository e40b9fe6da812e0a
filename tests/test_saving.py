"""Saved and loaded again: by this package, by stock Keras, on other backends, and after a detour."""

import functools
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
import nets

OPEN = """
import sys
sys.modules["fullyconv"] = None
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
assert type(model).__module__.startswith("keras."), type(model)
given = np.load(sys.argv[2])
np.save(sys.argv[3], np.asarray(keras.ops.convert_to_numpy(model(given))))
"""
TRUNKS = ["valid", "strided_same", "max_same", "average_same", "inception", "excite"]


def converted(trunk="strided_same", **kwargs):
    model = nets.classifier(trunk, **kwargs)
    return model, fullyconv.convert(model)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_what_is_loaded_is_what_was_saved(trunk, tmp_path):
    model, fcn = converted(trunk)
    fcn.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras")
    assert loaded.grid == fcn.grid
    assert loaded.exactness == fcn.exactness
    image = nets.images((40, 37), 3)
    assert (loaded.predict(image) == fcn.predict(image)).all()
    nets.check_native(model, loaded)


@pytest.mark.parametrize("data_format", nets.FORMATS)
def test_a_channels_first_net_and_a_pooling_head(data_format, tmp_path):
    model, fcn = converted("valid", data_format=data_format, head="average")
    fcn.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras")
    assert loaded.grid == fcn.grid
    nets.check_windows(model, loaded, data_format, extra=5)


@pytest.mark.parametrize(("pool", "context"), [("drop", "window"), ("global", "window"), ("window", "global")])
def test_grids_of_the_options(pool, context, tmp_path):
    fcn = fullyconv.convert(nets.classifier("excite", head="average"), pool=pool, context=context)
    fcn.save(tmp_path / "net.keras")
    assert fullyconv.load(tmp_path / "net.keras").grid == fcn.grid


def test_labels_and_preprocessing_travel_along(tmp_path):
    _, fcn = converted()
    fcn.labels, fcn.preprocess = ["ant", "bee", "cat", "dog", "elk"], "torch"
    fcn.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras")
    assert loaded.labels == ["ant", "bee", "cat", "dog", "elk"]
    assert loaded.preprocess == "torch"


def by_two(x):
    """A preprocessing."""
    return x / 2


@pytest.mark.parametrize(
    ("function", "what", "again"),
    [
        (by_two, "'by_two' is a function", "by_two"),
        (lambda x: x, "it is Python code (function)", "..."),
        (functools.partial(by_two), "it is Python code (partial)", "..."),
    ],
)
def test_a_preprocessing_that_a_file_cannot_keep_is_named(function, what, again, tmp_path):
    _, fcn = converted("valid")
    fcn.preprocess = function
    with pytest.warns(fullyconv.SavingWarning, match="does not keep the preprocessing") as caught:
        fcn.save(tmp_path / "net.keras")
    file = tmp_path / "net.keras"
    mine = [warning for warning in caught if warning.category is fullyconv.SavingWarning]  # Keras warns of its own
    assert [str(warning.message) for warning in mine] == [
        f"'{file}' does not keep the preprocessing: {what}, and the file holds values only.\n"
        f"Set it again after loading:  fcn = fullyconv.load(path); fcn.preprocess = {again}\n"
        "Or save it as numbers:  fcn.preprocess = {'scale': 1 / 255, 'offset': 0, 'bgr': False}, say."
    ]
    assert mine[0].filename == __file__
    assert fullyconv.load(tmp_path / "net.keras").preprocess is None


def test_a_preprocessing_in_numbers_is_kept(tmp_path):
    _, fcn = converted("valid")
    fcn.preprocess = {"scale": np.array([1, 2, 3.0]), "offset": np.float32(2), "bgr": True}
    fcn.save(tmp_path / "net.keras")
    assert fullyconv.load(tmp_path / "net.keras").preprocess == {"scale": [1, 2, 3], "offset": 2, "bgr": True}


def test_several_outputs_and_inputs(tmp_path):
    x, facts = keras.Input((15, 14, 3), name="image"), keras.Input((2,), name="facts")
    y = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    joined = layers.Concatenate()([layers.Flatten()(y), facts])
    outputs = {"a": layers.Dense(3, name="a")(joined), "b": layers.Dense(2, name="b")(layers.GlobalMaxPooling2D()(y))}
    model = nets.prepare(keras.Model({"image": x, "facts": facts}, outputs))
    fcn = fullyconv.convert(model)
    fcn.save(tmp_path / "net.keras")
    loaded = fullyconv.load(tmp_path / "net.keras")
    assert loaded.grids == fcn.grids
    nets.check_native(model, loaded)


@pytest.mark.parametrize("trunk", ["strided_same", "excite"])
def test_saved_again_by_keras_the_window_must_be_told(trunk, tmp_path):
    """Stock Keras drops what it does not know; grid and exactness are worked out from the graph."""
    model, fcn = converted(trunk)
    fcn.save(tmp_path / "net.keras")
    keras.saving.load_model(tmp_path / "net.keras").save(tmp_path / "tuned.keras")
    with pytest.raises(fullyconv.WindowError, match=r"which window") as caught:
        fullyconv.load(tmp_path / "tuned.keras")
    assert str(caught.value) == (
        "tuned.keras does not say which window its network was made for: Keras saved it, which drops that, or it was "
        "never converted.\nGive the size it was trained on:  fullyconv.load(path, window=224)"
    )
    loaded = fullyconv.load(tmp_path / "tuned.keras", window=fcn.grid.window)
    assert (loaded.grid.axes, loaded.grid.exactness) == (fcn.grid.axes, fcn.grid.exactness)
    pads = [[reason for reason in grid.reasons if reason.endswith("pads")] for grid in (loaded.grid, fcn.grid)]
    assert pads[0] == pads[1] != []
    nets.check_native(model, loaded)
    for window in (0, -3, 8.5, "8", (8, 8.0)):
        for name in ("net.keras", "tuned.keras"):
            with pytest.raises(fullyconv.WindowError, match="The window must be a whole number of pixels above 0"):
                fullyconv.load(tmp_path / name, window=window)


@pytest.mark.parametrize("window", [None, (8, 8)])
def test_a_classifier_is_no_converted_network(window, tmp_path):
    """Its file is told from that of a network that Keras has saved again by the size it reads."""
    keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)]).save(tmp_path / "plain.keras")
    with pytest.raises(fullyconv.ModelFileError, match=r"already") as caught:
        fullyconv.load(tmp_path / "plain.keras", window=window)
    assert str(caught.value) == (
        "plain.keras is a classifier already, not a converted network: it reads images of 8 x 8 alone.\n"
        "Give a network that was converted:  fullyconv.convert(model).save(path)"
    )


def test_legacy_h5_is_refused_in_one_sentence(tmp_path):
    _, fcn = converted()
    with pytest.raises(fullyconv.OutputError, match=r"must end in \.keras"):
        fcn.save(tmp_path / "net.h5")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    _, fcn = converted()
    with pytest.raises(fullyconv.OutputError, match=r"net\.keras' cannot be written: there is no folder"):
        fcn.save(tmp_path / "nowhere" / "net.keras")


def test_nothing_is_left_behind_and_an_old_file_is_replaced(tmp_path):
    _, fcn = converted()
    (tmp_path / "net.keras").write_text("old")
    fcn.save(tmp_path / "net.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["net.keras"]
    assert zipfile.is_zipfile(tmp_path / "net.keras")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    _, fcn = converted()
    (tmp_path / "net.keras").write_text("old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fcn.model, "save", full)
    with pytest.raises(fullyconv.OutputError, match=r"net\.keras' cannot be written: no space left on device\.$"):
        fcn.save(tmp_path / "net.keras")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("net.keras", "old")]


# Once is enough: the file is the same on every backend, and four processes are slow.
@pytest.mark.skipif(nets.BACKEND != "openvino", reason="the other backends open the file in processes of their own")
@pytest.mark.parametrize("backend", ["jax", "openvino", "tensorflow", "torch"])
def test_stock_keras_on_every_backend_opens_the_file(backend, tmp_path):
    """In a process that cannot import this package, at a size other than the window."""
    image = nets.images((41, 30), 3)
    np.save(tmp_path / "in.npy", image)
    model, head = _everything()
    fcn = fullyconv.convert(model)
    fcn.save(tmp_path / "net.keras")
    command = [sys.executable, "-c", OPEN, *(str(tmp_path / name) for name in ("net.keras", "in.npy", "out.npy"))]
    env = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    want, have = nets.run(fcn.model, image), np.load(tmp_path / "out.npy")
    nets.equal(want, have, float(np.ptp(want)))
    assert head in {layer.name for layer in fcn.model.layers}


def _everything():
    """Frozen padding of every kind, a context, branches, a pooling head, operations and a nested model."""
    keras.utils.set_random_seed(4)
    k = nets.Kit(2)
    x = k.input()
    y = nets.TRUNKS["max_same"].build(k, nets.TRUNKS["strided_same"].build(k, x) * 0.5)
    y = k.average(3, strides=1, padding="same")(nets.TRUNKS["excite"].build(k, y))
    inner = keras.Sequential([layers.Dense(6, "relu"), layers.LayerNormalization(), layers.Dense(5, name="last")])
    y = inner(layers.Concatenate()([k.flatten()(y), k.gap()(y), k.gmp()(y)]))
    return nets.prepare(keras.Model(x, y)), "last"


def test_a_custom_layer_of_the_source_needs_its_class_to_load(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Bias(layers.Dense):
        """A Dense that changes nothing about `call`."""

    x = keras.Input((9, 9, 2))
    y = layers.Conv2D(3, 3, strides=2, padding="same")(x)
    model = nets.prepare(keras.Model(x, Bias(3)(layers.Flatten()(y))))
    fcn = fullyconv.convert(model)
    fcn.save(tmp_path / "net.keras")
    nets.check_native(model, fullyconv.load(tmp_path / "net.keras"))


def test_the_source_from_a_file_of_each_format(tmp_path):
    model = nets.classifier("residual")
    for name in ("net.keras", "net.h5"):
        model.save(tmp_path / name)
        loaded = keras.models.load_model(tmp_path / name, compile=False)
        nets.check_native(model, fullyconv.convert(loaded))
