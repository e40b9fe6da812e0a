"""Weights that are NaN, infinite or complex: refused with the layer's name wherever a network comes from."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

import fullyconv
from fullyconv import finite
from fullyconv.cli import app

RETRAIN = (
    "What such a network answers means nothing: the training diverged, or the file is damaged.\n"
    "Use a checkpoint from before that."
)


def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    stack = [
        keras.Input((12, 12, 3)),
        layers.RandomFlip(name="flip"),
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.5, name="drop"),
        layers.Flatten(name="flat"),
        layers.Dense(3, name="fc"),
    ]
    return keras.Sequential(stack, name="net")


def spoiled(model: keras.Model, layer: str, weight: str, *values: float) -> keras.Model:
    """The model with the first numbers of a weight replaced."""
    variable = next(w for w in model.get_layer(layer).weights if w.name == weight)
    array = np.array(keras.ops.convert_to_numpy(variable))
    array.reshape(-1)[: len(values)] = values
    variable.assign(array)
    return model


def said(call, *args, **kwargs) -> str:
    with pytest.raises((fullyconv.WeightsError, fullyconv.ModelFileError), match=r"\.") as caught:
        call(*args, **kwargs)
    return str(caught.value)


def bad() -> keras.Model:
    return spoiled(spoiled(net(), "conv", "kernel", np.nan, np.inf, np.nan, 1, -np.inf), "fc", "bias", np.inf)


BAD = (
    "2 layers of 'net' hold numbers that cannot be right:\n"
    "  'conv': kernel has 2 NaN and 2 infinite values\n"
    "  'fc': bias has 1 infinite value\n" + RETRAIN
)


@pytest.fixture(scope="module")
def fcn():
    return fullyconv.convert(net())


# ------------------------------------------------------------------------------------------------ where it is refused


@pytest.mark.numerical
def test_convert_and_verify_refuse(fcn):
    assert said(fullyconv.convert, bad()) == BAD
    assert said(fullyconv.convert, fullyconv.plan(bad())) == BAD
    assert said(fullyconv.verify, bad(), fcn) == BAD


def test_plan_reads_no_weights(monkeypatch):
    monkeypatch.setattr(finite, "_pieces", lambda _: pytest.fail("a weight was read"))
    assert fullyconv.plan(bad()).steps


def test_what_was_spoiled_after_the_conversion_is_refused(tmp_path):
    fcn = fullyconv.convert(net())
    spoiled(fcn.model, "fc", "kernel", np.nan)
    wanted = f"1 layer of 'net' holds numbers that cannot be right:\n  'fc': kernel has 1 NaN\n{RETRAIN}"
    fcn.save(tmp_path / "fcn.keras")
    assert said(fullyconv.verify, net(), fcn) == wanted
    assert said(fullyconv.load, tmp_path / "fcn.keras") == wanted
    assert said(fullyconv.to_classifier, fcn) == wanted
    if keras.backend.backend() == "openvino":
        assert said(fullyconv.export, fcn, tmp_path / "fcn.xml") == wanted
        assert not (tmp_path / "fcn.xml").exists()


def test_only_the_part_that_is_converted_counts():
    model = spoiled(net(), "fc", "kernel", np.nan)
    part = fullyconv.convert(model, until="norm")
    assert fullyconv.verify(model, part).ok
    assert "'conv': kernel has 1 NaN" in said(fullyconv.convert, spoiled(model, "conv", "kernel", np.nan), until="norm")


def test_weights_in_a_file_of_their_own_are_refused(tmp_path, fcn):
    bad().save_weights(tmp_path / "bad.weights.h5")
    assert said(fullyconv.convert_weights, net(), tmp_path / "bad.weights.h5", tmp_path / "out.keras") == BAD
    assert not (tmp_path / "out.keras").exists()
    by_hand = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")],
        name="mine",
    )
    before = [np.array(keras.ops.convert_to_numpy(w)) for w in by_hand.weights]
    spoiled(net(), "norm", "moving_variance", -1, 1).save_weights(tmp_path / "low.weights.h5")
    for file, fault in (
        ("bad.weights.h5", "conv: kernel has 2 NaN and 2 infinite values"),
        ("low.weights.h5", "norm: moving_variance + epsilon is not above 0 in 1 place"),
    ):
        assert said(fullyconv.load_dense_weights, by_hand, tmp_path / file, {"fc": None}) == (
            f"'{tmp_path / file}' holds weights that cannot be right; nothing was loaded.\n  {fault}\n{RETRAIN}"
        )
    for was, weight in zip(before, by_hand.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), was)


@pytest.mark.once
def test_the_command_refuses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad().save("bad.keras")
    fullyconv.convert(net()).save("fcn.keras")
    net().save("good.keras")
    spoiled_fcn = fullyconv.convert(net())
    spoiled(spoiled_fcn.model, "fc", "bias", np.inf)
    spoiled_fcn.save("bad-fcn.keras")
    for arguments in (
        ("convert", "bad.keras", "-o", "out.keras"),
        ("verify", "bad.keras", "fcn.keras"),
        ("verify", "good.keras", "bad-fcn.keras"),
        ("export", "bad-fcn.keras", "-o", "out.xml"),
        ("classifier", "bad-fcn.keras", "-o", "out.keras"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 1, (arguments, done.output)
        assert "'fc': bias has 1 infinite value" in done.output
        assert "holds:" not in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad-fcn.keras", "bad.keras", "fcn.keras", "good.keras"]


# ------------------------------------------------------------------------------------------------- what is refused


def test_the_first_ten_layers_are_named():
    stack = [layers.Conv2D(1, 1, name=f"conv{i}") for i in range(12)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack], name="deep")
    for layer in stack:
        spoiled(model, layer.name, "bias", np.nan)
    assert said(finite.check_weights, model) == "\n".join(
        [
            "12 layers of 'deep' hold numbers that cannot be right:",
            *(f"  'conv{i}': bias has 1 NaN" for i in range(10)),
            "  and 2 more",
            RETRAIN,
        ]
    )


@pytest.mark.parametrize(("variance", "fine"), [(-1.0, False), (-1e-3, False), (-1e-9, True), (0.0, True)])
def test_a_variance_that_has_no_root(variance, fine):
    model = spoiled(net(), "norm", "moving_variance", variance)
    model.get_layer("norm").epsilon = 1e-3
    if fine:  # epsilon makes up for it: rounding may leave such
        finite.check_weights(model)
    else:
        assert "'norm': moving_variance + epsilon is not above 0 in 1 place\n" in said(finite.check_weights, model)


def test_a_normalization_given_or_adapted():
    def model(layer):
        return keras.Sequential([keras.Input((4, 4, 3)), layer, layers.GlobalAveragePooling2D()], name="net")

    given = layers.Normalization(mean=[0, np.nan, 1], variance=[1, -1, 2], name="given")
    assert said(finite.check_weights, model(given)) == (
        "1 layer of 'net' holds numbers that cannot be right:\n"
        f"  'given': variance is below 0 in 1 place, mean has 1 NaN\n{RETRAIN}\nBuild the layer with other numbers."
    )
    adapted = layers.Normalization(name="adapted")
    network = model(adapted)
    finite.check_weights(network)
    adapted.set_weights([np.array([0, np.inf, 0]), np.ones(3), np.array(5)])
    assert "'adapted': mean has 1 infinite value\n" in said(finite.check_weights, network)


def test_constants_of_layers_and_operations():
    keras.utils.clear_session()  # Keras counts operations through the whole process
    x = keras.Input((4, 4, 3))
    y = layers.LeakyReLU(negative_slope=float("nan"), name="leaky")(layers.Rescaling(np.inf, name="rescaling")(x))
    y = keras.ops.multiply(y / np.array([1.0, 0.0, 2.0]), float("nan"))
    assert said(finite.check_weights, keras.Model(x, y, name="net")) == (
        "4 layers of 'net' hold numbers that cannot be right:\n"
        "  'rescaling': scale has 1 infinite value\n"
        "  'leaky': negative_slope is NaN\n"
        "  'true_divide': divides by 0\n"
        "  'multiply': a constant is NaN\n"
        "Build the layer with other numbers."
    )
    z = keras.ops.clip(keras.ops.maximum(x / 255.0, -np.inf), 0, np.inf)
    finite.check_weights(keras.Model(x, z))


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "bfloat16", "mixed_bfloat16"])
def test_weights_of_16_bits(policy):
    dtype = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = net()
    finally:
        keras.config.set_dtype_policy(dtype)
    finite.check_weights(model)
    assert "'fc': bias has 1 NaN and 1 infinite value" in said(
        finite.check_weights, spoiled(model, "fc", "bias", np.nan, np.inf)
    )


def test_weights_that_are_integers():
    model = net()
    model.get_layer("fc").quantize("int8")
    finite.check_weights(model)
    assert "'fc': kernel_scale has 1 NaN" in said(finite.check_weights, spoiled(model, "fc", "kernel_scale", np.nan))


def test_weights_in_inner_models_and_wrappers():
    x = keras.Input((12, 12, 3))
    y = layers.TimeDistributed(layers.Dense(4), name="wrapped")(net().get_layer("conv")(x))
    model = keras.Model(x, layers.Dense(2, name="out")(layers.Flatten()(y)), name="inner")
    outer = keras.Sequential([keras.Input((12, 12, 3)), model, layers.Dense(2, name="last")], name="outer")
    assert "'wrapped': kernel has 1 NaN\n" in said(
        finite.check_weights, spoiled_inside(outer, model.get_layer("wrapped"))
    )


def spoiled_inside(outer: keras.Model, layer: keras.Layer) -> keras.Model:
    value = np.array(keras.ops.convert_to_numpy(layer.weights[0]))
    value.flat[0] = np.nan
    layer.weights[0].assign(value)
    return outer


@pytest.mark.numerical
def test_weights_are_looked_at_in_pieces(monkeypatch):
    model, sizes = net(), []

    def fault(name, pieces):
        if name == "kernel":
            sizes.append([piece.size for piece in pieces])

    monkeypatch.setattr(finite, "_PIECE", 100)
    monkeypatch.setattr(finite, "fault", fault)
    finite.check_weights(model)
    assert sizes == [[100, 8], [100] * 12]


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow lends its memory another way")
def test_no_weight_is_copied():
    model = net()
    held = {id(w): next(iter(finite._pieces(w))) for w in model.weights if w.name == "kernel"}
    again = {id(w): next(iter(finite._pieces(w))) for w in model.weights if w.name == "kernel"}
    assert all(np.shares_memory(held[key], again[key]) for key in held)


# --------------------------------------------------------------------------------------------- complex numbers in files


def with_complex(source: Path, target: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """A copy of a `.keras` file in which all the arrays of Dense layers are complex."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            data = BytesIO(old.read(name))
            if name == "model.weights.h5":
                with h5py.File(data, "r+") as file:
                    group = file["layers/dense/vars"]
                    for key in list(group):
                        value = group[key][()]
                        del group[key]
                        group[key] = value.astype("complex64")
            new.writestr(name, data.getvalue())
    return target


@pytest.mark.once
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_complex_numbers_in_a_file(tmp_path, compression):
    net().save(tmp_path / "a.keras")
    file = with_complex(tmp_path / "a.keras", tmp_path / "c.keras", compression)
    wanted = (
        f"'{file}' is refused: 'layers/dense/vars/0' in it, of the layer 'fc', holds complex numbers, with which no "
        "network computes.\nSave the model again with model.save, or get the file from its author again."
    )
    assert said(fullyconv.load, file) == wanted
    assert said(fullyconv.convert_weights, net(), file, tmp_path / "out.keras") == wanted
    hand = keras.Sequential([keras.Input((None, None, 4)), layers.Conv2D(3, 10, name="fc")], name="mine")
    only = {"conv": None, "norm": None}
    assert said(fullyconv.load_dense_weights, hand, file, only) == wanted
    done = CliRunner().invoke(app, ["convert", str(file), "-o", str(tmp_path / "out.keras")])
    assert (done.exit_code, "of the layer 'fc', holds complex numbers" in done.output) == (1, True)


@pytest.mark.once
def test_complex_numbers_in_a_file_of_keras_2(tmp_path):
    net().save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        place = "model_weights/fc/net/fc" if "net" in file["model_weights/fc"] else "model_weights/fc/fc"
        group = file[place]
        value = group["kernel"][()]
        del group["kernel"]
        group["kernel"] = value.astype("complex128")
    assert said(fullyconv.load, tmp_path / "a.h5") == (
        f"'{tmp_path / 'a.h5'}' is refused: '{place}/kernel' in it holds complex numbers, "
        "with which no network computes.\nSave the model again with model.save, or get the file from its author again."
    )


@pytest.mark.once
def test_a_file_that_lacks_a_layer_is_refused(tmp_path):
    net().save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as old, zipfile.ZipFile(tmp_path / "b.keras", "w") as new:
        for name in old.namelist():
            data = BytesIO(old.read(name))
            if name == "model.weights.h5":
                with h5py.File(data, "r+") as file:
                    del file["layers/dense"]
            new.writestr(name, data.getvalue())
    with pytest.raises(fullyconv.ModelFileError, match=r"Layer 'fc' expected 2 variables, but received 0 variables"):
        fullyconv.load(tmp_path / "b.keras")


# --------------------------------------------------------------------------------------- answers that are not finite


@pytest.mark.numerical
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_answers_that_overflow_do_not_hold(padding):
    keras.utils.set_random_seed(0)
    stack = [
        keras.Input((12, 12, 3)),
        layers.Conv2D(4, 3, padding=padding, kernel_initializer=keras.initializers.Constant(3e38), name="conv"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(3, kernel_initializer=keras.initializers.Constant(3e38), name="fc"),
    ]
    model = keras.Sequential(stack, name="net")
    proof = fullyconv.verify(model, fullyconv.convert(model))
    assert (proof.ok, proof.native_ok, proof.window_ok, proof.argmax_agreement) == (False, False, False, 0)
    assert " holds" not in str(proof)
    assert str(proof).splitlines()[-1] == ("error inf       the answers contain NaN or infinity")


def test_noise_that_overflows_is_not_taken_where_other_noise_does():
    model = net()
    model.get_layer("fc").set_weights([np.full((400, 3), 3e36, "float32"), np.arange(3, dtype="float32")])
    model.get_layer("conv").set_weights([np.full((3, 3, 3, 4), 1e-2, "float32"), np.zeros(4, "float32")])
    fcn = fullyconv.convert(model)
    with np.errstate(over="ignore"):
        assert not np.isfinite(fcn.predict(np.full((1, 12, 12, 3), 255, "float32"))).all()
    assert fullyconv.verify(model, fcn).ok
