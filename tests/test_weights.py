"""Weight files: converted with the classifier's code, and loaded into a network written by hand."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras.src.legacy.saving import legacy_h5_format
from typer.testing import CliRunner

import fullyconv
import nets
from fullyconv.cli import app
from fullyconv.leftovers import Leftovers
from fullyconv.weight_files import read_weight_file

SHAPE = (14, 10, 3)
FILES = ["net.weights.h5", "weights_only.h5", "whole_model.h5", "net.keras"]


def stack():
    """The layers of a classifier whose last map is 5 x 3."""
    return [
        keras.Input(SHAPE),
        layers.Conv2D(6, 3, activation="relu", name="conv1"),
        layers.MaxPooling2D(2, name="pool"),
        layers.BatchNormalization(name="norm"),
        layers.Conv2D(4, 2, activation="relu", name="conv2"),
        layers.Flatten(name="flat"),
        layers.Dense(8, activation="relu", name="fc1"),
        layers.Dropout(0.5, name="drop"),
        layers.Dense(5, name="fc2"),
    ]


@functools.cache
def trained() -> keras.Model:
    """The classifier whose weights are in the files; made once, and never changed."""
    keras.utils.set_random_seed(5)
    return nets.prepare(keras.Sequential(stack(), name="net"))


def untrained() -> keras.Model:
    return keras.Sequential(stack(), name="net")


def by_hand(kernel=(5, 3), padding="valid", size=(None, None), names=("fc1", "fc2"), **kwargs) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((*size, 3)),
            layers.Conv2D(6, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(4, 2, activation="relu", name="conv2"),
            layers.Conv2D(8, kernel, activation="relu", padding=padding, name=names[0], **kwargs),
            layers.Conv2D(5, 1, name=names[1]),
        ],
        name="by_hand",
    )


def save(model: keras.Model, path: Path) -> Path:
    """The model's weights, in the way that the file's name says."""
    if path.name == "weights_only.h5":
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    elif path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(w)) for w in model.weights]


def refused(model: keras.Model, *args, error=fullyconv.WeightsError, **kwargs) -> str:
    """What loading is refused with; nothing has changed then."""
    before = values(model)
    with pytest.raises(error, match=r".") as caught:
        fullyconv.load_dense_weights(model, *args, **kwargs)
    assert all((a == b).all() for a, b in zip(before, values(model), strict=True))
    return str(caught.value)


def same_answers(model: keras.Model, fcn: keras.Model, shape=SHAPE) -> None:
    x = nets.images(shape[:2], shape[2], 2)
    want, have = nets.run(model, x), nets.run(fcn, x)
    nets.equal(want, have.reshape(want.shape), float(np.abs(want[0] - want[1]).max()))


# -------------------------------------------------------------------------------------------------- convert_weights


@pytest.mark.parametrize("name", FILES)
def test_convert_from_a_file_of_each_kind(name, tmp_path):
    model = trained()
    path = save(model, tmp_path / name)
    code = untrained()
    before = values(code)
    fcn = fullyconv.convert_weights(code, path, tmp_path / "fcn.keras")
    nets.check_native(model, fcn)
    nets.check_native(model, fullyconv.load(tmp_path / "fcn.keras"))
    assert all((a == b).all() for a, b in zip(before, values(code), strict=True)), "the code's model was changed"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "fcn.keras"])


def test_the_classifier_is_a_file_and_the_result_a_weight_file(tmp_path):
    model = trained()
    save(model, tmp_path / "net.weights.h5")
    untrained().save(tmp_path / "code.keras")
    fullyconv.convert_weights(tmp_path / "code.keras", tmp_path / "net.weights.h5", tmp_path / "fcn.weights.h5")
    fcn = fullyconv.convert(untrained())
    fcn.model.load_weights(tmp_path / "fcn.weights.h5")
    nets.check_native(model, fcn)


def test_a_file_of_keras_2(tmp_path):
    """The attributes as TensorFlow's Keras wrote them, arrays named in the way of Keras 1 too, names split in two."""
    model = trained()
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names0"] = [layer.name.encode() for layer in model.layers[:4]]
        file.attrs["layer_names1"] = [layer.name.encode() for layer in model.layers[4:]]
        for layer in model.layers:
            old = {"kernel": f"{layer.name}_W_1:0", "bias": f"{layer.name}_b_1:0"} if layer.name == "fc1" else {}
            names = [old.get(w.name, f"{layer.name}/{w.name}:0") for w in layer.weights]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, w in zip(names, layer.weights, strict=True):
                group[name] = keras.ops.convert_to_numpy(w)
    nets.check_native(model, fullyconv.convert_weights(untrained(), tmp_path / "old.h5", tmp_path / "fcn.keras"))
    fcn = by_hand()
    fullyconv.load_dense_weights(fcn, tmp_path / "old.h5", window=SHAPE[:2])
    same_answers(model, fcn)


def nested(names=("left", "right")) -> keras.Model:
    """Two layers of one shape inside an inner model, and branches."""
    inner = keras.Sequential(
        [keras.Input((12, 8, 6)), *(layers.Conv2D(6, 3, padding="same", name=n) for n in names)], name="inner"
    )
    x = keras.Input(SHAPE, name="image")
    y = inner(layers.Conv2D(6, 3, name="stem")(x))
    return keras.Model(x, layers.Dense(5, name="fc")(layers.GlobalAveragePooling2D(name="gap")(y)), name="nested")


@pytest.mark.parametrize("name", FILES)
def test_layers_in_inner_models(name, tmp_path):
    model = nets.prepare(nested())
    path = save(model, tmp_path / name)
    nets.check_native(model, fullyconv.convert_weights(nested(), path, tmp_path / "fcn.keras"))
    assert {w.layer for w in read_weight_file(path).weights} == {"stem", "left", "right", "fc"}


def test_layers_of_one_shape_in_another_order(tmp_path):
    """Keras loads them, in the file's order: the two kernels change places without a word."""
    for name in ("net.weights.h5", "weights_only.h5"):
        path = save(nested(), tmp_path / name)
        with pytest.raises(fullyconv.WeightsError, match="in another order") as caught:
            fullyconv.convert_weights(nested(("right", "left")), path, tmp_path / "fcn.keras")
        assert str(caught.value) == (
            f"'{path}' has the layers of 'nested' in another order.\n"
            "  'left' in the file, where the model has 'right'\n"
            "  'right' in the file, where the model has 'left'\n"
            "Their shapes agree, their names do not. Build the layers in the file's order: nothing was loaded."
        )
    assert not (tmp_path / "fcn.keras").exists()


def flat(names) -> keras.Model:
    convolutions = [layers.Conv2D(3, 3, padding="same", name=n) for n in names]
    return keras.Sequential([keras.Input(SHAPE), *convolutions, layers.Flatten(), layers.Dense(5, name="fc")], name="f")


def test_the_same_names_in_another_order_in_a_file_of_keras_2(tmp_path):
    """Names decide there, which Keras can load by."""
    model = nets.prepare(flat(("b", "a")))
    fcn = fullyconv.convert_weights(flat(("a", "b")), save(model, tmp_path / "weights_only.h5"), tmp_path / "f.keras")
    for name in "ab":
        want, have = model.get_layer(name).kernel, fcn.model.get_layer(name).kernel
        assert (keras.ops.convert_to_numpy(want) == keras.ops.convert_to_numpy(have)).all()


def test_names_that_keras_gives_may_differ(tmp_path):
    for name in ("net.weights.h5", "weights_only.h5"):
        model = nets.prepare(flat(("conv2d_1", "conv2d_2")))
        path = save(model, tmp_path / name)
        nets.check_native(model, fullyconv.convert_weights(flat(("conv2d", "conv2d_1")), path, tmp_path / "f.keras"))


@pytest.mark.parametrize("name", FILES[:2])
def test_a_file_of_another_classifier(name, tmp_path):
    path = save(trained(), tmp_path / name)
    code = keras.Sequential([*stack()[:-3], layers.Dense(7, name="fc1"), layers.Dense(5, name="fc2")], name="net")
    with pytest.raises(fullyconv.WeightsError, match="does not fit") as caught:
        fullyconv.convert_weights(code, path, tmp_path / "fcn.keras")
    assert str(caught.value) == (
        f"'{path}' does not fit 'net': 2 of 5 layers differ.\n"
        "  fc1: kernel (60, 8), bias (8,) in the file, kernel (60, 7), bias (7,) in the model\n"
        "  fc2: kernel (8, 5), bias (5,) in the file, kernel (7, 5), bias (5,) in the model\n"
        "Give the weights of this classifier, or the code it was trained with: nothing was loaded."
    )


def test_an_array_of_another_name(tmp_path):
    """A file of Keras 2 names its arrays: one of the same shape is not the same one."""
    shape = (4, 4, 2)
    stack = [layers.Conv2D(2, 3, name="c"), layers.GlobalAveragePooling2D()]
    norm = lambda **kwargs: [keras.Input(shape), layers.BatchNormalization(name="n", **kwargs), *stack]  # noqa: E731
    path = save(keras.Sequential(norm(scale=False), name="a"), tmp_path / "weights_only.h5")
    with pytest.raises(fullyconv.WeightsError) as caught:  # noqa: PT011
        fullyconv.convert_weights(keras.Sequential(norm(center=False), name="b"), path, tmp_path / "fcn.keras")
    assert str(caught.value).splitlines()[1] == (
        "  n: beta (2,), moving_mean (2,), moving_variance (2,) in the file, "
        "gamma (2,), moving_mean (2,), moving_variance (2,) in the model"
    )


@pytest.mark.parametrize("name", FILES[:2])
def test_a_layer_that_one_side_lacks(name, tmp_path):
    path = save(trained(), tmp_path / name)
    code = keras.Sequential(stack()[:-1], name="net")
    with pytest.raises(fullyconv.WeightsError, match="does not fit") as caught:
        fullyconv.convert_weights(code, path, tmp_path / "fcn.keras")
    shapes = "kernel (8, 5), bias (5,)" if name == "weights_only.h5" else "(8, 5), (5,)"
    assert str(caught.value).splitlines()[1:-1] == [f"  fc2 is only in the file: {shapes}"]


def test_what_is_no_weight_file(tmp_path):
    def message(path: Path) -> str:
        with pytest.raises(fullyconv.ModelFileError, match=r".") as caught:
            fullyconv.convert_weights(untrained(), path, tmp_path / "fcn.keras")
        return str(caught.value)

    missing, text, empty = tmp_path / "no.h5", tmp_path / "text.h5", tmp_path / "empty.h5"
    assert message(missing) == f"There is no file '{missing}'.\nCheck the path."
    text.write_text("no weights")
    assert message(text).startswith(f"'{text}' cannot be read as a weight file (")
    assert message(text).endswith(").\nCopy or download it again, or save it anew.")
    h5py.File(empty, "w").close()
    assert message(empty) == (
        f"'{empty}' holds no weights of a Keras model.\n"
        "Give a file written by model.save_weights (.weights.h5, or .h5 of Keras 2) or by model.save."
    )
    renamed = tmp_path / "renamed.h5"
    save(trained(), tmp_path / "net.weights.h5").rename(renamed)
    assert message(renamed) == (
        f"'{renamed}' has the layout of Keras 3's weight files, and not their ending.\n"
        "Rename it so that it ends in .weights.h5."
    )


def test_a_file_that_leads_out_of_itself_is_not_followed(tmp_path):
    save(trained(), tmp_path / "weights_only.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        file["conv1"] = h5py.ExternalLink(str(tmp_path / "weights_only.h5"), "conv1")
    with pytest.raises(fullyconv.ModelFileError, match="'conv1' in it is a link to another place"):
        read_weight_file(tmp_path / "linked.h5")


def test_where_the_result_cannot_go(tmp_path):
    path = save(trained(), tmp_path / "net.weights.h5")
    with pytest.raises(fullyconv.OutputError) as caught:  # noqa: PT011
        fullyconv.convert_weights(untrained(), path, tmp_path / "fcn.h5")
    assert str(caught.value) == (
        f"Cannot save to {tmp_path / 'fcn.h5'}: the file must end in .keras (the network) or .weights.h5."
    )


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = trained()
    save(model, Path("net.weights.h5"))
    untrained().save("code.keras")
    for out in ("fcn.keras", "fcn.weights.h5"):
        done = CliRunner().invoke(app, ["convert", "code.keras", "--weights", "net.weights.h5", "-o", out])
        assert done.exit_code == 0, done.output
    nets.check_native(model, fullyconv.load("fcn.keras"))
    done = CliRunner().invoke(app, ["convert", "code.keras", "--weights", "none.h5", "-o", "none.keras"])
    assert (done.exit_code, done.stderr) == (1, "Error: There is no file 'none.h5'.\nCheck the path.\n")


@pytest.mark.once
@pytest.mark.parametrize("option", [("--labels", "names.txt"), ("--preprocess", "tf"), ("--bgr",)])
def test_what_a_weight_file_would_lose(option, tmp_path, monkeypatch):
    """Names of classes and the preparation of pixels travel in a .keras file alone."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["convert", "code.keras", "-o", "fcn.weights.h5", *option])
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: 'fcn.weights.h5' holds weights alone: what is said of labels and pixels would be lost.\n"
        "End its name in .keras, or leave that out.\n",
    )


# ----------------------------------------------------------------------------------------------- load_dense_weights


@pytest.mark.parametrize("name", FILES)
def test_a_network_by_hand_from_a_file_of_each_kind(name, tmp_path):
    model = trained()
    fcn = by_hand()
    loaded = fullyconv.load_dense_weights(fcn, save(model, tmp_path / name), window=SHAPE[:2])
    alone = (
        f"\nfc1: taken to read what Keras's Flatten makes of a map, row by row. "
        f"'{tmp_path / name}' holds weights alone, which do not say it; give the classifier in its place to be sure."
    )
    assert str(loaded) == "Loaded 5 layers." + (alone if name in FILES[:2] else "")
    same_answers(model, fcn)


def test_a_network_by_hand_from_a_model_under_other_names():
    model = trained()
    fcn = by_hand(names=("conv_fc1", "score"))
    loaded = fullyconv.load_dense_weights(fcn, model, {"fc1": "conv_fc1", "fc2": "score"})
    assert loaded.loaded[-2:] == (("fc1", "conv_fc1"), ("fc2", "score"))
    assert not loaded.only_in_weights + loaded.only_in_model + loaded.notes
    same_answers(model, fcn)


@pytest.mark.parametrize("data_format", nets.FORMATS)
@pytest.mark.parametrize("flatten", ["flatten", "permuted"])
def test_the_order_in_which_the_map_was_flattened(data_format, flatten):
    if nets.cannot_run(data_format):
        pytest.skip(nets.NO_CHANNELS_FIRST)
    k = nets.Kit(2, data_format)
    keras.utils.set_random_seed(5)
    x = k.input()
    y = k.conv(4, 3, strides=2, name="conv")(x)
    size = nets.to_last(np.empty((1, *y.shape[1:])), data_format).shape[1:3]
    y = (
        k.flatten()(y)
        if flatten == "flatten"
        else layers.Flatten(data_format="channels_last")(layers.Permute((3, 1, 2))(y))
    )
    model = nets.prepare(keras.Model(x, layers.Dense(5, name="fc")(y)), data_format=data_format)
    opened = nets.from_last(np.empty((1, 1, 1, x.shape[1 if data_format == "channels_first" else -1])), data_format)
    shape = tuple(None if n == 1 else n for n in opened.shape[1:])
    fcn = keras.Sequential(
        [keras.Input(shape), k.conv(4, 3, strides=2, name="conv"), k.conv(5, size, activation=None, name="fc")]
    )
    fullyconv.load_dense_weights(fcn, model)
    x = nets.inputs_for(model, 2, 0, data_format)
    want, have = nets.run(model, x), nets.run(fcn, x)
    nets.equal(want, have.reshape(want.shape), float(np.abs(want[0] - want[1]).max()))


def test_layers_without_a_counterpart_are_listed_and_keep_their_weights(tmp_path):
    model = trained()
    fcn = by_hand(names=("fc1", "score"))
    before = values(fcn)[-2:]
    loaded = fullyconv.load_dense_weights(fcn, model, strict=False)
    assert str(loaded) == (
        "Loaded 4 layers.\nOnly in the weights, and not loaded: fc2.\nOnly in the network, and not loaded: score."
    )
    assert all((a == b).all() for a, b in zip(before, values(fcn)[-2:], strict=True))


@pytest.mark.parametrize("name", [None, *FILES])
def test_a_layer_that_is_left_over_is_an_error(name, tmp_path):
    """The names that the message gives load all of it, whatever the weights are in."""
    model, fcn = trained(), by_hand(names=("conv_fc1", "score"))
    weights = model if name is None else save(model, tmp_path / name)
    message = refused(fcn, weights, window=SHAPE[:2])
    kernel, bias = ("", "") if name == "net.weights.h5" else ("kernel ", "bias ")
    what = "'net'" if name is None else f"'{weights}'"
    assert message == (
        f"{what} and 'by_hand' do not have the same layers; nothing was loaded.\n"
        "  2 layers of 'by_hand' would get no weights:\n"
        "    conv_fc1: kernel (5, 3, 4, 8), bias (8,)\n"
        "    score: kernel (1, 1, 8, 5), bias (5,)\n"
        f"  2 layers of {what} would not be used:\n"
        f"    fc1: {kernel}(60, 8), {bias}(8,)\n"
        f"    fc2: {kernel}(8, 5), {bias}(5,)\n"
        'If they are the same layers, say which is which: names={"fc1": "conv_fc1", "fc2": "score"}. Otherwise load '
        "the others with strict=False, and look at what it returns."
    )
    names = {"fc1": "conv_fc1", "fc2": "score"}
    loaded = fullyconv.load_dense_weights(fcn, weights, names, window=SHAPE[:2])
    assert len(loaded.loaded) == 5
    same_answers(model, fcn)


def test_a_layer_of_one_side_alone():
    model = trained()
    fcn = keras.Sequential(
        [keras.Input((None, None, 3)), *by_hand().layers, layers.Conv2D(5, 3, name="smooth")], name="by_hand"
    )
    assert refused(fcn, model) == (
        "'net' and 'by_hand' do not have the same layers; nothing was loaded.\n"
        "  1 layer of 'by_hand' would get no weights:\n"
        "    smooth: kernel (3, 3, 5, 5), bias (5,)\n"
        "If that is right, load the others with strict=False, and look at what it returns."
    )
    assert fullyconv.load_dense_weights(fcn, model, strict=False).only_in_model == ("smooth",)
    part = keras.Sequential([keras.Input((None, None, 3)), *by_hand().layers[:-1]], name="part")
    assert refused(part, model) == (
        "'net' and 'part' do not have the same layers; nothing was loaded.\n"
        "  1 layer of 'net' would not be used:\n"
        "    fc2: kernel (8, 5), bias (5,)\n"
        'If that is right, leave it out by name: names={"fc2": None}.'
    )
    other = keras.Sequential([keras.Input((None, None, 3)), *by_hand(names=("conv_fc1", "x")).layers[:-1]], name="part")
    names = 'names={"fc1": "conv_fc1", "fc2": None}.'
    assert refused(other, model, {"fc1": "conv_fc1"}).endswith(f"leave it out by name: {names}")
    assert 'which: names={"fc2": None, "fc1": "conv_fc1"}. ' in refused(other, model, {"fc2": None})
    loaded = fullyconv.load_dense_weights(part, model, {"fc2": None})
    assert (loaded.only_in_weights, loaded.only_in_model) == (("fc2",), ())


def test_layers_that_fit_under_no_name():
    """Of two that could be meant by their sizes, one covers another map; and many are counted."""
    model = trained()
    other = by_hand((3, 5), names=("conv_fc1", "fc2"))
    remedy = (
        "If some are the same layers, say which is which: names={name in the weights: name in the network}; None "
        "leaves one out. Otherwise load the others with strict=False, and look at what it returns."
    )
    assert refused(other, model).splitlines()[-1] == remedy
    many = [layers.Conv2D(2, 1, name=f"new{i}") for i in range(5)]
    lines = refused(keras.Sequential([keras.Input((None, None, 3)), *many], name="many"), model).splitlines()
    assert lines[1:] == [
        "  5 layers of 'many' would get no weights:",
        "    new0: kernel (1, 1, 3, 2), bias (2,)",
        "    new1: kernel (1, 1, 2, 2), bias (2,)",
        "    new2: kernel (1, 1, 2, 2), bias (2,)",
        "    and 2 more",
        "  5 layers of 'net' would not be used:",
        "    conv1: kernel (3, 3, 3, 6), bias (6,)",
        "    norm: gamma (6,), beta (6,), moving_mean (6,), moving_variance (6,)",
        "    conv2: kernel (2, 2, 6, 4), bias (4,)",
        "    and 2 more",
        remedy.partition(" Otherwise")[0],  # no layer has met another, so that there is nothing to load
    ]


def test_names_are_given_to_be_pasted_as_long_as_they_are_few():
    names = {f"a{i}": f"b{i}" for i in range(22)}
    left = Leftovers(dict.fromkeys(names, "(2,)"), dict.fromkeys(names.values(), "(2,)"))
    few = dict(list(names.items())[:20])
    pasted = left.remedy({}, few, met=True).partition("names=")[2].partition(". Otherwise")[0]
    assert ast.literal_eval(pasted) == few
    assert left.remedy({}, names, met=True).partition("names=")[2].startswith(f"{pasted[:-1]}, ...}}. Otherwise")


@pytest.mark.parametrize("name", [None, "net.weights.h5", "net.keras"])
def test_layers_without_weights_are_not_left_over(name, tmp_path):
    """Dropout has the state of its random numbers, and a compiled model that of its optimizer."""
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(2, 3, name="conv")
    front = [layers.RandomFlip(), layers.Rescaling(1 / 255), layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((6, 6, 3)), *front, conv, layers.ReLU()])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    fcn = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3, name="conv")])
    given = model if name is None else save(model, tmp_path / name)
    assert fullyconv.load_dense_weights(fcn, given).loaded == (("conv", "conv"),)


def test_all_mismatches_at_once_with_both_shapes(tmp_path):
    path = save(trained(), tmp_path / "net.weights.h5")
    fcn = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(6, 5, name="conv1"),
            layers.BatchNormalization(scale=False, name="norm"),
            layers.Conv2D(4, 2, use_bias=False, name="conv2"),
            layers.Conv2D(8, 4, name="fc1"),
            layers.Conv2D(2, 1, name="score"),
        ],
        name="by_hand",
    )
    assert refused(fcn, path) == (
        f"'{path}' does not fit 'by_hand'; nothing was loaded.\n"
        "  norm: (6,), (6,), (6,), (6,) in the weights, "
        "beta (6,), moving_mean (6,), moving_variance (6,) in the network\n"
        "  conv1: kernel (3, 3, 3, 6), bias (6,) in the weights, kernel (5, 5, 3, 6), bias (6,) in the network\n"
        "  conv2: (2, 2, 6, 4), (4,) in the weights, kernel (2, 2, 6, 4) in the network\n"
        "  fc1: kernel (60, 8), bias (8,) in the weights, kernel (4, 4, 4, 8), bias (8,) in the network\n"
        "  only in the weights: fc2\n"
        "  only in the network: score\n"
        "Change the network, or leave a layer of the weights out: names={name: None}."
    )
    names = dict.fromkeys(("conv1", "conv2", "norm", "fc1"))
    assert "have no layer of the same name" in refused(fcn, path, names, strict=False)


def test_names_that_do_not_exist_and_one_asked_for_twice():
    model, fcn = trained(), by_hand()
    names = {"fc3": "fc2", "fc1": "score", "fc2": "fc1", "conv1": "conv2"}
    assert refused(fcn, model, names).splitlines()[1:5] == [
        "  names: 'net' has no layer 'fc3' with weights",
        "  names: 'by_hand' has no layer 'score' with weights",
        "  names: 'conv2' would be loaded from 'conv1' and from 'conv2'",
        "  conv1 -> conv2: kernel (3, 3, 3, 6), bias (6,) in the weights, "
        "kernel (2, 2, 6, 4), bias (4,) in the network",
    ]


def test_no_name_in_common():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(1, 3, name="a")], name="other")
    assert refused(model, trained(), strict=False) == (
        "'net' and 'other' have no layer of the same name; nothing was loaded.\n"
        "  only in the weights: conv1, norm, conv2, fc1, fc2\n"
        "  only in the network: a\n"
        'Say which is which: names={"fc1": "conv_fc1"}, the name in the weights first.'
    )


def test_a_kernel_of_the_right_number_of_values_over_another_map(tmp_path):
    """3 x 5 is as many positions as 5 x 3. Known from the classifier, asked for where there is only a file."""
    model, turned = trained(), by_hand((3, 5))
    path = save(model, tmp_path / "net.weights.h5")
    line = "  fc1: reads a flattened map of 5 x 3 x 4, and the kernel covers 3 x 5 x 4"
    assert line in refused(turned, model).splitlines()
    assert line in refused(turned, save(model, tmp_path / "net.keras")).splitlines()
    line = (
        "  fc1: whether fc1 was flattened from a map of 3 x 5 is not known; give the window, or the classifier in "
        "place of its weights"
    )
    assert line in refused(turned, path).splitlines()
    line = "  fc1: a map of 5 x 3 enters at the window, and the kernel covers 3 x 5"
    assert line in refused(turned, path, window=SHAPE[:2]).splitlines()


def test_a_kernel_behind_layers_that_are_not_loaded(tmp_path):
    """60 rows are 5 x 3 x 4 values, and 1 x 1 x 60, and many more: without the trunk nothing says which."""
    path = save(trained(), tmp_path / "net.weights.h5")
    fcn = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(15, 3, name="new"), layers.Conv2D(8, 2, name="fc1")]
    )
    assert refused(fcn, path).splitlines()[1] == (
        "  fc1: what fc1 was flattened from is not known, since new in front is not loaded; give the classifier in "
        "place of its weights"
    )


@pytest.mark.parametrize("kwargs", [{"groups": 2}, {"dilation_rate": 2}])
def test_a_convolution_that_does_not_cover_the_map(kwargs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2, 2, 8)), layers.Flatten(), layers.Dense(4, name="fc")])
    shape = (None, None, 16) if "groups" in kwargs else (None, None, 8)
    fcn = keras.Sequential([keras.Input(shape), layers.Conv2D(4, 2, name="fc", **kwargs)])
    assert refused(fcn, model).splitlines()[1] == (
        "  fc: a convolution with groups or dilation does not cover the map that was flattened"
    )


def test_arrays_of_one_shape_under_other_names():
    """A BatchNormalization without scale has three arrays of one shape, as one without centre has."""
    shape = (4, 4, 2)
    model = keras.Sequential([keras.Input(shape), layers.BatchNormalization(scale=False, name="n")], name="a")
    fcn = keras.Sequential([keras.Input(shape), layers.BatchNormalization(center=False, name="n")], name="b")
    assert refused(fcn, model).splitlines()[1] == (
        "  n: beta (2,), moving_mean (2,), moving_variance (2,) in the weights, "
        "gamma (2,), moving_mean (2,), moving_variance (2,) in the network"
    )


def test_a_file_without_names(tmp_path):
    path = save(trained(), tmp_path / "net.weights.h5")
    with h5py.File(path, "a") as file:
        file.visititems(lambda key, group: group.attrs.pop("name", None))
    assert refused(by_hand(), path, error=fullyconv.ModelFileError) == (
        f"'{path}' does not say the names of its layers: an early Keras 3 wrote it.\n"
        "Load it into the classifier with model.load_weights, and give the classifier in its place."
    )
    fullyconv.convert_weights(untrained(), path, tmp_path / "fcn.keras")


def test_a_window_too_small_for_the_network(tmp_path):
    path = save(trained(), tmp_path / "net.weights.h5")
    line = "  fc1: the window is too small: nothing is left at conv2 in front of it"
    assert line in refused(by_hand(), path, window=4).splitlines()


def test_a_network_without_a_graph():
    fcn = keras.Sequential([layers.Conv2D(6, 3, name="conv1")], name="by_hand")
    assert refused(fcn, trained(), error=fullyconv.UnsupportedModelError) == (
        "'by_hand' has no graph: its layers are called in Python, or its input has no shape yet.\n"
        "Build it with the functional API (keras.Model(inputs, outputs)), or start it with keras.Input."
    )


def turned(*ops, kernel=None, name="net") -> keras.Model:
    """A convolution, operations, a map whose axes are turned, and a Dense layer on it."""
    keras.utils.set_random_seed(2)
    x = keras.Input((9, 7, 3))
    y = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    for operation in ops:
        y = operation(y)
    y = layers.Flatten(data_format="channels_last")(layers.Permute((3, 1, 2))(y))
    return nets.prepare(keras.Model(x, layers.Dense(5, name="fc")(y), name=name))


def plain_fcn(*ops) -> keras.Model:
    """The network by hand for `turned`."""
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    for operation in ops:
        y = operation(y)
    return keras.Model(x, layers.Conv2D(5, (4, 3), name="fc")(y), name="by_hand")


def flip(x):
    return keras.ops.flip(x, axis=1)


@pytest.mark.parametrize("ops", [(), (flip,)], ids=["converts", "does not convert"])
def test_the_order_is_known_of_a_classifier_that_cannot_be_converted(ops):
    """An operation without a rule says nothing of how the map behind it is flattened."""
    model = turned(*ops)
    if ops:
        with pytest.raises(fullyconv.UnsupportedLayerError, match="Flip"):
            fullyconv.plan(model)
    fcn = plain_fcn(*ops)
    assert str(fullyconv.load_dense_weights(fcn, model)) == "Loaded 2 layers."
    same_answers(model, fcn, (9, 7, 3))


def test_a_layer_whose_map_is_not_known_is_not_loaded():
    """Attention returns rows of positions, which were never a map."""
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, strides=3, name="conv")(x)
    z = layers.Reshape((4, 4))(y)
    z = layers.Reshape((2, 2, 4))(layers.Attention(name="attention")([z, z]))
    model = keras.Model(x, layers.Dense(5, name="fc")(layers.Flatten()(z)))
    fcn = keras.Sequential(
        [keras.Input((None, None, 3)), layers.Conv2D(4, 3, strides=3, name="conv"), layers.Conv2D(5, 2, name="fc")]
    )
    assert refused(fcn, model).splitlines()[1] == (
        "  fc: what fc was flattened from is not known: nothing is known of what 'attention' in front of it returns"
    )
    assert fullyconv.load_dense_weights(fcn, model, {"fc": None}, strict=False).only_in_model == ("fc",)


@pytest.mark.parametrize("name", ["net.weights.h5", "net.keras"])
def test_what_a_file_does_not_say_is_said(name, tmp_path):
    """Weights alone, or a file whose classifier Keras cannot build: the order is a guess, and is called one."""
    model = turned() if name == "net.weights.h5" else turned(layers.Lambda(lambda x: 2 * x))
    fcn = plain_fcn()
    loaded = fullyconv.load_dense_weights(fcn, save(model, tmp_path / name), window=(9, 7))
    why = (
        f"'{tmp_path / name}' holds weights alone, which do not say it"
        if name == "net.weights.h5"
        else f"'{tmp_path / name}' carries Python code of its own, which Keras's safe mode does not run"
    )
    assert loaded.notes == (
        f"fc: taken to read what Keras's Flatten makes of a map, row by row. {why}; give the classifier in its place "
        "to be sure.",
    )


def test_a_pooling_forgotten_or_moved():
    """The kernel's size agrees, the map that enters does not."""
    model = trained()
    fcn = by_hand()
    stack = [layer for layer in fcn.layers if not isinstance(layer, layers.MaxPooling2D)]
    without = keras.Sequential([keras.Input((None, None, 3)), *stack], name="by_hand")
    assert refused(without, model).splitlines()[1] == (
        "  fc1: a map of 11 x 7 enters at the window, 1 x 1 pixels apart, where the classifier has 5 x 3, 2 x 2 apart"
    )


def test_a_network_that_pads_its_image():
    """The first FCN pads its image by 100 pixels: its strides are the classifier's, its sizes are not."""
    model, fcn = trained(), by_hand()
    padded = keras.Sequential([keras.Input((None, None, 3)), layers.ZeroPadding2D(10), *fcn.layers], name="padded")
    assert fullyconv.load_dense_weights(padded, model).notes == (
        "fc1: a map of 15 x 13 enters at the window, where the classifier has 5 x 3. "
        "If the network pads, crops or resizes otherwise, its cells lie elsewhere.",
    )
    x = nets.images(SHAPE[:2], SHAPE[2], 2)
    want, have = nets.run(model, x), nets.run(padded, x)[:, 5, 5]
    nets.equal(want, have, float(np.abs(want[0] - want[1]).max()))


def spatially_turned(kind: str, fcn: bool) -> keras.Model:
    """A convolution, its map in another order, and a Dense layer on it: or the network by hand that does the same."""
    keras.utils.set_random_seed(2)
    x = keras.Input((None, None, 3) if fcn else (9, 7, 3))
    y = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    if kind == "rows and columns":
        y = layers.Permute((2, 1, 3))(y)
    elif kind == "channels by take" and not fcn:
        y = layers.Reshape((4, 3, 4))(layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 3, 2, 2))(y)))
    elif kind == "channels by take":
        y = keras.ops.take(y, [0, 2, 1, 3], axis=-1)
    elif kind == "transposed":
        y = keras.ops.transpose(y, (0, 2, 1, 3))
    size = (4, 3) if kind == "channels by take" else (3, 4)
    y = layers.Conv2D(5, size, name="fc")(y) if fcn else layers.Dense(5, name="fc")(layers.Flatten()(y))
    return keras.Model(x, y)


@pytest.mark.parametrize("kind", ["rows and columns", "transposed", "channels by take"])
def test_a_network_that_turns_its_map_as_the_classifier_does(kind):
    """A row goes where its value is read, not where it would be without the turn."""
    model, fcn = nets.prepare(spatially_turned(kind, fcn=False)), spatially_turned(kind, fcn=True)
    assert str(fullyconv.load_dense_weights(fcn, model)) == "Loaded 2 layers."
    same_answers(model, fcn, (9, 7, 3))


@pytest.mark.parametrize("what", ["activation", "pooling", "order"])
def test_layers_without_weights_that_differ_are_noticed(what):
    """All arrays fit; the answers say that something else does not."""
    model, fcn = trained(), by_hand()
    if what == "activation":
        fcn.get_layer("fc1").activation = keras.activations.linear
    elif what == "pooling":
        stack = [layers.AveragePooling2D(2) if isinstance(x, layers.MaxPooling2D) else x for x in fcn.layers]
        fcn = keras.Sequential([keras.Input((None, None, 3)), *stack], name="by_hand")
    else:
        a, pool, norm, *rest = fcn.layers
        fcn = keras.Sequential([keras.Input((None, None, 3)), a, norm, pool, layers.ReLU(), *rest], name="by_hand")
    (note,) = fullyconv.load_dense_weights(fcn, model).notes
    assert note.startswith("At the window its answers differ from the classifier's, by 0.")


def test_an_activation_that_only_pixels_of_a_photo_show():
    """Behind a rescaling noise of unit spread is nothing beside the biases."""
    keras.utils.set_random_seed(0)

    def net(fcn, activation):
        stack = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation=activation, name="conv")]
        stack += [layers.Conv2D(3, 4, name="fc")] if fcn else [layers.Flatten(), layers.Dense(3, name="fc")]
        return keras.Sequential([keras.Input((None, None, 3) if fcn else (6, 6, 3)), *stack])

    model = net(fcn=False, activation="relu")
    model.get_layer("conv").bias.assign(np.full(4, 0.1, "float32"))
    assert not fullyconv.load_dense_weights(net(fcn=True, activation="relu"), model).notes
    assert "answers differ" in str(fullyconv.load_dense_weights(net(fcn=True, activation=None), model))


def test_precisions_that_differ_are_no_missing_layer():
    if nets.BACKEND == "openvino":
        pytest.skip("Keras's bfloat16 layers do not run outside the engine on this backend")
    keras.utils.set_random_seed(0)

    def net(fcn, policy):
        stack = [layers.Conv2D(4, 3, activation="relu", name="conv", dtype=policy)]
        stack += [layers.Conv2D(3, 4, name="fc", dtype=policy)]
        stack[1:] = stack[1:] if fcn else [layers.Flatten(), layers.Dense(3, name="fc", dtype=policy)]
        return keras.Sequential([keras.Input((None, None, 3) if fcn else (6, 6, 3)), *stack])

    model = net(fcn=False, policy="float32")
    assert not fullyconv.load_dense_weights(net(fcn=True, policy="mixed_bfloat16"), model).notes


def test_slopes_of_units_are_those_of_channels():
    keras.utils.set_random_seed(0)
    front = lambda: layers.Conv2D(4, 3, name="conv")  # noqa: E731
    model = keras.Sequential([keras.Input((6, 6, 3)), front(), layers.Flatten(), layers.Dense(3, name="fc")])
    model.add(layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.1, 0.9), name="slopes"))
    fcn = keras.Sequential([keras.Input((None, None, 3)), front(), layers.Conv2D(3, 4, name="fc")])
    fcn.add(layers.PReLU(shared_axes=[1, 2], name="slopes"))
    assert str(fullyconv.load_dense_weights(fcn, model)) == "Loaded 3 layers."
    same_answers(model, fcn, (6, 6, 3))


def test_a_network_with_lora_is_loaded_without_it():
    model, fcn = trained(), by_hand()
    fcn.get_layer("fc1").enable_lora(2)
    fcn.get_layer("fc1").lora_kernel_b.assign(np.ones((2, 8), "float32"))
    assert str(fullyconv.load_dense_weights(fcn, model)) == "Loaded 5 layers."
    same_answers(model, fcn)


@pytest.mark.parametrize("name", ["net.weights.h5", "whole_model.h5", "net.keras"])
def test_an_inner_layer_of_the_name_of_an_outer_one(name, tmp_path):
    """Files list them in another order than the graph calls them; both kernels have one shape."""

    def net(seed):
        keras.utils.set_random_seed(seed)
        inner = keras.Sequential(
            [keras.Input((12, 8, 3)), layers.Conv2D(3, 3, padding="same", name="conv")], name="base"
        )
        x = keras.Input((12, 8, 3))
        y = layers.Conv2D(3, 3, name="conv")(inner(x))
        return keras.Model(x, layers.Dense(5, name="fc")(layers.GlobalAveragePooling2D()(y)), name="net")

    model, same = nets.prepare(net(0)), net(1)
    path = save(model, tmp_path / name)
    loaded = fullyconv.load_dense_weights(same, path)
    assert dict(loaded.loaded) == {n: n for n in ("conv", "base_conv", "fc")}
    assert all((a == b).all() for a, b in zip(values(model), values(same), strict=True))


KINDS = {
    "a transposed convolution": (layers.Conv2D(3, 2), lambda: layers.Conv2DTranspose(3, 2)),
    "a depthwise convolution": (layers.DepthwiseConv2D(2), lambda: layers.Conv2D(1, 2)),
    "another normalisation": (layers.LayerNormalization(), lambda: layers.GroupNormalization(3)),
}


@pytest.mark.parametrize("pair", KINDS)
@pytest.mark.parametrize("name", [None, "net.weights.h5", "net.keras"])
def test_arrays_of_one_size_in_a_layer_of_another_kind(pair, name, tmp_path):
    """Their arrays have the same names and sizes."""
    source, target = KINDS[pair]
    with_name = lambda layer: type(layer).from_config({**layer.get_config(), "name": "it"})  # noqa: E731
    model = keras.Sequential([keras.Input((6, 6, 3)), with_name(source)], name="net")
    fcn = keras.Sequential([keras.Input((6, 6, 3)), with_name(target())], name="by_hand")
    given = model if name is None else save(model, tmp_path / name)
    if [w.shape for w in model.weights] != [w.shape for w in fcn.weights]:
        assert "in the weights" in refused(fcn, given)
        return
    kinds = type(source).__name__, type(target()).__name__
    assert refused(fcn, given).splitlines()[1] == f"  it: {kinds[0]} in the weights, {kinds[1]} in the network"


def test_layers_of_ones_own_count_as_what_they_are_made_from():
    class Mine(layers.Conv2D):
        """A convolution."""

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 6, 3)), Mine(2, 3, name="conv")])
    fcn = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(2, 3, name="conv")])
    assert str(fullyconv.load_dense_weights(fcn, model)) == "Loaded 1 layers."


def test_gamma_and_beta_that_a_file_does_not_name(tmp_path):
    shape = (4, 4, 2)
    model = keras.Sequential([keras.Input(shape), layers.BatchNormalization(scale=False, name="n")], name="a")
    path = save(model, tmp_path / "net.weights.h5")
    same = keras.Sequential([keras.Input(shape), layers.BatchNormalization(scale=False, name="n")], name="b")
    assert fullyconv.load_dense_weights(same, path).notes == (
        f"n: '{path}' does not name its arrays; the first of each was taken for beta, which is all that the network's "
        "layer has.",
    )
    other = keras.Sequential([keras.Input(shape), layers.BatchNormalization(center=False, name="n")], name="b")
    legacy = save(model, tmp_path / "weights_only.h5")
    assert "beta (2,)" in refused(other, legacy)
    assert "n differs" not in str(fullyconv.load_dense_weights(same, legacy))


def test_settings_that_differ_are_said():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, strides=2, name="c")], name="a")
    model.add(layers.BatchNormalization(epsilon=1e-5, name="n"))
    fcn = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="c"), layers.BatchNormalization(name="n")])
    assert fullyconv.load_dense_weights(fcn, model).notes == (
        "c: strides (2, 2) in the weights, (1, 1) in the network.",
        "n: epsilon 1e-05 in the weights, 0.001 in the network.",
    )


def test_a_classifier_of_any_size_needs_its_window_only_where_a_map_was_flattened():
    x = keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(x, layers.Dense(5, name="fc")(pooled), name="open")
    fcn = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="conv")])
    fcn.add(layers.Conv2D(5, 1, name="fc"))
    assert str(fullyconv.load_dense_weights(fcn, model)) == "Loaded 2 layers."


def test_what_is_neither_a_network_nor_weights(tmp_path):
    model, fcn = trained(), by_hand()
    converted = fullyconv.convert(model)
    unsupported = fullyconv.UnsupportedModelError
    for bad, kind in ((converted, "FullyConv"), ([1], "list"), (None, "NoneType")):
        remedy = "Give its `.model`." if bad is converted else "Load it with keras.models.load_model."
        want = f"Expected a keras.Model, but received a {kind}.\n{remedy}"
        assert refused(fcn, bad, error=unsupported) == want
        with pytest.raises(unsupported) as caught:
            fullyconv.load_dense_weights(bad, model)
        assert str(caught.value) == want
    assert refused(fcn, model, ["fc1"], error=TypeError) == (
        '`names` maps the name in the weights to that in the network, {"fc1": "conv"}, not [\'fc1\'].'
    )
    assert refused(fcn, model, window="14", error=fullyconv.WindowError).startswith("The window must be a whole number")
    assert refused(fcn, tmp_path, error=fullyconv.ModelFileError) == (
        f"'{tmp_path}' is a folder.\nGive the path of a .weights.h5, .keras or .h5 file."
    )
    turned = refused(by_hand(names=("conv_fc1", "score")), model, {"conv_fc1": "fc1", "score": "fc2"})
    assert turned.splitlines()[-1] == "Turn `names` around: the name in the weights comes first."


@pytest.mark.parametrize("damage", ["truncated", "not a zip", "a byte changed"])
def test_a_damaged_keras_file(damage, tmp_path):
    path = save(trained(), tmp_path / "net.keras")
    data = path.read_bytes()
    middle = len(data) // 2
    changed = {"truncated": data[:middle], "not a zip": b"no zip at all", "a byte changed": None}[damage]
    path.write_bytes(changed or data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    for run in (
        lambda: fullyconv.load_dense_weights(by_hand(), path),
        lambda: fullyconv.convert_weights(untrained(), path, tmp_path / "fcn.keras"),
    ):
        with pytest.raises(fullyconv.ModelFileError) as caught:  # noqa: PT011
            run()
        assert str(path) in str(caught.value)
    assert not (tmp_path / "fcn.keras").exists()


def test_the_weight_file_is_not_written_over(tmp_path):
    for name in ("net.weights.h5", "net.keras"):
        path = save(trained(), tmp_path / name)
        data = path.read_bytes()
        with pytest.raises(fullyconv.OutputError) as caught:  # noqa: PT011
            fullyconv.convert_weights(untrained(), path, path)
        assert str(caught.value) == f"'{path}' is one of the files that are read.\nGive another name to write to."
        assert path.read_bytes() == data
