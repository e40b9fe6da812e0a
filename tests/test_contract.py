"""The contract, C1 to C5, on small networks of ranks 1 to 3 in both data formats."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
import nets

# Every trunk in every rank with channels last; channels first in rank 2, and two of the trunks in the other ranks. JAX
# compiles every one of them anew: there channels first is left to those two.
TWO = ("valid", "strided_same")
CASES = [
    (name, rank, data_format)
    for name, trunk in nets.TRUNKS.items()
    for rank in trunk.ranks
    for data_format in nets.FORMATS
    if data_format == "channels_last" or name in TWO or (rank == 2 and nets.BACKEND != "jax")
]


def cases(*, exact: bool | None = None, source_differs: bool = False) -> list:
    """The cases as test parameters, marked where a backend cannot run the source, or computes it otherwise."""
    chosen = [c for c in CASES if exact is None or (nets.TRUNKS[c[0]].exactness == "exact") == exact]
    return [_case(*c, source_differs) for c in chosen]


def _case(name, rank, data_format, source_differs):
    marks = [pytest.mark.skip(reason=nets.NO_CHANNELS_FIRST)] if nets.cannot_run(data_format) else []
    if (
        source_differs and nets.BACKEND == "torch" and name == "average_same" and rank > 1
    ):  # in rank 1 its pads do not show
        marks.append(pytest.mark.xfail(raises=AssertionError, reason=nets.UNEVEN_AVERAGE))
    return pytest.param(name, rank, data_format, marks=marks, id=f"{name}-{rank}d-{data_format[9:]}")


@functools.cache
def converted(name: str, rank: int, data_format: str):
    model = nets.classifier(name, rank, data_format)
    return model, fullyconv.convert(model)


@pytest.mark.numerical
@pytest.mark.parametrize(("name", "rank", "data_format"), cases(source_differs=True))
def test_c1_one_cell_at_the_window_equal_to_the_classifier(name, rank, data_format):
    nets.check_native(*converted(name, rank, data_format), data_format)


@pytest.mark.numerical
@pytest.mark.parametrize(("name", "rank", "data_format"), cases(exact=True))
def test_c2_every_window_of_an_exact_net_equals_the_classifier(name, rank, data_format, tally):
    model, fcn = converted(name, rank, data_format)
    tally(nets.check_windows(model, fcn, data_format, extra=(9, 6, 3)[:rank]))


@pytest.mark.parametrize(("name", "rank", "data_format"), cases())
def test_c4_the_exactness_of_a_trunk(name, rank, data_format):
    grid = fullyconv.plan(nets.classifier(name, rank, data_format)).grids
    assert grid.exactness == nets.TRUNKS[name].exactness
    assert bool(grid.reasons) == (grid.exactness != "exact")


def test_c4_the_reasons_name_the_layers_that_pad():
    x = keras.Input((17, 15, 3))
    y = layers.Conv2D(4, 3, padding="same", name="pads")(layers.Conv2D(4, 3, name="does_not")(x))
    grid = fullyconv.plan(keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))).grids
    assert grid.exactness == "native"
    assert any("pads" in reason for reason in grid.reasons)
    assert not any("does_not" in reason for reason in grid.reasons)


def test_c4_same_padding_that_pads_nothing_is_exact():
    x = keras.Input((16, 12, 3))
    y = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(4, 1, padding="same")(x))
    model = nets.prepare(keras.Model(x, layers.Dense(2)(layers.Flatten()(y))))
    fcn = fullyconv.convert(model)
    assert fcn.exactness == "exact"
    nets.check_windows(model, fcn, extra=5)


def test_c4_a_padded_net_differs_from_its_windows():
    """The reason for the word: a zero-padded net's map does not equal the classifier on its crops."""
    model, fcn = converted("same", 2, "channels_last")
    with pytest.raises(AssertionError, match=r"off by"):
        nets.check_windows(model, fcn, extra=6)


@pytest.mark.parametrize("trunk", ["valid", "strided_same", "average_same", "excite"])
def test_c2_the_grid_counts_the_cells_of_the_map(trunk):
    model, fcn = converted(trunk, 2, "channels_last")
    for extra in range(1, 2 * fcn.grid.stride[0] + 2, 3):
        size = (model.input.shape[1] + extra, model.input.shape[2] + 3)
        y = fcn.predict(nets.images(size, 3))
        assert y.shape[1:-1] == fcn.grid.cells(size)
        windows = tuple((n - w) // s + 1 for n, w, s in zip(size, fcn.grid.window, fcn.grid.stride, strict=True))
        assert fcn.grid.windows_inside(size) == windows


def test_c2_boxes_of_cells_are_the_windows():
    _, fcn = converted("valid", 2, "channels_last")
    assert fcn.grid.window == (22, 19)
    assert fcn.grid.stride == (4, 4)
    assert fcn.grid.cell_to_box((0, 0)) == ((0, 22), (0, 19))
    assert fcn.grid.cell_to_box((2, 1)) == ((8, 30), (4, 23))
    assert fcn.grid.box_to_cells(((8, 34), (0, 23))) == ((2, 4), (0, 2))


# Hand-computed: conv 3, pool 2, conv 2, pool 2 over a flattened map of 5 (of 4, of 9) cells at stride 4.
@pytest.mark.parametrize(("rank", "field"), [(1, (36,)), (2, (20, 16)), (3, (12, 8, 12))])
def test_the_receptive_field_by_hand(rank, field):
    grid = converted("valid", rank, "channels_last")[1].grid
    assert tuple(high - low for low, high in grid.receptive_field) == field
    assert all(low == 0 for low, _ in grid.receptive_field)


def _linear(x):
    y = layers.Conv1D(1, 3, strides=2, padding="same")(x)
    y = layers.AveragePooling1D(3, 2, padding="same")(y)
    y = layers.Conv1D(1, 2, dilation_rate=2, padding="same")(y)
    return layers.GlobalAveragePooling1D()(y)


def test_the_receptive_field_is_the_measured_one():
    """Each pixel of a net of positive weights is nudged: exactly the pixels of the field move the cell."""
    keras.utils.set_random_seed(0)
    x = keras.Input((30, 1))
    model = keras.Model(x, layers.Dense(1)(_linear(x)))
    for variable in model.weights:
        variable.assign(np.full(variable.shape, 0.5, "float32"))
    fcn, n, cell = fullyconv.convert(model), 62, 3
    batch = np.concatenate([np.zeros((1, n, 1)), np.eye(n)[..., None]]).astype("float32")
    y = nets.run(fcn.model, batch)[:, cell, 0]
    moved = np.flatnonzero(np.abs(y[1:] - y[0]) > 1e-7)
    low, high = fcn.grid.cell_to_box((cell,), field=True)[0]
    assert 0 < low < high < n
    assert (moved[0], moved[-1] + 1) == (low, high)


def test_c3_an_input_smaller_than_the_window_is_refused():
    model, fcn = converted("strided_same", 2, "channels_last")
    with pytest.raises(fullyconv.InputTooSmallError, match=r"22 x 19"):
        fcn.predict(nets.images((21, 40), 3))
    with pytest.raises(fullyconv.InputTooSmallError, match=r"22 x 19"):
        fcn(nets.images((22, 18), 3))


def _variables(model):
    return {id(v) for v in model.variables}


def test_c5_nothing_is_shared_with_the_source_and_the_source_is_unchanged():
    model = nets.classifier("residual")
    before = [np.array(nets.to_numpy(v)) for v in model.weights]
    config, nodes = model.get_config(), [len(layer._inbound_nodes) for layer in model.layers]
    fcn = fullyconv.convert(model)
    assert not _variables(model) & _variables(fcn.model)
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in fcn.model.layers}
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    assert model.get_config() == config
    for variable in fcn.model.weights:
        variable.assign(np.zeros(variable.shape, "float32"))
    assert all((nets.to_numpy(v) == b).all() for v, b in zip(model.weights, before, strict=True))


def test_c5_layers_keep_their_names_and_settings():
    x = keras.Input((12, 12, 3), name="picture")
    regular, limit = keras.regularizers.L2(0.01), keras.constraints.MaxNorm(2, axis=0)
    y = layers.Conv2D(4, 3, strides=2, padding="same", name="stem", trainable=False, kernel_regularizer=regular)(x)
    y = layers.Flatten(name="flat")(y)
    y = layers.Dense(6, "relu", name="hidden", kernel_constraint=limit, use_bias=False, kernel_initializer="he_normal")(
        y
    )
    model = keras.Model(x, layers.Dense(3, name="answer", bias_regularizer="l1")(y), name="net")
    fcn = fullyconv.convert(model).model
    stem, hidden, answer = (fcn.get_layer(name) for name in ("stem", "hidden", "answer"))
    assert fcn.name == "net"
    assert fcn.input.name == "picture"
    assert not stem.trainable
    assert stem.kernel_regularizer.l2 == pytest.approx(0.01)
    assert not hidden.use_bias
    assert isinstance(hidden.kernel_initializer, keras.initializers.HeNormal)
    assert (hidden.kernel_constraint.axis, hidden.kernel_constraint.max_value) == ([0, 1, 2], 2)
    assert isinstance(answer.bias_regularizer, keras.regularizers.L1)
    assert len(fcn.trainable_weights) == len(model.trainable_weights)


def test_c5_added_layers_never_take_a_name_that_is_taken():
    x = keras.Input((13, 12, 3))
    y = layers.ZeroPadding2D(1, name="conv1_pad")(x)
    y = layers.Conv2D(4, 3, strides=2, padding="same", name="conv1")(y)
    model = nets.prepare(keras.Model(x, layers.Dense(3)(layers.Flatten()(y))))
    fcn = fullyconv.convert(model)
    assert isinstance(fcn.model.get_layer("conv1_pad"), layers.ZeroPadding2D)
    nets.check_native(model, fcn)


def test_c5_compile_state_is_not_carried():
    model = nets.classifier("valid")
    model.compile("sgd", "mse")
    assert not fullyconv.convert(model).model.compiled


def test_the_plain_model_has_unknown_spatial_sizes():
    fcn = converted("same", 2, "channels_last")[1]
    assert type(fcn.model).__module__.startswith("keras.")
    assert fcn.model.input_shape == (None, None, None, 3)
    assert fcn.model.output_shape == (None, None, None, 5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_c1_mixed_precision(policy):
    keras.utils.set_random_seed(1)
    x = keras.Input((12, 11, 3))
    y = layers.Conv2D(8, 3, activation="relu", padding="same", strides=2, dtype=policy)(x)
    y = layers.Dense(4, dtype="float32")(layers.Dense(6, "relu", dtype=policy)(layers.Flatten(dtype=policy)(y)))
    model = nets.prepare(keras.Model(x, y))
    fcn = fullyconv.convert(model)
    assert fcn.model.get_layer(model.layers[1].name).dtype_policy.name == policy
    nets.check_native(model, fcn, policy=policy)


@pytest.mark.numerical
def test_verify_says_what_the_contract_asks():
    for trunk in ("valid", "strided_same", "excite"):
        model, fcn = converted(trunk, 2, "channels_last")
        verification = fullyconv.verify(model, fcn)
        assert verification.ok, trunk
        assert verification.native_error <= 1e-5
        assert (verification.window_error <= 1e-5) == (fcn.exactness == "exact")


def test_verify_fails_on_a_wrong_weight():
    model = nets.classifier("valid")
    fcn = fullyconv.convert(model)
    kernel = fcn.model.layers[1].kernel
    kernel.assign(nets.to_numpy(kernel) * 1.01)
    assert not fullyconv.verify(model, fcn).ok


@pytest.mark.numerical
def test_the_reference_is_the_classifier_on_every_window():
    model, _ = converted("valid", 2, "channels_last")
    image = nets.images((27, 24), 3)[0]
    given = fullyconv.reference(model, image, (2, 3))
    want = nets.answers(model, image, (22, 19), (2, 3), "channels_last")
    nets.equal(want, np.asarray(given).reshape(want.shape), float(np.ptp(want)))
