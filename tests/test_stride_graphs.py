"""Denser maps of the graphs of well-known networks, in small, with contexts and of random networks that pad."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from keras import layers

import fullyconv
import nets
import strategies
from test_random import SETTINGS, _even_averages, passing_over_dull_nets, prepared
from test_saving import OPEN
from test_stride import head, on_shifted_images, refusal, some

# As in test_random: PyTorch compiles nothing, the others compile each network anew.
EXAMPLES = {"torch": 8, "openvino": 2, "tensorflow": 2, "jax": 1}[nets.BACKEND]
numerical = pytest.mark.numerical


def dense_block(k, x):
    """DenseNet: maps piled up, halved by an average pooling."""
    x = k.max(3, strides=2)(k.layer("ZeroPadding", 1)(k.conv(4, 3, padding="same")(x)))
    for _ in range(2):
        y = k.conv(3, 3, padding="same")(k.conv(5, 1)(k.norm()(x)))
        x = layers.Concatenate(axis=k.axis)([x, y])
    return k.average(2, strides=2)(k.conv(5, 1)(x))


def inverted_residual(k, x):
    """MobileNetV2: expanded, padded by hand, strided depthwise, projected; then one that is added back."""
    x = layers.ReLU(6.0)(k.norm()(k.conv(4, 3, strides=2, padding="same", activation=None)(x)))
    y = k.depthwise(3, strides=2)(k.layer("ZeroPadding", ((0, 1), (0, 1)))(k.conv(8, 1)(x)))
    x = k.norm()(k.conv(5, 1, activation=None)(layers.ReLU(6.0)(y)))
    y = k.depthwise(3, padding="same")(k.conv(8, 1)(x))
    return layers.Add()([x, k.conv(5, 1, activation=None)(y)])


def separable_residual(k, x):
    """Xception: separable convolutions and a strided pooling, beside a strided shortcut."""
    x = k.conv(4, 3, strides=2)(x)
    shortcut = k.norm()(k.conv(6, 1, strides=2, padding="same", activation=None)(x))
    y = k.separable(6, 3, padding="same")(k.separable(6, 3, padding="same")(x))
    return layers.Add()([shortcut, k.max(3, strides=2, padding="same")(y)])


def bottlenecks(k, x):
    """ResNet: two blocks that stride in the first convolution, each with its shortcut."""
    for filters in (5, 6):
        shortcut = k.conv(filters, 1, strides=2, activation=None)(x)
        y = k.conv(filters, 3, padding="same")(k.conv(4, 1, strides=2)(x))
        x = layers.ReLU()(layers.Add()([shortcut, y]))
    return x


def excited(k, x):
    """A context on the last map, behind every stride."""
    x = k.max(2)(k.conv(6, 3, padding="same")(x))
    y = k.conv(3, 1)(k.gap(keepdims=True)(x))
    return layers.Multiply()([x, k.conv(6, 1, activation="sigmoid")(y)])


def network(trunk, *, pooled=True, window=(22, 19)):
    k = nets.Kit()
    x = k.input(window)
    y = trunk(k, x)
    return nets.prepare(keras.Model(x, layers.Dense(4)(k.gap()(y)) if pooled else head(k, y), name=trunk.__name__))


@numerical
@pytest.mark.parametrize("trunk", some(dense_block, inverted_residual, separable_residual, bottlenecks, excited, jax=2))
def test_blocks_of_well_known_networks(trunk, tally):
    tally(on_shifted_images(network(trunk), 1))


# ---------------------------------------------------------------------------------------------------------- contexts


def gated(window=(23, 21)):
    """A context in front of the last stride: a map of stride 2, gated, then a pooling of stride 2."""
    x = keras.Input((*window, 3))
    y = layers.Conv2D(5, 3, strides=2, activation="relu", name="conv")(x)
    vector = layers.Dense(5, "sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.MaxPooling2D(2)(layers.Multiply()([y, vector]))
    return nets.prepare(keras.Model(x, layers.Dense(3, name="logits")(layers.Flatten()(y))))


def around(values, size, apart):
    """The mean of the `size` positions around each, means being `apart`, along the first axis (contract, section 3)."""
    means = np.stack([values[i : i + size].mean(0) for i in range(0, len(values) - size + 1, apart)])
    cells = (np.arange(len(values)) - (size - apart) // 2) // apart
    return means[np.clip(cells, 0, len(means) - 1)]


def by_hand(model, image, apart):
    """The cells of `gated`, so many positions of its first map apart, in NumPy from its weights and from that map."""
    conv, gate, logits = (model.get_layer(name) for name in ("conv", "gate", "logits"))
    first = nets.run(conv, image[None])[0]
    tall, wide = conv.output.shape[1:3]
    vectors = around(around(first, tall, apart).swapaxes(0, 1), wide, apart).swapaxes(0, 1)
    kernel, bias = gate.get_weights()
    values = first / (1 + np.exp(-(vectors @ kernel + bias)))
    places = [range(0, n - m + 1, apart) for n, m in zip(first.shape, (tall, wide), strict=False)]
    cut = np.array([[values[y : y + tall // 2 * 2, x : x + wide // 2 * 2] for x in places[1]] for y in places[0]])
    pooled = cut.reshape(*cut.shape[:2], tall // 2, 2, wide // 2, 2, -1).max((3, 5))
    kernel, bias = logits.get_weights()
    return pooled.reshape(*cut.shape[:2], -1) @ kernel + bias


@numerical
@pytest.mark.parametrize("stride", some(2, 1, 4))
def test_contexts_are_pooled_around_the_denser_cells(stride, tally):
    """At a stride of 1 the first map is that of two shifted images, each pooled by itself.

    The last cells are left out there: what they pool ends where the image does.
    """
    model = gated()
    fcn = fullyconv.convert(model, stride=stride)
    nets.check_native(model, fcn)
    image = nets.images((40, 37), 3, 1, 911)[0]
    have, shifts, end = fcn.predict(image[None])[0], *((2, -5) if stride == 1 else (1, None))
    for y, x in np.ndindex(shifts, shifts):
        want = by_hand(model, image[y:, x:], max(1, stride // 2))[:end, :end]
        assert want[..., 0].size > 4
        found = have[y::shifts, x::shifts][: want.shape[0], : want.shape[1]]
        nets.equal(want, found, float(np.ptp(want, axis=(0, 1)).max()))
    tally(have[..., 0].size)


# ------------------------------------------------------------------------------------------------- batches and files


@numerical
@pytest.mark.parametrize("trunk", some(excited, bottlenecks))
def test_images_of_a_batch_do_not_mix_in_the_engine(trunk, tally):
    fcn = fullyconv.convert(network(trunk, pooled=False), stride=1)
    batch = nets.images((27, 24), 3, 3, 912)
    together, alone = fcn.predict(batch), np.concatenate([fcn.predict(image[None]) for image in batch])
    assert np.abs(alone[0] - alone[1]).max() >= 0.1 * np.abs(alone).max(), "the images hardly differ"
    nets.equal_maps(alone, together, alone)
    tally(together[..., 0].size)


def test_a_file_opens_without_this_package(tmp_path):
    fcn = fullyconv.convert(network(excited), stride=1)
    image = nets.images((27, 24), 3, 2, 913)
    fcn.save(tmp_path / "net.keras")
    np.save(tmp_path / "given.npy", image)
    names = [str(tmp_path / name) for name in ("net.keras", "given.npy", "found.npy")]
    subprocess.run([sys.executable, "-c", OPEN, *names], check=True)
    want = nets.run(fcn.model, image)
    # in the other process Keras's own OpenVINO backend may compute in bfloat16
    np.testing.assert_allclose(np.load(names[2]), want, atol=2e-2 * np.abs(want).max())


# -------------------------------------------------------------------------------------------------- what is refused


def test_an_upsampling_of_a_denser_map_is_refused_by_name():
    x = keras.Input((24, 24, 3))
    early = layers.Conv2D(4, 3, strides=2, padding="same", name="early")(x)
    late = layers.UpSampling2D(2, name="up")(layers.MaxPooling2D(2, name="late")(early))
    y = layers.MaxPooling2D(2, name="down")(layers.Concatenate(name="skip")([early, late]))
    model = keras.Model(x, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D(name="pool")(y)), name="net")
    assert refusal(model, stride=2) == (
        "1 of the 8 layers of 'net' cannot be made convolutional.\n"
        "  'up' (UpSampling2D, layer 3) enlarges a map that was made denser.\n"
        "    Leave stride out.\n"
        "  To convert the part before it:  fullyconv.convert(model, until='late')"
    )


def test_strides_that_leave_the_cells_of_an_upsampling_between_pixels_are_refused_by_name():
    parts = [layers.UpSampling2D(2, name="up"), layers.Conv2D(4, 3, strides=3, name="down"), layers.Flatten(name="row")]
    model = keras.Sequential([keras.Input((12, 12, 3)), *parts, layers.Dense(2, name="logits")], name="net")
    assert refusal(model, stride=1) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'down' (Conv2D, layer 2) strides over cells that an upsampling made, and has no denser ones.\n"
        "    Leave stride out.\n"
        "  To convert the part before it:  fullyconv.convert(model, until='up')"
    )


# ---------------------------------------------------------------------------------------------------- random networks


@numerical
@settings(SETTINGS, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(strategies.specs(padded=True), st.data())
def test_random_networks_that_pad(spec, data):
    """Each cell is that of the plain network on the shifted image, at any stride below its own."""
    spec = dataclasses.replace(spec, heads=spec.heads[:1])
    with passing_over_dull_nets():
        model = prepared(spec)
        assume(nets.BACKEND != "torch" or not _even_averages(model))  # nets.UNEVEN_AVERAGE
        own = fullyconv.plan(model).grids.stride
        wanted = [data.draw(st.sampled_from([k for k in range(1, s + 1) if s % k == 0]), label="stride") for s in own]
        assume(tuple(wanted) != tuple(own))
        on_shifted_images(model, tuple(wanted), spec.data_format)
