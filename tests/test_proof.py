"""The proof holds for every right conversion: of 16 bits, of a part, with a layer left out, behind augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv

Model = keras.Model
SIZE = (12, 12, 3)


def chain(*parts: Any) -> Model:
    """A Sequential model."""
    return keras.Sequential([keras.Input(SIZE), *parts])


def flat() -> Model:
    return chain(layers.Conv2D(4, 3, activation="relu", name="c1"), layers.Flatten(), layers.Dense(4, "softmax"))


def rearranged() -> Model:
    return chain(layers.Conv2D(5, 12, activation="softmax"), layers.Flatten())


def augmented() -> Model:
    return chain(
        layers.RandomFlip(), layers.RandomRotation(0.2), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4)
    )


def resized() -> Model:
    return chain(layers.Resizing(8, 8), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4, "softmax"))


def excited() -> Model:
    x = keras.Input(SIZE)
    y = layers.Conv2D(4, 3, activation="relu")(x)
    gate = layers.Conv2D(4, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    return keras.Model(x, layers.Dense(3)(keras.ops.mean(y * gate, axis=(1, 2))))


def upsampled() -> Model:
    trunk = (layers.MaxPooling2D(2), layers.UpSampling2D(2), layers.Conv2D(4, 3))
    return chain(*trunk, layers.GlobalAveragePooling2D(), layers.Dense(5))


def repeated() -> Model:
    """Cells repeated four times and strided over by four, then by two: all windows are whole cells apart."""
    trunk = (layers.UpSampling2D(4), layers.Conv2D(4, 3, strides=4, activation="relu"), layers.MaxPooling2D(2))
    return chain(*trunk, layers.GlobalAveragePooling2D(), layers.Dense(5))


CASES: list[tuple[Callable[[], Model], dict[str, Any], str]] = [
    (flat, {}, "exact"),
    (flat, {"until": "c1"}, "exact"),
    (flat, {"stride": 1}, "exact"),
    (rearranged, {}, "exact"),
    (augmented, {}, "exact"),
    (resized, {"skip": "resizing"}, "exact"),
    (excited, {"pool": "drop"}, "approximate"),
    (upsampled, {}, "approximate"),
    (repeated, {}, "exact"),
    (repeated, {"stride": 1}, "exact"),
]


@pytest.mark.numerical
@pytest.mark.parametrize(("build", "options", "exactness"), CASES)
def test_the_proof_holds_and_again_after_loading(build, options, exactness, tmp_path: Path):
    keras.utils.set_random_seed(0)
    model = build()
    fcn = fullyconv.convert(model, **options)
    fcn.save(tmp_path / "fcn.keras")
    loaded = fullyconv.load(tmp_path / "fcn.keras")
    assert fcn.exactness == exactness
    assert loaded.grids == fcn.grids
    for each in (fcn, loaded):
        proof = fullyconv.verify(model, each)
        assert proof.ok, str(proof)
        assert proof.difference > 1e-3


def enlarged(size: int | tuple[int, int], strides: int, before: Any = (), after: Any = (), **options: Any) -> Model:
    """An upsampling and a strided convolution."""
    trunk = (*before, layers.UpSampling2D(size, **options), layers.Conv2D(4, 3, strides=strides, activation="relu"))
    return chain(*trunk, *after, layers.GlobalAveragePooling2D(), layers.Dense(5))


def bridged() -> Model:
    """A map beside itself at half the resolution, as many positions: equal where the windows are two pixels apart."""
    x = keras.Input(SIZE)
    y = layers.Add()([x, layers.UpSampling2D(2, name="up")(layers.AveragePooling2D(2)(x))])
    y = layers.Conv2D(4, 3, strides=2, activation="relu")(y)
    return keras.Model(x, layers.Dense(5)(layers.GlobalAveragePooling2D()(y)))


BETWEEN = "up makes cells that no window belongs to"
UPSAMPLINGS: dict[str, tuple[Callable[[], Model], str, tuple[str, ...]]] = {
    "divides the stride": (lambda: enlarged(2, 2), "exact", ()),
    "divides the stride along each axis": (lambda: enlarged((3, 1), (3, 1)), "exact", ()),
    "of a map, and divides the stride": (lambda: enlarged(2, 2, [layers.MaxPooling2D(2)]), "exact", ()),
    "beside the map": (bridged, "exact", ()),
    "does not divide the stride": (lambda: enlarged(2, 3, name="up"), "approximate", (BETWEEN,)),
    "along one axis alone": (lambda: enlarged((2, 3), 2, name="up"), "approximate", (BETWEEN,)),
    "of a map, to more than its stride": (
        lambda: enlarged(4, 2, [layers.MaxPooling2D(2)], name="up"),
        "approximate",
        (BETWEEN,),
    ),
    "bilinear": (
        lambda: enlarged(2, 2, interpolation="bilinear", name="up"),
        "approximate",
        ("up interpolates across the edge of the window",),
    ),
    "and padding": (
        lambda: enlarged(2, 2, after=[layers.Conv2D(4, 3, padding="same", name="pad")]),
        "native",
        ("pad pads",),
    ),
}


@pytest.mark.numerical
@pytest.mark.parametrize("kind", UPSAMPLINGS)
def test_an_upsampling_is_exact_where_every_window_lies_on_whole_cells(kind, tally):
    build, exactness, reasons = UPSAMPLINGS[kind]
    keras.utils.set_random_seed(0)
    model = build()
    grid = fullyconv.plan(model).grids
    assert (grid.exactness, grid.reasons) == (exactness, reasons)
    if exactness == "exact":
        image = np.random.default_rng(0).uniform(size=(19, 23, 3)).astype("float32")
        cut = fullyconv.reference(model, image, grid.stride)
        cells = fullyconv.convert(model).predict(image[None])[0, : cut.shape[0], : cut.shape[1]]
        np.testing.assert_allclose(cells, cut, atol=1e-5 * np.abs(cut).max())
        tally(cut[..., 0].size)


def test_padding_that_makes_no_difference():
    """Windows that are equal though the grid promises nothing of them are no mistake; nor are those that differ."""
    keras.utils.set_random_seed(0)
    model = chain(layers.Conv2D(4, 3, padding="same", name="c1"), layers.GlobalAveragePooling2D(), layers.Dense(3))
    found = fullyconv.verify(model, fullyconv.convert(model))
    assert found.ok
    assert str(found).endswith("they may differ, and do: native (c1 pads)")
    kernel = np.zeros((3, 3, 3, 4), "float32")
    kernel[1, 1] = np.random.default_rng(0).normal(size=(3, 4))
    model.get_layer("c1").kernel.assign(kernel)
    found = fullyconv.verify(model, fullyconv.convert(model))
    assert found.ok
    assert found.windows > 1
    assert str(found).endswith("equal here, though they may differ: native (c1 pads)")
    wrong = dataclasses.replace(found, exactness="exact", reasons="")
    assert str(wrong).endswith("                holds: exact")
    wrong = dataclasses.replace(wrong, window_error=1e-3)
    assert not wrong.ok
    assert str(wrong).endswith("                DOES NOT HOLD: exact")


@pytest.mark.numerical
def test_the_proof_fails_for_other_weights():
    keras.utils.set_random_seed(0)
    model = flat()
    fcn = fullyconv.convert(model)
    kernel = fcn.model.get_layer("c1").kernel
    kernel.assign(keras.ops.convert_to_numpy(kernel) * 1.001)
    proof = fullyconv.verify(model, fcn)
    assert not proof.native_ok
    assert not proof.ok


@pytest.mark.numerical
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_window_is_not_summed_in_sixteen_bits(policy: str):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        parts = (layers.Rescaling(200.0), layers.Conv2D(4, 1, activation="relu"), layers.GlobalAveragePooling2D())
        model = keras.Sequential([keras.Input((48, 48, 3)), *parts, layers.Dense(3)])
        fcn = fullyconv.convert(model)
    finally:
        keras.config.set_dtype_policy("float32")
    x = np.random.default_rng(0).uniform(0, 1, (1, 48, 48, 3)).astype("float32")
    wanted = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(model(x), "float32")))
    got = fcn.predict(x).reshape(wanted.shape)
    assert np.abs(got - wanted).max() <= 0.03 * np.abs(wanted).max()
    assert fullyconv.verify(model, fcn).ok


@pytest.mark.numerical
def test_lora_of_a_layer_that_stays_is_added_once():
    keras.utils.set_random_seed(0)
    model = chain(layers.Conv2D(4, 3, name="c1"), layers.Flatten(), layers.Dense(5))
    layer = model.get_layer("c1")
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=layer.lora_kernel_b.shape).astype("float32"))
    fcn = fullyconv.convert(model)
    assert fullyconv.verify(model, fcn).ok
    assert not fcn.model.get_layer("c1").lora_enabled


def test_images_of_several_sizes_are_refused():
    a, b = keras.Input((8, 8, 3)), keras.Input((4, 4, 1))
    both = layers.Concatenate()([layers.Flatten()(layers.Conv2D(4, 3)(a)), layers.Flatten()(layers.Conv2D(4, 3)(b))])
    model = keras.Model([a, b], layers.Dense(3)(both), name="pair")
    with pytest.raises(fullyconv.UnsupportedModelError, match="'pair' reads images of several sizes") as error:
        fullyconv.plan(model)
    assert str(error.value) == (
        "'pair' reads images of several sizes, [(4, 4), (8, 8)], whose windows cannot move together.\n"
        "Give all of its images one size."
    )


def test_a_network_converted_with_a_rule_is_loaded_with_it(tmp_path: Path):
    @keras.saving.register_keras_serializable("test_proof")
    class Halve(layers.Layer):
        def call(self, inputs):
            return inputs / 2

    def halved(layer, x, *, site, **_):
        return x.then(site.layer(type(layer), layer.get_config(), x))

    model = chain(Halve(), layers.Flatten(), layers.Dense(2))
    rules = {Halve: halved}
    fcn = fullyconv.convert(model, rules=rules)
    with pytest.warns(fullyconv.SavingWarning, match=r"own rules, for Halve") as caught:
        fcn.save(tmp_path / "fcn.keras")
    assert [str(warning.message) for warning in caught if warning.category is fullyconv.SavingWarning] == [
        f"'{tmp_path / 'fcn.keras'}' does not keep your own rules, for Halve: they are functions, and the file holds "
        "values only.\nGive them again on loading:  fullyconv.load(path, rules={Halve: rule})"
    ]
    assert fullyconv.load(tmp_path / "fcn.keras", rules=rules).grids == fcn.grids


def test_no_window_is_inside_an_image_smaller_than_it():
    grid = fullyconv.plan(flat()).grids
    assert grid.windows_inside((4, 4)) == (0, 0)


def test_a_channels_first_head_without_layers_before_it():
    model = keras.Sequential([keras.Input((3, 8, 8)), layers.Flatten(data_format="channels_first"), layers.Dense(5)])
    assert fullyconv.plan(model).grids.window == (8, 8)
