"""Channels taken by slices, numbers and stacks, and `preprocess_input` inside a network."""

from __future__ import annotations

import keras
import pytest
from keras import layers, ops

import fullyconv
import nets

pytestmark = pytest.mark.numerical


def network(change, data_format: str = "channels_last", channels: int = 3, head: str = "flatten") -> keras.Model:
    """A classifier whose image goes through `change` first."""
    keras.utils.set_random_seed(4)
    k = nets.Kit(2, data_format)
    x = k.input(channels=channels) if channels != 3 else k.input()
    y = k.conv(4, 3, strides=2)(change(x))
    y = k.flatten()(y) if head == "flatten" else k.gap()(y)
    return nets.prepare(keras.Model(x, layers.Dense(5)(y), name="net"), data_format=data_format)


def axis(data_format: str) -> int:
    return 1 if data_format == "channels_first" else -1


def key(k, data_format: str) -> tuple:
    return (slice(None), k) if data_format == "channels_first" else (Ellipsis, k)


CHANGES = {
    "reversed": lambda x, f: x[key(slice(None, None, -1), f)],
    "every second": lambda x, f: x[key(slice(0, None, 2), f)],
    "one, with its axis": lambda x, f: x[key(slice(1, 2), f)],
    "taken": lambda x, f: ops.take(x, [2, 0, 2, 1], axis=axis(f)),
    "flipped": lambda x, f: ops.flip(x, axis=axis(f)),
    "stacked": lambda x, f: ops.stack([x[key(i, f)] for i in (2, 0, 1)], axis=axis(f)),
    "one, stacked with a computed one": lambda x, f: ops.stack(
        [x[key(-1, f)], ops.tanh(x[key(0, f)]) + 1.0], axis=axis(f)
    ),
}


def skip_negative_steps(change: str) -> None:
    if change == "reversed" and nets.BACKEND in ("openvino", "torch"):
        pytest.skip("Keras has no slices with a negative step on this backend: the classifier itself does not run")


@pytest.mark.parametrize("data_format", nets.FORMATS)
@pytest.mark.parametrize("change", CHANGES)
def test_channels(change, data_format, tmp_path):
    if nets.cannot_run(data_format):
        pytest.skip(nets.NO_CHANNELS_FIRST)
    skip_negative_steps(change)
    model = network(lambda x: CHANGES[change](x, data_format), data_format)
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn, data_format)
    nets.check_sizes(model, fcn, data_format)
    fcn.model.save(tmp_path / "fcn.keras")
    loaded = fullyconv.load(tmp_path / "fcn.keras", window=fcn.window)
    assert loaded.grid.axes == fcn.grid.axes
    nets.check_native(fullyconv.to_classifier(loaded), loaded, data_format)


MODES = {"caffe": keras.applications.vgg16, "tf": keras.applications.mobilenet, "torch": keras.applications.densenet}


@pytest.mark.parametrize("data_format", nets.FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_preprocess_input_in_the_network(mode, data_format, tmp_path):
    """As Keras's transfer-learning guides write it: a call on the symbolic input."""
    if nets.cannot_run(data_format):
        pytest.skip(nets.NO_CHANNELS_FIRST)
    model = network(
        lambda x: MODES[mode].preprocess_input(x * 100.0 + 100.0, data_format=data_format) / 100.0, data_format
    )
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "exact"
    nets.check_native(model, fcn, data_format)
    assert not fullyconv.geometry(model).refused
    fcn.save(tmp_path / "fcn.keras")
    nets.check_native(model, fullyconv.load(tmp_path / "fcn.keras"), data_format)


@pytest.mark.parametrize("change", ["reversed", "taken", "flipped", "every second"])
def test_channels_of_a_vector(change):
    skip_negative_steps(change)
    model = network(lambda x: x, head="pool")
    x = model.input
    vector = CHANGES[change](model.layers[-2].output, "channels_last")
    model = nets.prepare(keras.Model(x, layers.Dense(5)(vector), name="net"))
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn)
    back = fullyconv.to_classifier(fullyconv.FullyConv(fcn.model, fcn.grids, options=fcn.options))
    nets.check_native(back, fcn)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: ops.flip(x, axis=1), "turns the image round"),
        (lambda x: x[:, ::2], "takes a part of a tensor"),
        (lambda x: ops.stack([x, x], axis=1)[:, 0], "stacks tensors of shape"),
    ],
    ids=["flip", "slice", "stack"],
)
def test_what_is_no_choice_of_channels_is_refused(change, reason):
    x = keras.Input((20, 20, 3))
    y = layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(change(x))))
    with pytest.raises(fullyconv.UnsupportedLayerError, match=reason):
        fullyconv.plan(keras.Model(x, y))
