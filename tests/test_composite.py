"""Layers that call layers of their own, written as users write them, and models of them inside models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import fullyconv
import nets

SIZE = 32


@keras.saving.register_keras_serializable("tests")
class Gate(layers.Layer):
    """Squeeze-and-excite."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.pool = layers.GlobalAveragePooling2D(keepdims=True)
        self.reduce = layers.Dense(channels // 2, "relu")
        self.expand = layers.Dense(channels, "sigmoid")

    def call(self, x):
        return x * self.expand(self.reduce(self.pool(x)))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A residual block, with a dropout that it uses in training, and a gate or none."""

    def __init__(self, channels, gated=False, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.gated = channels, gated
        self.convolutions = [
            layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False),
            layers.Conv2D(channels, 3, padding="same"),
        ]
        self.norm = layers.BatchNormalization()
        self.gate = Gate(channels) if gated else None
        self.shortcut = layers.Conv2D(channels, 1, strides=2)
        self.dropout = layers.Dropout(0.3)

    def build(self, shape):
        self.call(keras.KerasTensor(shape))

    def call(self, x, training=None):
        y = ops.relu(self.norm(self.convolutions[0](x), training=training))
        y = self.convolutions[1](y)
        if self.gate is not None:
            y = self.gate(y)
        if training:
            y = self.dropout(y, training=True)
        return ops.relu(y + self.shortcut(x))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "gated": self.gated}


class Trunk(keras.Model):
    """A model whose `call` is Python."""

    def __init__(self):
        super().__init__(name="trunk")
        self.blocks = [Block(6, name="low"), Block(8, name="high")]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def classifier(*, gated=False, head=None):
    """A classifier of two blocks, the second gated or not."""
    keras.utils.set_random_seed(0)
    x = keras.Input((SIZE, SIZE, 3))
    y = Block(8, gated=gated, name="second")(Block(6, name="first")(x))
    y = layers.Dense(4, name="answer")((head or layers.GlobalAveragePooling2D)()(y))
    return nets.prepare(keras.Model(x, y, name="blocks"))


@pytest.mark.numerical
@pytest.mark.parametrize("head", [layers.GlobalAveragePooling2D, layers.Flatten])
@pytest.mark.parametrize("gated", [False, True])
def test_blocks_are_converted_layer_by_layer(gated, head, tally):
    model = classifier(gated=gated, head=head)
    fcn = fullyconv.convert(model)
    assert fcn.exactness == ("approximate" if gated else "native")
    nets.check_native(model, fcn)
    tally(nets.check_sizes(model, fcn))


@pytest.mark.numerical
def test_a_subclassed_model_inside():
    keras.utils.set_random_seed(0)
    x = keras.Input((SIZE, SIZE, 3))
    y = layers.Dense(4)(layers.GlobalMaxPooling2D()(Trunk()(x)))
    model = nets.prepare(keras.Model(x, y))
    nets.check_native(model, fullyconv.convert(model))


@pytest.mark.numerical
def test_denser():
    model = classifier()
    nets.check_native(model, fullyconv.convert(model, stride=2))


def test_the_result_is_plain_keras(tmp_path):
    """It loads without the classes of the blocks, whose code it no longer needs."""
    fcn = fullyconv.convert(classifier(gated=True))
    assert {type(layer).__module__.split(".")[0] for layer in fcn.model.layers} == {"keras"}
    fcn.save(tmp_path / "fcn.keras")
    image = nets.images((45, 40), 3)
    with keras.saving.custom_object_scope({}):
        loaded = keras.models.load_model(tmp_path / "fcn.keras")
    np.testing.assert_array_equal(nets.run(loaded, image), nets.run(fcn.model, image))


def test_the_source_is_traced_once():
    """Each layer in a block has then been called once more, on symbols; its weights are what they were."""
    model = classifier()
    weights = [np.array(ops.convert_to_numpy(w)) for w in model.weights]
    fullyconv.plan(model)
    inner = [x for x in model._flatten_layers(include_self=False) if x not in model.layers]
    calls = [len(x._inbound_nodes) for x in inner]
    fullyconv.convert(model)
    fullyconv.geometry(model)
    assert [len(x._inbound_nodes) for x in inner] == calls
    for before, now in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(now))


def test_a_rule_of_the_users_comes_first():
    """A table entry for the class of a block keeps it whole, to whatever the rule says."""
    seen = []

    def left_out(layer, x, **_):
        seen.append(layer.name)
        return x

    x = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(x, layers.Dense(4)(layers.Flatten()(Gate(3, name="gate")(x))))
    fcn = fullyconv.convert(model, rules={Gate: left_out})
    assert seen
    assert [type(layer).__name__ for layer in fcn.model.layers] == ["InputLayer", "Conv2D"]


def test_until_a_block():
    model = classifier()
    fcn = fullyconv.convert(model, until="first")
    block = model.get_layer("first")
    image = nets.images((SIZE, SIZE), 3)
    want = nets.run(keras.Model(model.input, block.output), image)
    nets.equal_maps(want, nets.run(fcn.model, image), want)


class Pooled(layers.Layer):
    """A layer that counts on the size it is called on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reduce = layers.Dense(3)

    def call(self, x):
        return self.reduce(ops.reshape(x, (-1, x.shape[1] // 4, 4, x.shape[2] * x.shape[3])))


def used_twice(shared):
    """A layer called on two sizes."""
    x = keras.Input((SIZE, SIZE, 3))
    y = shared(layers.Conv2D(3, 3, padding="same")(shared(x)))
    return keras.Model(x, layers.Dense(4)(layers.Flatten()(y)))


@pytest.mark.numerical
def test_a_block_used_at_two_sizes():
    model = nets.prepare(used_twice(Block(3)))
    nets.check_native(model, fullyconv.convert(model))


def test_a_block_that_counts_on_a_size_used_at_two():
    x = keras.Input((SIZE, SIZE, 3))
    shared = Pooled(name="pooled")
    y = keras.layers.Concatenate()([layers.Flatten()(shared(t)) for t in (x, layers.AveragePooling2D((2, 1))(x))])
    with pytest.raises(fullyconv.UnsupportedLayerError, match="cannot be read as a graph"):
        fullyconv.plan(keras.Model(x, layers.Dense(4)(y)))


class Swish(layers.Layer):
    """A layer of operations only."""

    def call(self, x):
        return x * ops.sigmoid(x)


@pytest.mark.numerical
def test_a_layer_of_operations():
    x = keras.Input((SIZE, SIZE, 3))
    y = Swish()(layers.Dense(6)(layers.Flatten()(Swish()(layers.Conv2D(4, 5, strides=3)(x)))))
    model = nets.prepare(keras.Model(x, layers.Dense(4)(y)))
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "exact"
    nets.check_native(model, fcn)


class Twofold(keras.Sequential):
    """A Sequential model that does more than its layers."""

    def call(self, x, training=None):
        return super().call(x) * 2.0


class Raised(keras.Model):
    """A Functional model that does more than its graph."""

    def call(self, x):
        return super().call(x) + 1.0


def raised():
    inside = keras.Input((SIZE, SIZE, 3))
    return Raised(inside, layers.Conv2D(3, 3)(inside))


@pytest.mark.numerical
@pytest.mark.parametrize("build", [lambda: Twofold([layers.Conv2D(3, 3), layers.ReLU()]), raised])
def test_models_with_a_call_of_their_own(build):
    x = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(x, layers.Dense(4)(layers.Flatten()(build()(x))))
    nets.check_native(model, fullyconv.convert(model))


class Flattening(layers.Layer):
    """A layer that asks for the batch's size."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mix = layers.Conv2D(3, 3)

    def call(self, x):
        x = self.mix(x)
        batch, *sizes = ops.shape(x)
        return ops.reshape(x, (batch, int(np.prod(sizes))))


@pytest.mark.numerical
def test_a_batch_size_that_is_asked_for():
    x = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(x, layers.Dense(4)(Flattening()(x)))
    assert fullyconv.cost(model).parameters == model.count_params()
    nets.check_native(model, fullyconv.convert(model))


class Scaling(layers.Layer):
    """A layer with a setting of its call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mix = layers.Conv2D(3, 1)

    def call(self, x, factor=1.0):
        return self.mix(x) * factor


@pytest.mark.numerical
def test_a_setting_of_the_call():
    x = keras.Input((SIZE, SIZE, 3))
    model = nets.prepare(keras.Model(x, layers.Dense(4)(layers.Flatten()(Scaling()(x, factor=3.0)))))
    nets.check_native(model, fullyconv.convert(model))


def test_different_settings_of_one_layer():
    shared, x = Scaling(name="shared"), keras.Input((SIZE, SIZE, 3))
    y = shared(x, factor=2.0)
    model = keras.Model(x, layers.Dense(4)(layers.Flatten()(y)))
    assert fullyconv.plan(model).exactness == "exact"
    other = keras.Model(x, layers.Dense(4)(layers.Flatten()(shared(y, factor=3.0))))
    with pytest.raises(fullyconv.UnsupportedLayerError, match="is called with different settings in different places"):
        fullyconv.plan(other)


class AlwaysTraining(layers.Layer):
    """A layer whose normalisation never uses what it has learnt."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(x, training=True)


def test_a_layer_that_always_trains():
    x = keras.Input((SIZE, SIZE, 3))
    with pytest.raises(fullyconv.UnsupportedLayerError, match="calls its layer 'norm' with training=True"):
        fullyconv.plan(keras.Model(x, layers.Dense(4)(layers.Flatten()(AlwaysTraining()(x)))))


class Images(layers.Layer):
    """A layer that calls one that works on images, which acts as in training unless it is told."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def test_layers_on_images_inside_a_layer():
    """They were told nothing: a resizing is refused by its own name, and not for training."""
    x = keras.Input((SIZE, SIZE, 3))
    y = Images(layers.Resizing(6, 6, name="resizing"), name="images")(layers.Conv2D(3, 3)(x))
    with pytest.raises(fullyconv.UnsupportedLayerError, match=r"'resizing' \(Resizing, layer 2\) pins the size"):
        fullyconv.plan(keras.Model(x, layers.Dense(4)(layers.Flatten()(y))))


def test_names_tell_blocks_apart():
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), Block(4, name="a"), Block(4, name="b"), layers.Flatten()])
    for block in model.layers[:2]:
        block.shortcut.name = "shortcut"
    names = [step.name for step in fullyconv.plan(model).steps]
    assert len(names) == len(set(names))
    assert {"shortcut", "b_shortcut"} <= set(names)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5"])
def test_weight_files(ending, tmp_path):
    model, other = classifier(gated=True), keras.models.clone_model(classifier(gated=True))
    path = tmp_path / f"weights{ending}"
    (model.save_weights if "weights." in ending else model.save)(path)
    fcn = fullyconv.convert_weights(other, path, tmp_path / "fcn.keras")
    image = nets.images((45, 40), 3)
    np.testing.assert_array_equal(nets.run(fcn.model, image), nets.run(fullyconv.convert(model).model, image))


@keras.saving.register_keras_serializable("tests")
class Pyramid(layers.Layer):
    """A layer that keeps its layers in lists of lists, and in a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.levels = [[layers.Conv2D(3, 1), layers.Conv2D(3, 1)], [layers.Conv2D(3, 1)]]
        self.named = {"last": layers.Conv2D(3, 1)}

    def build(self, shape):
        self.call(keras.KerasTensor(shape))

    def call(self, x):
        for layer in (*self.levels[0], *self.levels[1], self.named["last"]):
            x = layer(x)
        return x


def test_weight_files_of_layers_in_containers(tmp_path):
    def build(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((8, 8, 3)), Pyramid(), layers.Flatten(), layers.Dense(2)])

    model = build(0)
    model.save_weights(tmp_path / "net.weights.h5")
    fcn = fullyconv.convert_weights(build(1), tmp_path / "net.weights.h5", tmp_path / "fcn.keras")
    image = nets.images((9, 8), 3)
    np.testing.assert_array_equal(nets.run(fcn.model, image), nets.run(fullyconv.convert(model).model, image))


def test_round_trip():
    model = classifier(gated=True)
    fcn = fullyconv.convert(model)
    for w in fcn.model.trainable_weights:
        w.assign(ops.convert_to_numpy(w) * np.float32(1.1))
    back = fullyconv.to_classifier(fcn, like=model)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in model.layers]
    image = nets.images((SIZE, SIZE), 3)
    want = nets.run(fcn.model, image).reshape(1, 4)
    assert np.abs(nets.run(back, image) - want).max() <= 1e-6 * np.abs(want).max()


def test_round_trip_of_classes_that_are_not_registered():
    inside = keras.Input((SIZE, SIZE, 3))
    x = keras.Input((SIZE, SIZE, 3))
    y = keras.Model(inside, Swish()(layers.Conv2D(4, 5)(inside)), name="inner")(x)
    model = keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling2D()(y)))
    back = fullyconv.to_classifier(fullyconv.convert(model), like=model)
    image = nets.images((SIZE, SIZE), 3)
    np.testing.assert_allclose(nets.run(back, image), nets.run(model, image), rtol=1e-5, atol=1e-6)


def test_geometry_looks_inside():
    geometry = fullyconv.geometry(classifier())
    first = next(layer for layer in geometry.layers if layer.kind == "Conv2D")
    assert (first.stride, first.field_size) == ((2, 2), (3, 3))
