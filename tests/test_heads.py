"""Every row of the contract's table (section 4): what each kind of head becomes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import fullyconv
import nets

LAST, FIRST = nets.FORMATS
WINDOW = (13, 11)


def trunk(k: nets.Kit, x):
    return k.max(2)(k.conv(4, 3)(x))


def flat(k, x):
    return k.flatten()(x)


def _sizes(k, x):
    return (x.shape[2], x.shape[3], x.shape[1]) if k.axis == 1 else tuple(x.shape[1:])


# ------------------------------------------------------------------------------------ from a map to a vector
def flatten_as_rows_whatever_the_format(k, x):
    return layers.Flatten()(x)


def flatten_the_other_format(k, x):
    return layers.Flatten(data_format=FIRST if k.axis == -1 else LAST)(x)


def reshape_flat(k, x):
    return layers.Reshape((-1,))(x)


def reshape_in_two_steps(k, x):
    a, b, c = x.shape[1:]
    return layers.Flatten()(layers.Reshape((a, b * c))(x))


def reshape_regrouped(k, x):
    a, b, c = x.shape[1:]
    return layers.Flatten()(layers.Permute((2, 1))(layers.Reshape((a * b, c))(x)))


def permute_flatten(k, x):
    return layers.Flatten()(layers.Permute((3, 1, 2))(x))


def permute_space(k, x):
    return layers.Flatten()(layers.Permute((2, 1, 3))(x))


def ops_reshape(k, x):
    return ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def ops_transpose(k, x):
    return layers.Flatten()(ops.transpose(x, (0, 3, 2, 1)))


def dense_along_channels(k, x):
    return layers.Flatten()(layers.Dense(3, "tanh")(x))


def einsum_along_channels(k, x):
    return layers.Flatten()(layers.EinsumDense("bhwc,cd->bhwd", (*x.shape[1:3], 3), bias_axes="d")(x))


def whole_window_pooling(k, x):
    return k.flatten()(k.average(_sizes(k, x)[:2])(x))


# ------------------------------------------------------------------------------------ global poolings
def gap(k, x):
    return k.gap()(x)


def gmp(k, x):
    return k.gmp()(x)


def gap_keepdims(k, x):
    return k.flatten()(k.gap(keepdims=True)(x))


def gmp_keepdims_squeezed(k, x):
    return ops.squeeze(k.gmp(keepdims=True)(x), axis=k.space)


def ops_mean(k, x):
    return ops.mean(x, axis=k.space)


def ops_max(k, x):
    return ops.max(x, axis=k.space)


def adaptive_average(k, x):
    return k.flatten()(k.layer("AdaptiveAveragePooling", 1)(x))


def adaptive_max(k, x):
    return k.flatten()(k.layer("AdaptiveMaxPooling", 1)(x))


def average_and_max(k, x):
    return layers.Concatenate()([k.gap()(x), k.gmp()(x)])


COLLAPSES = [
    flat, flatten_as_rows_whatever_the_format, flatten_the_other_format, reshape_flat, reshape_in_two_steps,
    reshape_regrouped, permute_flatten, permute_space, ops_reshape, ops_transpose, dense_along_channels,
    einsum_along_channels, gap, gmp, gap_keepdims, gmp_keepdims_squeezed, ops_mean, ops_max,
    adaptive_average, adaptive_max, average_and_max,
]  # fmt: skip
LAST_ONLY = (dense_along_channels, einsum_along_channels)


def _collapse_cases():
    for build in COLLAPSES:
        for data_format in nets.FORMATS:
            if data_format == FIRST and build in LAST_ONLY:
                continue
            marks = [pytest.mark.skip(reason=nets.NO_CHANNELS_FIRST)] if nets.cannot_run(data_format) else []
            if nets.BACKEND == "tensorflow" and "adaptive" in build.__name__:
                marks = [pytest.mark.skip(reason=nets.NO_ADAPTIVE)]
            yield pytest.param(build, data_format, marks=marks, id=f"{build.__name__}-{data_format[9:]}")


def build(head, data_format=LAST, window=WINDOW, units=4):
    """A prepared classifier: the small trunk, a head that gives a vector, a last Dense."""
    keras.utils.set_random_seed(5)
    k = nets.Kit(2, data_format)
    x = k.input(window)
    return nets.prepare(keras.Model(x, layers.Dense(units)(head(k, trunk(k, x)))), data_format=data_format)


def both_formats(names, *named):
    """All names with channels last, and those with channels first that look at an axis."""
    skip = pytest.mark.skipif(nets.cannot_run(FIRST), reason=nets.NO_CHANNELS_FIRST)
    return [*((name, LAST) for name in names), *(pytest.param(name, FIRST, marks=skip) for name in named)]


def check(model, data_format=LAST, extra=(5, 4), exactness="exact", **options):
    """Asserts C1, and that every window of a bigger image equals the classifier."""
    fcn = fullyconv.convert(model, **options)
    assert fcn.exactness == exactness
    nets.check_native(model, fcn, data_format)
    assert nets.check_windows(model, fcn, data_format, extra) >= 4
    return fcn


@pytest.mark.numerical
@pytest.mark.parametrize(("head", "data_format"), list(_collapse_cases()))
def test_from_a_map_to_a_vector(head, data_format):
    check(build(head, data_format), data_format)


@pytest.mark.numerical
@pytest.mark.parametrize("data_format", nets.FORMATS)
def test_an_ordinary_pooling_that_covers_the_map(data_format):
    if nets.cannot_run(data_format):
        pytest.skip(nets.NO_CHANNELS_FIRST)
    check(build(whole_window_pooling, data_format), data_format, extra=(11, 9))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("data_format", nets.FORMATS)
@pytest.mark.parametrize("head", [flat, flatten_the_other_format, gap, gmp_keepdims_squeezed, ops_max])
def test_from_a_map_to_a_vector_in_other_ranks(head, data_format, rank):
    k = nets.Kit(rank, data_format)
    x = k.input((11, 10, 9)[:rank])
    model = nets.prepare(keras.Model(x, layers.Dense(3)(head(k, trunk(k, x)))), data_format=data_format)
    check(model, data_format, (8, 3, 3)[:rank])


# ------------------------------------------------------------------------------------ between Flatten and Dense
BETWEEN = {
    "batch_normalization": lambda: layers.BatchNormalization(),
    "batch_normalization_unscaled": lambda: layers.BatchNormalization(scale=False, center=False),
    "rescaling": lambda: layers.Rescaling(0.5, offset=0.25),
    "normalization": lambda: layers.Normalization(mean=np.linspace(-1, 1, 80), variance=np.linspace(0.5, 2, 80)),
    "dropout": lambda: layers.Dropout(0.5),
    "gaussian_noise": lambda: layers.GaussianNoise(0.5),
    "activity_regularization": lambda: layers.ActivityRegularization(l2=0.1),
    "relu": lambda: layers.ReLU(),
    "tanh": lambda: layers.Activation("tanh"),
    "layer_normalization": lambda: layers.LayerNormalization(),
}


@pytest.mark.numerical
@pytest.mark.parametrize(("name", "data_format"), both_formats(BETWEEN, "normalization", "layer_normalization"))
def test_between_flatten_and_dense(name, data_format):
    check(build(lambda k, x: BETWEEN[name]()(k.flatten()(x)), data_format), data_format)


def test_two_affine_layers_between_flatten_and_dense():
    def head(k, x):
        y = layers.Rescaling(0.5, offset=0.25)(layers.BatchNormalization()(k.flatten()(x)))
        return layers.BatchNormalization()(layers.Dropout(0.2)(y))

    check(build(head))


# ------------------------------------------------------------------------------------ after a Dense
AFTER = {
    "batch_normalization": lambda k: layers.BatchNormalization(),
    "layer_normalization": lambda k: layers.LayerNormalization(),
    "rms_normalization": lambda k: layers.RMSNormalization(),
    "unit_normalization": lambda k: layers.UnitNormalization(),
    "group_normalization": lambda k: layers.GroupNormalization(groups=2),
    "prelu": lambda k: layers.PReLU(),
    "leaky_relu": lambda k: layers.LeakyReLU(0.2),
    "softmax": lambda k: layers.Softmax(),
    "softmax_activation": lambda k: layers.Activation("softmax"),
    "softmax_operation": lambda k: ops.softmax,
    "log_softmax": lambda k: layers.Activation("log_softmax"),
    "glu": lambda k: layers.Activation("glu"),
    "sparsemax": lambda k: layers.Activation("sparsemax"),
    "dense_softmax": lambda k: layers.Dense(4, "softmax"),
    "no_bias": lambda k: layers.Dense(4, use_bias=False),
    "einsum": lambda k: layers.EinsumDense("ab,bc->ac", 4, bias_axes="c", activation="relu"),
    "rescaling": lambda k: layers.Rescaling(3.0, offset=-0.5),
    "normalization": lambda k: layers.Normalization(mean=np.arange(6.0), variance=np.arange(1, 7.0)),
    "arithmetic": lambda k: lambda x: ops.relu(x) * 2.0 - ops.exp(-ops.square(x)) / 3.0 + 1.0,
    "dropouts": lambda k: lambda x: layers.AlphaDropout(0.1)(layers.GaussianDropout(0.1)(layers.Dropout(0.1)(x))),
    "gate": lambda k: lambda x: layers.Multiply()([x, layers.Dense(6, "sigmoid")(x)]),
    "skip": lambda k: lambda x: layers.Add()([x, layers.Dense(6, "tanh")(x)]),
    "normalized_by_ops": lambda k: lambda x: x - ops.mean(x, axis=-1, keepdims=True),
    "reshape_away": lambda k: layers.Reshape((6,)),
}


@pytest.mark.numerical
@pytest.mark.parametrize(
    ("name", "data_format"), both_formats(AFTER, "batch_normalization", "softmax", "glu", "prelu", "einsum", "skip")
)
def test_after_a_dense(name, data_format):
    keras.utils.set_random_seed(5)
    k = nets.Kit(2, data_format)
    x = k.input(WINDOW)
    y = AFTER[name](k)(layers.Dense(6)(k.flatten()(trunk(k, x))))
    check(nets.prepare(keras.Model(x, y), data_format=data_format), data_format)


@pytest.mark.parametrize("activation", ["relu", "elu", "selu", "gelu", "silu", "softplus", "softsign", "hard_sigmoid",
                                        "tanh", "sigmoid", "linear", "exponential", "mish", "relu6"])  # fmt: skip
def test_activation_strings(activation):
    check(build(lambda k, x: layers.Dense(5, activation)(flat(k, x))))


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_head_of_one_unit_and_a_regression(units, activation):
    x = keras.Input((*WINDOW, 1))
    kernel = np.random.default_rng(0).normal(size=(99, units)).astype("float32")
    kernel[::2] *= -1  # one unit must tell two images apart, whatever a backend's own first kernel would do
    y = layers.Flatten()(layers.Conv2D(3, 3, activation="relu", kernel_initializer="ones")(x))
    model = keras.Model(x, layers.Dense(units, activation)(y))
    first = model.layers[-1].kernel
    first.assign(np.resize(kernel, first.shape))
    check(nets.prepare(model))


# ------------------------------------------------------------------------------------ heads without a Dense
def conv_then_pool(k, x):
    return k.gap()(k.conv(5, 1, activation=None)(x))


def conv_then_max(k, x):
    return k.gmp()(k.conv(5, 1, activation=None)(x))


def conv_of_the_window(k, x):
    return k.flatten()(k.conv(5, _sizes(k, x)[:2], activation=None)(x))


def mobilenet(k, x):
    y = k.gap()(x)
    y = layers.Reshape((4, 1, 1) if k.axis == 1 else (1, 1, 4))(y)
    y = k.conv(5, 1, activation=None)(layers.Dropout(0.1)(y))
    return layers.Reshape((5,))(y)


def mobilenet_v3(k, x):
    y = k.conv(6, 1, activation=None)(k.gap(keepdims=True)(x))
    y = y * ops.relu6(y + 3.0) / 6.0
    return layers.Flatten()(k.conv(5, 1, activation=None)(y))


def pool_then_softmax(k, x):
    return layers.Softmax()(k.gap()(k.conv(5, 1, activation=None)(x)))


@pytest.mark.numerical
@pytest.mark.parametrize("data_format", [LAST, pytest.param(FIRST, marks=pytest.mark.skipif(
    nets.cannot_run(FIRST), reason=nets.NO_CHANNELS_FIRST))])  # fmt: skip
@pytest.mark.parametrize(
    "head", [conv_then_pool, conv_then_max, conv_of_the_window, mobilenet, mobilenet_v3, pool_then_softmax]
)
def test_heads_without_a_dense(head, data_format):
    keras.utils.set_random_seed(5)
    k = nets.Kit(2, data_format)
    x = k.input(WINDOW)
    check(nets.prepare(keras.Model(x, head(k, trunk(k, x))), data_format=data_format), data_format)


# ------------------------------------------------------------------------------------ several of something
def two_depths(k, x):
    deep = k.conv(6, 2, strides=2)(x)
    return layers.Concatenate()([k.gap()(x), k.gmp()(deep)])


def two_flattened(k, x):
    return layers.Concatenate()([k.flatten()(x), k.flatten()(k.conv(3, 2, strides=2)(x))])


def two_flattened_by_ops(k, x):
    return ops.concatenate([ops.reshape(x, (-1, int(np.prod(x.shape[1:])))), k.gap()(x)], axis=-1)


def vectors_added(k, x):
    return layers.Add()([layers.Dense(6)(k.flatten()(x)), layers.Dense(6)(k.gap()(x))])


def vectors_of_every_merge(k, x):
    a, b = (layers.Dense(6, "tanh")(k.flatten()(x)) for _ in range(2))
    merged = [m()([a, b]) for m in (layers.Average, layers.Maximum, layers.Minimum, layers.Subtract, layers.Multiply)]
    return layers.Concatenate()(merged)


def a_dense_used_twice(k, x):
    shared = layers.Dense(4, "tanh")
    return layers.Concatenate()([shared(k.gap()(x)), shared(k.gmp()(x))])


@pytest.mark.numerical
@pytest.mark.parametrize(
    "head",
    [two_depths, two_flattened, two_flattened_by_ops, vectors_added, vectors_of_every_merge, a_dense_used_twice],
)
def test_branches_of_a_head(head):
    check(build(head))


def test_branches_of_a_head_channels_first():
    if nets.cannot_run(FIRST):
        pytest.skip(nets.NO_CHANNELS_FIRST)
    check(build(two_depths, FIRST), FIRST)


def test_a_convolution_used_twice_is_converted_once():
    k = nets.Kit(2)
    x = k.input(WINDOW)
    shared = layers.Conv2D(3, 3, padding="same", activation="relu", name="shared")
    model = nets.prepare(keras.Model(x, layers.Dense(3)(layers.Flatten()(shared(shared(x))))))
    fcn = fullyconv.convert(model)
    assert [layer.name for layer in fcn.model.layers].count("shared") == 1
    assert fcn.model.count_params() == model.count_params()
    nets.check_native(model, fcn)


def _outputs():
    k = nets.Kit(2)
    x = k.input(WINDOW)
    early = trunk(k, x)
    late = k.conv(6, 2, strides=2)(early)
    return x, layers.Dense(3, name="early")(k.gap()(early)), layers.Dense(2, name="late")(k.flatten()(late))


@pytest.mark.numerical
@pytest.mark.parametrize("structure", [list, tuple, dict])
def test_several_outputs_of_different_depth(structure):
    x, early, late = _outputs()
    outputs = {"a": early, "b": late} if structure is dict else structure([early, late])
    model = nets.prepare(keras.Model(x, outputs))
    fcn = check(model)
    keras.tree.assert_same_structure(model.output, fcn.model.output)
    keras.tree.assert_same_structure(model.output, fcn.predict(nets.images(WINDOW, 3)))
    assert fcn.grids["a"].stride == (2, 2) if structure is dict else len(fcn.grids) == 2
    assert [grid.stride for grid in keras.tree.flatten(fcn.grids)] == [(2, 2), (4, 4)]


def test_one_output_in_a_list_stays_in_a_list():
    x, early, _ = _outputs()
    assert isinstance(check(nets.prepare(keras.Model(x, [early]))).model.output, list)


def test_grid_of_several_outputs_is_refused_by_name():
    x, early, late = _outputs()
    fcn = fullyconv.convert(keras.Model(x, [early, late]))
    with pytest.raises(fullyconv.FullyConvError, match=r"grids"):
        _ = fcn.grid


@pytest.mark.numerical
def test_a_second_input_is_broadcast_to_every_cell():
    k = nets.Kit(2)
    x, facts = k.input(WINDOW), keras.Input((3,), name="facts")
    joined = layers.Concatenate()([k.flatten()(trunk(k, x)), layers.Dense(4, "relu")(facts)])
    model = nets.prepare(keras.Model([x, facts], layers.Dense(5)(layers.Dense(6, "relu")(joined))))
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn)
    image, vector = nets.images((18, 15), 3), np.array([[0.5, -1, 2]], "float32")
    have = fcn.predict([image, vector])[0, :3, :3]
    cut = nets.windows(image[0], WINDOW, (2, 2), LAST)
    want = nets.run(model, [cut, np.repeat(vector, len(cut), 0)])
    assert have.shape == (3, 3, 5)
    nets.equal(want, have.reshape(-1, 5), float(np.ptp(want)))


@pytest.mark.numerical
def test_two_images():
    k = nets.Kit(2)
    a, b = keras.Input((*WINDOW, 3), name="a"), keras.Input((*WINDOW, 1), name="b")
    joined = layers.Concatenate()([trunk(k, a), trunk(k, b)])
    model = nets.prepare(keras.Model({"a": a, "b": b}, layers.Dense(5)(k.flatten()(joined))))
    fcn = fullyconv.convert(model)
    nets.check_native(model, fcn)
    sizes = {"a": nets.images((17, 15), 3), "b": nets.images((17, 15), 1)}
    assert fcn.predict(sizes).shape == (1, *fcn.grid.cells((17, 15)), 5)


# ------------------------------------------------------------------------------------ nesting, operations, context
def _nested_functional():
    k = nets.Kit(2)
    inner_in = k.input(WINDOW)
    inner = keras.Model(inner_in, trunk(k, inner_in), name="backbone")
    x = k.input(WINDOW)
    head = keras.Sequential([layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(4)], name="head")
    return keras.Model(x, head(inner(x)))


def _nested_without_sizes():
    inner_in = keras.Input((None, None, 3))
    inner = keras.Model(inner_in, trunk(nets.Kit(2), inner_in), name="backbone")
    return keras.Sequential([keras.Input((*WINDOW, 3)), inner, layers.Flatten(), layers.Dense(4)])


def _nested_three_deep():
    one = keras.Sequential([keras.Input((*WINDOW, 3)), layers.Conv2D(4, 3, name="conv")], name="one")
    two = keras.Sequential([one, layers.Conv2D(4, 2, activation="relu", name="conv")], name="two")
    return keras.Sequential([two, layers.MaxPooling2D(2, name="pool"), layers.Flatten(), layers.Dense(4, name="conv")])


def _same_backbone_twice():
    inner_in = keras.Input((None, None, 3))
    inner = keras.Model(inner_in, layers.Conv2D(3, 3, padding="same", activation="relu")(inner_in), name="block")
    x = keras.Input((*WINDOW, 3))
    return keras.Model(x, layers.Dense(4)(layers.Flatten()(inner(inner(x)))))


@pytest.mark.numerical
@pytest.mark.parametrize("make", [_nested_functional, _nested_without_sizes, _nested_three_deep])
def test_nested_models(make):
    keras.utils.set_random_seed(5)
    check(nets.prepare(make()))


@pytest.mark.numerical
def test_a_nested_model_used_twice():
    keras.utils.set_random_seed(5)
    model = nets.prepare(_same_backbone_twice())
    fcn = fullyconv.convert(model)
    assert fcn.model.count_params() == model.count_params()
    nets.check_native(model, fcn)


@pytest.mark.numerical
def test_a_trunk_of_operations():
    k = nets.Kit(2)
    x = k.input(WINDOW)
    y = ops.relu(x / 2.0 - 0.25)
    y = k.conv(4, 3)(y)
    y = ops.concatenate([y, ops.abs(y) * 0.5], axis=-1) + ops.max(y, axis=-1, keepdims=True)
    model = nets.prepare(keras.Model(x, layers.Dense(4)(ops.mean(y, axis=(1, 2)))))
    check(model)


@pytest.mark.numerical
def test_padding_by_an_operation():
    x = keras.Input((*WINDOW, 3))
    y = layers.Conv2D(4, 3, strides=2)(ops.pad(x, ((0, 0), (1, 1), (0, 2), (0, 0))))
    model = nets.prepare(keras.Model(x, layers.Dense(4)(layers.Flatten()(y))))
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "native"
    nets.check_native(model, fcn)


def test_a_window_that_is_told():
    """A model of unknown size is converted for the size it was trained on."""
    k = nets.Kit(2)
    x = keras.Input((None, None, 3))
    model = nets.prepare_at(keras.Model(x, layers.Dense(4)(k.gap()(trunk(k, x)))), WINDOW)
    fcn = fullyconv.convert(model, window=WINDOW)
    assert fcn.grid.window == WINDOW
    image = nets.images((18, 15), 3)
    want = nets.answers(model, image[0], WINDOW, (2, 2), LAST)
    nets.equal(want, fcn.predict(image)[0, :3, :3], float(np.ptp(want)))


def test_random_augmentation_is_left_out():
    model = keras.Sequential([
        keras.Input((*WINDOW, 3)), layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1),
        layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(4)])  # fmt: skip
    fcn = check(nets.prepare(model))
    assert not any("Random" in type(layer).__name__ for layer in fcn.model.layers)


@pytest.mark.numerical
@pytest.mark.parametrize("context", ["window", "global"])
@pytest.mark.parametrize("trunk_name", ["excite"])
def test_squeeze_and_excite(trunk_name, context):
    model = nets.classifier(trunk_name)
    fcn = fullyconv.convert(model, context=context)
    assert fcn.exactness == "approximate"
    nets.check_native(model, fcn)


def _context_by_add_of_a_vector(k, x):
    weights = layers.Reshape((1, 1, 4))(layers.Dense(4, "tanh")(k.gap()(x)))
    return k.flatten()(layers.Add()([x, weights]))


def _context_by_ops(k, x):
    return k.flatten()(x * ops.sigmoid(ops.mean(x, axis=(1, 2), keepdims=True)))


@pytest.mark.numerical
@pytest.mark.parametrize("context", ["window", "global"])
@pytest.mark.parametrize("head", [_context_by_add_of_a_vector, _context_by_ops])
def test_contexts_of_other_kinds(head, context):
    model = build(head)
    nets.check_native(model, fullyconv.convert(model, context=context))


def test_context_window_is_the_formula_of_the_contract():
    """Position p uses the pooled cell clip(floor((p - (n - q) // 2) / q), 0, last)."""
    k = nets.Kit(1)
    x = k.input((12,), channels=2)
    y = k.conv(3, 1, activation=None)(x)
    y = y * ops.mean(y, axis=1, keepdims=True)
    y = k.conv(3, 2, strides=2, activation=None)(y)
    model = nets.prepare(keras.Model(x, layers.Dense(2)(k.flatten()(y))))
    fcn, image = fullyconv.convert(model), nets.images((20,), 2)
    conv1, conv2, dense = (layer for layer in model.layers if layer.weights)
    m = nets.run(conv1, image)[0]
    n, q = 12, 2
    pooled = np.stack([m[i : i + n].mean(0) for i in range(0, 20 - n + 1, q)])
    cell = np.clip((np.arange(20) - (n - q) // 2) // q, 0, len(pooled) - 1)
    z = nets.run(conv2, (m * pooled[cell])[None])[0]
    want = nets.run(dense, np.stack([z[i : i + 6].reshape(-1) for i in range(len(z) - 5)]))
    nets.equal(want, fcn.predict(image)[0], float(np.ptp(want)))


# ------------------------------------------------------------------------------------ the options
def test_pool_drop_gives_a_class_activation_map():
    """The mean of a linear head's map over the window is the classifier's logit."""
    model = build(gap)
    fcn = fullyconv.convert(model, pool="drop")
    image = nets.images(WINDOW, 3)
    have = fcn.predict(image)
    assert have.shape == (1, 5, 4, 4)
    want = nets.run(model, image)
    nets.equal(want, have.mean((1, 2)), float(np.ptp(want)))
    assert not any("Pooling" in type(layer).__name__ for layer in fcn.model.layers[3:])


def test_pool_global_gives_one_answer_an_image():
    model = build(gap)
    fcn = fullyconv.convert(model, pool="global")
    nets.check_native(model, fcn)
    image = nets.images((20, 18), 3)
    maps = nets.run(fullyconv.convert(model, pool="drop").model, image).mean((1, 2))
    have = fcn.predict(image)
    assert have.size == 4
    nets.equal(maps.reshape(1, 4), have.reshape(1, 4), float(np.ptp(maps)))
    assert fcn.grid.cells((20, 18)) == (1, 1)


def test_until_gives_the_map_of_a_layer():
    k = nets.Kit(2)
    x = k.input(WINDOW)
    y = k.conv(4, 3, name="here")(trunk(k, x))
    model = nets.prepare(keras.Model(x, layers.Dense(4)(k.flatten()(y))))
    fcn = fullyconv.convert(model, until="here")
    image = nets.images(WINDOW, 3)
    want = nets.run(keras.Model(x, y), image)
    nets.equal(want, nets.run(fcn.model, image), float(np.ptp(want)))
    assert fcn.grid.stride == (2, 2)


@pytest.mark.parametrize("rules", ["mine"])
def test_a_rule_of_the_users_own(rules):
    @keras.saving.register_keras_serializable("tests")
    class Halve(keras.Layer):
        def build(self, shape):
            self.half = self.add_weight(shape=(), name="half", initializer="ones", trainable=False)

        def call(self, x):
            return x * self.half / 2

    x = keras.Input((*WINDOW, 3))
    model = nets.prepare(keras.Model(x, layers.Dense(3)(layers.Flatten()(Halve()(layers.Conv2D(3, 3)(x))))))
    with pytest.raises(fullyconv.UnsupportedLayerError, match=r"Halve"):
        fullyconv.plan(model)
    from fullyconv.rules import RULES

    check(model, rules={Halve: RULES[layers.ReLU]})
    assert Halve not in RULES
