"""Fine-tuned and brought back: the grid of a file that stock Keras wrote, and the classifier again."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from typer.testing import CliRunner

import fullyconv
import nets
from fullyconv.cli import app

# A process without this package: one step of training on an image larger than the window, saved by Keras.
TRAIN = """
import sys
sys.modules["fullyconv"] = sys.modules["tensorflow"] = None
import keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.saving.load_model(sys.argv[1])
x = np.random.default_rng(0).normal(size=(2, 31, 27, 3)).astype("float32")
model.compile(keras.optimizers.SGD(0.01), "mse")
model.fit(x, np.zeros((2, *map(int, sys.argv[3:]), 5), "float32"), epochs=1, verbose=0)
model.save(sys.argv[2])
"""


@functools.cache
def source(trunk: str, **kwargs) -> keras.Model:
    """A prepared classifier, made once and never changed."""
    return nets.classifier(trunk, **kwargs)


def tuned(fcn: fullyconv.FullyConv, seed: int = 1) -> fullyconv.FullyConv:
    """The network with every weight changed, as training would."""
    rng = np.random.default_rng(seed)
    for w in fcn.model.weights:
        w.assign(keras.ops.convert_to_numpy(w) * rng.uniform(0.8, 1.25, w.shape).astype("float32"))
    return fcn


def resaved(fcn: fullyconv.FullyConv, folder: Path) -> fullyconv.FullyConv:
    """The network as Keras saves it, which knows nothing of where it came from."""
    fcn.model.save(folder / "resaved.keras")
    return fullyconv.load(folder / "resaved.keras", window=fcn.window)


def check_back(classifier: keras.Model, fcn: fullyconv.FullyConv, data_format: str = "channels_last") -> None:
    """The classifier equals the network at its window, to 1e-6, in each output."""
    x = nets.inputs_for(classifier, 2, 3, data_format)
    want, have = nets.run(fcn.model, x), nets.run(classifier, x)
    keras.tree.assert_same_structure(want, have)
    for a, b in zip(keras.tree.flatten(want), keras.tree.flatten(have), strict=True):
        a = a.reshape(2, -1)
        assert a.shape == b.reshape(2, -1).shape
        assert np.abs(a[0] - a[1]).max() >= 0.05 * np.abs(a).max(), "two images hardly differ"
        assert np.abs(a - b.reshape(2, -1)).max() <= 1e-6 * np.abs(a).max()


def described(model: keras.Model) -> list:
    """Class, name and settings of each layer."""
    return [(type(layer), layer.get_config()) for layer in model.layers]


@functools.cache
def padded() -> keras.Model:
    """A small classifier whose padding is frozen."""
    keras.utils.set_random_seed(8)
    stack = [layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), layers.Flatten(), layers.Dense(5)]
    return nets.prepare(keras.Sequential([keras.Input((17, 14, 3)), *stack]))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_trained_and_saved_by_keras(backend, tmp_path):
    """The grid is recovered from the graph alone, and the classifier with the weights that training left."""
    if nets.BACKEND not in ("openvino", backend):
        pytest.skip("the run on OpenVINO trains on both backends, every other run on its own")
    model = padded()
    fcn = fullyconv.convert(model)
    fcn.save(tmp_path / "fcn.keras")
    paths = [str(tmp_path / name) for name in ("fcn.keras", "tuned.keras")]
    command = [sys.executable, "-c", TRAIN, *paths, *map(str, fcn.grid.cells((31, 27)))]
    env = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    loaded = fullyconv.load(tmp_path / "tuned.keras", window=fcn.window)
    assert (loaded.grid.axes, loaded.grid.exactness) == (fcn.grid.axes, fcn.grid.exactness)
    moved = [np.abs(a - b).max() for a, b in zip(loaded.model.get_weights(), fcn.model.get_weights(), strict=True)]
    assert min(moved) > 0, "training changed nothing"
    for classifier in (fullyconv.to_classifier(loaded), fullyconv.to_classifier(loaded, like=model)):
        check_back(classifier, loaded)
        nets.check_native(classifier, loaded)
    assert described(classifier) == described(model)


@pytest.mark.numerical
@pytest.mark.parametrize("data_format", nets.FORMATS)
@pytest.mark.parametrize("head", ["flatten", "average", "max"])
def test_from_the_graph_alone(head, data_format, tmp_path):
    if nets.cannot_run(data_format):
        pytest.skip(nets.NO_CHANNELS_FIRST)
    model = source("valid", head=head, data_format=data_format)
    fcn = resaved(tuned(fullyconv.convert(model)), tmp_path)
    classifier = fullyconv.to_classifier(fcn)
    check_back(classifier, fcn, data_format)
    assert classifier.output_shape == model.output_shape
    dense = [layer.name for layer in model.layers if isinstance(layer, layers.Dense)]
    assert [layer.name for layer in classifier.layers if isinstance(layer, layers.Dense)] == dense
    kinds = {type(layer) for layer in classifier.layers}
    assert type(model.layers[-3]) in kinds, "the Flatten or the global pooling is not back"
    convolutions = [sum(isinstance(x, layers.Conv2D) for x in m.layers) for m in (model, classifier)]
    assert convolutions[0] == convolutions[1]


@pytest.mark.parametrize(
    "options", [{}, {"pool": "drop"}, {"pool": "global"}, {"context": "global"}, {"stride": 1}], ids=str
)
def test_the_source_comes_back_whatever_the_options(options, tmp_path):
    model = source("excite", head="average")
    fcn = tuned(fullyconv.convert(model, **options))
    back = fullyconv.to_classifier(fcn)
    assert described(back) == described(model)
    for a, b in zip(fullyconv.convert(back, **options).model.weights, fcn.model.weights, strict=True):
        assert (keras.ops.convert_to_numpy(a) == keras.ops.convert_to_numpy(b)).all()
    assert not {id(v) for v in back.variables} & {id(v) for v in (*model.variables, *fcn.model.variables)}
    fcn.save(tmp_path / "fcn.keras")
    again = fullyconv.to_classifier(fullyconv.load(tmp_path / "fcn.keras"), like=model)
    for a, b in zip(back.get_weights(), again.get_weights(), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("context", ["window", "global"])
def test_a_context_from_the_graph_alone(context, tmp_path):
    fcn = tuned(fullyconv.convert(source("excite", head="average"), context=context))
    fcn = resaved(fcn, tmp_path)
    back = fullyconv.to_classifier(fcn)
    check_back(back, fcn)
    kinds = [type(layer) for layer in back.layers]
    assert (kinds.count(layers.Conv2D), kinds.count(layers.Dense)) == (3, 2), "the context's layers are no head"


def heads() -> keras.Model:
    """Outputs of several kinds, a vector beside the image, heads at two depths, and every kind of layer in a head."""
    keras.utils.set_random_seed(8)
    k = nets.Kit(2)
    image, facts = k.input(), keras.Input((4,), name="facts")
    x = k.conv(6, 3, name="conv")(image)
    pooled = k.gap(name="gap")(x)
    flat = k.flatten()(k.max(3, name="pool")(x))
    y = layers.Dense(8, "relu", use_bias=False, kernel_constraint=keras.constraints.MaxNorm(3.0, axis=0), name="fc1")(
        flat
    )
    y = layers.LayerNormalization(name="ln")(layers.BatchNormalization(name="bn")(layers.PReLU(name="prelu")(y)))
    y = layers.Concatenate(name="join")([y, pooled, facts])
    y = keras.ops.silu(layers.Dropout(0.3, name="drop")(y)) * 0.5
    outputs = {
        "kind": layers.Dense(5, "softmax", name="kind")(y),
        "size": layers.Dense(2, name="size")(pooled),
        "raw": layers.Rescaling(2.0, name="scale")(layers.Dense(3, kernel_regularizer="l2", name="raw")(y)),
    }
    return nets.prepare(keras.Model([image, facts], outputs, name="heads"))


@pytest.mark.parametrize("way", ["the source", "the graph alone"])
def test_several_outputs(way, tmp_path):
    model = heads()
    fcn = tuned(fullyconv.convert(model))
    fcn = resaved(fcn, tmp_path) if way == "the graph alone" else fcn
    back = fullyconv.to_classifier(fcn)
    check_back(back, fcn)
    assert back.output_shape == model.output_shape
    for name in ("fc1", "kind", "raw", "bn", "ln", "prelu", "drop", "gap"):
        want, have = (m.get_layer(name) for m in (model, back))
        assert type(want) is type(have)
        assert [w.shape for w in want.weights] == [w.shape for w in have.weights]
    fc1 = back.get_layer("fc1")
    assert fc1.kernel_constraint.get_config() == {"max_value": 3.0, "axis": 0}
    assert isinstance(back.get_layer("raw").kernel_regularizer, keras.regularizers.L2)


def test_volumes(tmp_path):
    keras.utils.set_random_seed(8)
    stack = [layers.Conv3D(2, 3, strides=2, activation="relu"), layers.Flatten(), layers.Dense(5)]
    fcn = resaved(fullyconv.convert(keras.Sequential([keras.Input((7, 6, 5, 1)), *stack])), tmp_path)
    check_back(fullyconv.to_classifier(fcn), fcn)


def test_weights_that_moved_in_other_ways(tmp_path):
    """Rows in another order, parameters for each position, groups, LoRA: all return to where they came from."""
    keras.utils.set_random_seed(8)
    stack = [
        layers.Conv2D(4, 3, strides=2, activation="relu"),
        layers.Permute((3, 1, 2)),
        layers.Flatten(data_format="channels_last"),
        layers.BatchNormalization(),
        layers.Dense(8, "relu"),
        layers.GroupNormalization(2),
        layers.Dense(5),
    ]
    model = nets.prepare(keras.Sequential([keras.Input((11, 9, 3)), *stack]))
    model.layers[-1].enable_lora(2)
    model.layers[-1].lora_kernel_b.assign(np.full((2, 5), 0.1))
    fcn = tuned(fullyconv.convert(model))
    back = fullyconv.to_classifier(fcn)
    check_back(back, fcn)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in model.layers]
    fcn = resaved(fcn, tmp_path)
    check_back(fullyconv.to_classifier(fcn), fcn)


def test_what_was_skipped_is_not_part_of_it(tmp_path):
    """Without `like` the classifier is that of the window; with it, the whole."""
    x = keras.Input((30, 30, 3))
    y = layers.Conv2D(4, 3, name="conv")(layers.Resizing(12, 12, name="resizing")(x))
    model = keras.Model(x, layers.Dense(5, name="fc")(layers.Flatten()(y)))
    fcn = fullyconv.convert(model, skip="resizing")
    assert fullyconv.to_classifier(fcn).input_shape == (None, 12, 12, 3)
    whole = fullyconv.to_classifier(tuned(fcn), like=model)
    assert described(whole) == described(model)
    want, have = whole.get_layer("conv").kernel, fcn.model.get_layer("conv").kernel
    assert (keras.ops.convert_to_numpy(want) == keras.ops.convert_to_numpy(have)).all()


def test_a_network_that_has_no_way_back_alone(tmp_path):
    model = source("valid", head="average")
    dropped = resaved(fullyconv.convert(model, pool="drop"), tmp_path)
    with pytest.raises(fullyconv.UnsupportedModelError) as caught:  # noqa: PT011
        fullyconv.to_classifier(dropped)
    cells, window = (" x ".join(map(str, size)) for size in (dropped.grid.cells(dropped.window), dropped.window))
    assert str(caught.value) == (
        f"'valid' has {cells} cells at its window, where a classifier has one answer.\n"
        f"Either the window {window} is larger than the classifier's, or the head's pooling was left out\n"
        "(pool='drop'), which the network does not say. Then give the classifier it was made from:\n"
        "fullyconv.to_classifier(fcn, like=classifier)."
    )
    denser = resaved(fullyconv.convert(model, stride=1), tmp_path)
    with pytest.raises(fullyconv.UnsupportedModelError) as caught:  # noqa: PT011
        fullyconv.to_classifier(denser)
    assert str(caught.value) == (
        "'valid' was converted with a stride of its own, and its graph is that of the denser map.\n"
        "Give the classifier it was made from: fullyconv.to_classifier(fcn, like=classifier)."
    )
    for fcn in (dropped, denser):
        assert described(fullyconv.to_classifier(fcn, like=model)) == described(model)


def test_a_network_of_another_classifier():
    keras.utils.set_random_seed(0)
    names = ("conv", "fc", "more")
    stack = lambda units: [layers.Conv2D(2, 3, name=names[0]), layers.Flatten(), layers.Dense(units, name=names[1])]  # noqa: E731
    model = keras.Sequential([keras.Input((5, 5, 1)), *stack(3)], name="mine")
    other = keras.Sequential([keras.Input((5, 5, 1)), *stack(4), layers.Dense(2, name=names[2])], name="other")
    with pytest.raises(fullyconv.WeightsError) as caught:  # noqa: PT011
        fullyconv.to_classifier(fullyconv.convert(model), like=other)
    assert str(caught.value) == (
        "'mine' is no conversion of 'other': they differ in 2 places.\n"
        "  more is missing in the network\n"
        "  fc: kernel (3, 3, 2, 3), bias (3,) in the network, kernel (3, 3, 2, 4), bias (4,) in its conversion\n"
        "Give the classifier that it was made from: fullyconv.to_classifier(fcn, like=classifier)."
    )


def small(**changes) -> keras.Model:
    """A classifier of which one thing can be another."""
    get = {"window": 11, "activation": "relu", "strides": 1, "pool": "Max", "end": None, "join": "Add"} | changes
    keras.utils.set_random_seed(3)
    x = keras.Input((get["window"],) * 2 + (3,), name="image")
    a = layers.Conv2D(4, 3, strides=get["strides"], activation=get["activation"], name="conv")(x)
    a = getattr(layers, f"{get['pool']}Pooling2D")(2, strides=1, name="pool")(a)
    b = layers.Conv2D(4, 1, name="side")(a)
    a = getattr(layers, get["join"])(name="join")([a, b] if "order" not in changes else [b, b])
    y = layers.Flatten(name="flat")(layers.GlobalAveragePooling2D(keepdims=True, name="gap")(a))
    return keras.Model(x, layers.Dense(5, activation=get["end"], name="fc")(y), name="small")


OTHERS = {
    "activation": ({"activation": "tanh"}, "conv: activation tanh in the network, relu in its conversion"),
    "softmax": ({"end": "softmax"}, "fc: activation softmax in the network, linear in its conversion"),
    "stride": ({"strides": 2}, "conv: strides [2, 2] in the network, [1, 1] in its conversion"),
    "pooling": ({"pool": "Average"}, "pool: AveragePooling2D in the network, MaxPooling2D in its conversion"),
    "window": ({"window": 12}, "gap: pool_size [9, 9] in the network, [8, 8] in its conversion"),
    "merge": ({"join": "Multiply"}, "join: Multiply in the network, Add in its conversion"),
    "connections": ({"order": 1}, "join: reads side, side in the network, pool, side in its conversion"),
}


@pytest.mark.parametrize("way", ["in this process", "saved by Keras"])
@pytest.mark.parametrize("what", OTHERS)
def test_a_classifier_of_the_same_weights_that_is_another(what, way, tmp_path):
    """Names and shapes agree in all of them; the answers do not."""
    changes, line = OTHERS[what]
    fcn = fullyconv.convert(small(**changes))
    fcn = resaved(fcn, tmp_path) if way == "saved by Keras" else fcn
    with pytest.raises(fullyconv.WeightsError, match="is no conversion of 'small'") as caught:
        fullyconv.to_classifier(fcn, like=small())
    assert f"  {line}" in str(caught.value).splitlines()
    assert described(fullyconv.to_classifier(fcn, like=small(**changes))) == described(small(**changes))


KEYS = {
    "channels": (lambda x: x[..., 0:2], lambda x: x[..., 1:3]),
    "one channel": (lambda x: ops.stack([x[..., 0]], axis=-1), lambda x: ops.stack([x[..., 1]], axis=-1)),
    "order": (
        lambda x: ops.stack([x[..., i] for i in (2, 1, 0)], axis=-1),
        lambda x: ops.stack([x[..., i] for i in (0, 1, 2)], axis=-1),
    ),
    "crop": (lambda x: x[:, 1:, 1:], lambda x: x[:, :-1, :-1]),
    "constant": (lambda x: x * 2.0, lambda x: x * 3.0),
    "dtype": (
        lambda x: ops.cast(ops.cast(x, "float16"), "float32"),
        lambda x: ops.cast(ops.cast(x, "int32"), "float32"),
    ),
}


@pytest.mark.parametrize("way", ["in this process", "saved by Keras"])
@pytest.mark.parametrize("what", KEYS)
def test_an_operation_that_reads_something_else(what, way, tmp_path):
    """Where it takes part of a tensor, or computes with a number."""

    def net(change):
        keras.utils.set_random_seed(0)
        x = keras.Input((8, 8, 3))
        y = layers.Flatten(name="flat")(layers.Conv2D(5, 3, name="conv")(change(x)))
        return keras.Model(x, layers.Dense(4, name="fc")(y), name="net")

    mine, other = map(net, KEYS[what])
    fcn = fullyconv.convert(mine)
    fcn = resaved(fcn, tmp_path) if way == "saved by Keras" else fcn
    with pytest.raises(fullyconv.WeightsError, match="is no conversion of 'net'"):
        fullyconv.to_classifier(fcn, like=other)
    assert fullyconv.to_classifier(fcn, like=mine).output_shape == (None, 4)


def test_options_that_keras_has_dropped_are_found_again(tmp_path):
    """Where a classifier converts with some of them only."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, padding="same", name="first")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(y)
    y = layers.Multiply(name="gate")([layers.Conv2D(4, 3, strides=2, padding="same", name="second")(y), gate])
    model = keras.Model(x, layers.Dense(3, name="fc")(layers.GlobalMaxPooling2D(name="max")(y)), name="net")
    with pytest.raises(fullyconv.UnsupportedLayerError, match=r"cannot be made to agree|merges cells"):
        fullyconv.plan(model)
    fcn = resaved(fullyconv.convert(model, pool="global", context="global"), tmp_path)
    assert described(fullyconv.to_classifier(fcn, like=model)) == described(model)
    x = keras.Input((30, 30, 3))
    y = layers.Conv2D(4, 3, name="conv")(layers.Resizing(12, 12, name="resizing")(x))
    model = keras.Model(x, layers.Dense(5, name="fc")(layers.Flatten(name="flat")(y)))
    fcn = resaved(fullyconv.convert(model, skip="resizing"), tmp_path)
    assert described(fullyconv.to_classifier(fcn, like=model)) == described(model)


class Shrink(layers.Layer):
    """Small values become zero; a layer of one's own that could be read, and is kept by a rule."""

    def call(self, x):
        """As said."""
        return ops.relu(x - 0.1) - ops.relu(-x - 0.1)


def kept_shrink(layer, x, *, site, **_):
    return x.then(site.layer(type(layer), layer.get_config(), x))


@pytest.mark.parametrize("way", ["in this process", "loaded"])
def test_a_layer_that_a_rule_of_ones_own_has_kept(way, tmp_path):
    keras.utils.set_random_seed(0)
    stack = [layers.Conv2D(4, 3, name="conv"), Shrink(name="shrink"), layers.Flatten(), layers.Dense(5, name="fc")]
    model = nets.prepare(keras.Sequential([keras.Input((9, 9, 3)), *stack], name="net"))
    rules = {Shrink: kept_shrink}
    fcn = fullyconv.convert(model, rules=rules)
    if way == "loaded":
        with pytest.warns(fullyconv.SavingWarning, match="does not keep your own rules, for Shrink"):
            fcn.save(tmp_path / "fcn.keras")
        fcn = fullyconv.load(tmp_path / "fcn.keras", rules=rules, custom_objects={"Shrink": Shrink})
    check_back(fullyconv.to_classifier(fcn, like=model), fcn)


def test_names_that_keras_gives_do_not_count(tmp_path):
    """In another process the same code gives layers without weights other numbers."""

    def build():
        keras.utils.set_random_seed(1)
        stack = [layers.Conv2D(4, 3, name="c1"), layers.MaxPooling2D(), layers.ReLU(), layers.Conv2D(4, 3, name="c2")]
        stack += [layers.MaxPooling2D(), layers.Dropout(0.1), layers.Flatten(), layers.Dense(5, name="fc")]
        return nets.prepare(keras.Sequential([keras.Input((20, 20, 3)), *stack], name="net"))

    fcn = resaved(fullyconv.convert(build()), tmp_path)
    again = build()
    assert [x.name for x in again.layers] != [x.name for x in fcn.model.layers]
    check_back(fullyconv.to_classifier(fcn, like=again), fcn)


def test_what_training_changes_does_not_count(tmp_path):
    model = source("valid")
    fcn = fullyconv.convert(model)
    for layer in fcn.model.layers:
        layer.trainable = not layer.weights
        if isinstance(layer, layers.Conv2D):
            layer.kernel_regularizer = keras.regularizers.L2(0.1)
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.9
    back = fullyconv.to_classifier(resaved(tuned(fcn), tmp_path), like=model)
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in model.layers]


def test_what_is_neither_a_network_nor_a_classifier(tmp_path):
    model = source("valid")
    fcn = fullyconv.convert(model)
    model.save(tmp_path / "net.keras")
    no_classifier = (
        "'valid' returns a map of any size, so it is no classifier.\n"
        "Give as `like` the classifier that the network was made from."
    )
    cases = [
        (model, None, "Expected a FullyConv, but received Functional.\nA network that Keras saved is read with "),
        (tmp_path / "net.keras", None, "Expected a FullyConv, but received PosixPath.\n"),
        (fcn, tmp_path / "net.keras", "Expected a keras.Model, but received a PosixPath.\nLoad it with keras.models"),
        (fcn, fcn, no_classifier),
        (fcn, fcn.model, no_classifier),
    ]
    for network, like, message in cases:
        with pytest.raises(fullyconv.UnsupportedModelError, match=re.escape(message)):
            fullyconv.to_classifier(network, like=like)


def test_a_part_of_a_classifier():
    model = source("valid")
    fcn = fullyconv.convert(model, until=model.layers[-2].name)
    check_back(fullyconv.to_classifier(fcn), fcn)
    with pytest.raises(fullyconv.UnsupportedModelError) as caught:  # noqa: PT011
        fullyconv.to_classifier(fcn, like=model)
    assert str(caught.value) == (
        f"'valid' was converted up to '{model.layers[-2].name}', so it is a part of 'valid'.\n"
        "Leave `like` out: what there is becomes a model for the window."
    )


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = padded()
    model.save("net.keras")
    fcn = tuned(fullyconv.convert(model))
    fcn.save("fcn.keras")
    fcn.model.save("resaved.keras")
    window = "x".join(map(str, fcn.window))
    for arguments in (["resaved.keras", "--window", window], ["fcn.keras", "--like", "net.keras"]):
        done = CliRunner().invoke(app, ["classifier", *arguments, "-o", "back.keras", "--overwrite"])
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[1].startswith("Wrote back.keras (")
        check_back(keras.models.load_model("back.keras", compile=False), fcn)
    done = CliRunner().invoke(app, ["classifier", "resaved.keras", "-o", "other.keras"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[1] == "Give the size it was trained on:  --window 224"
