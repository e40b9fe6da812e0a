"""What networks cost: known totals, work counted by hand, plans as the networks they become, and all messages."""

import math

import keras
import numpy as np
import pytest
from keras import layers

import fullyconv
from fullyconv import units


def sequential(shape, *stack, name="net"):
    return keras.Sequential([keras.Input(shape), *stack], name=name)


def error(function, *args, kind=fullyconv.GeometryError, **kwargs):
    """The message of the failure that is expected."""
    with pytest.raises(kind, match=r"\w") as caught:
        function(*args, **kwargs)
    return str(caught.value)


def small():
    """A classifier of windows of 12 x 12 with a stride of 4."""
    return sequential(
        (12, 12, 3),
        layers.Conv2D(8, 3, padding="same", activation="relu", name="conv"),
        layers.MaxPooling2D(2, name="pool"),
        layers.BatchNormalization(name="norm"),
        layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="strided"),
        layers.Flatten(name="flatten"),
        layers.Dense(5, name="logits"),
    )


def excited(data_format="channels_last"):
    """A residual classifier with squeeze-and-excite and two heads at different strides."""
    shape = (16, 16, 3) if data_format == "channels_last" else (3, 16, 16)
    order = {"data_format": data_format}
    x = keras.Input(shape)
    y = layers.Conv2D(8, 3, strides=2, padding="same", name="stem", **order)(x)
    s = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze", **order)(y)
    s = layers.Conv2D(2, 1, activation="relu", name="reduce", **order)(s)
    y = layers.Multiply()([y, layers.Conv2D(8, 1, activation="sigmoid", name="expand", **order)(s)])
    early = layers.Dense(2, name="early")(layers.GlobalMaxPooling2D(**order)(y))
    z = layers.SeparableConv2D(8, 3, strides=2, padding="same", name="separable", **order)(y)
    shortcut = layers.Conv2D(8, 1, strides=2, name="shortcut", **order)(y)
    late = layers.Dense(3, name="late")(layers.GlobalAveragePooling2D(**order)(layers.Add()([z, shortcut])))
    return keras.Model(x, [early, late], name="excited")


# ------------------------------------------------------------------------------------------------------- known totals


@pytest.fixture
def zeros(monkeypatch):
    """Weights are made of zeros, which takes no time."""
    original = layers.Layer.add_weight

    def add_weight(self, *args, **kwargs):
        return original(self, *args, **kwargs | {"initializer": "zeros"})

    monkeypatch.setattr(layers.Layer, "add_weight", add_weight)


@pytest.mark.parametrize(
    ("name", "least", "most", "parameters"),
    [
        ("VGG16", 15.4e9, 15.6e9, 138_357_544),
        ("ResNet50", 3.85e9, 4.1e9, 25_636_712),
        ("MobileNet", 0.565e9, 0.575e9, 4_253_864),
        ("EfficientNetB0", 0.38e9, 0.40e9, 5_330_571),
    ],
)
def test_known_totals(zeros, name, least, most, parameters):
    model = getattr(keras.applications, name)(weights=None)
    found = fullyconv.cost(model)
    assert least < found.multiply_adds < most
    assert found.parameters == parameters == model.count_params()
    assert (found.size, found.uncounted) == ((224, 224), ())
    planned = fullyconv.plan(model)
    assert planned.cost().multiply_adds == found.multiply_adds
    if name == "VGG16":  # ../shared/design/speed.md: 92.6 G for 512 x 512, 16.7 times less than its 100 windows
        assert planned.cost(512).multiply_adds == pytest.approx(92.6e9, rel=2e-3)
        assert planned.speedup(512) == pytest.approx(16.7, abs=0.05)
        assert found.peak_activation == 2 * 224 * 224 * 64 * 4


# ------------------------------------------------------------------------------------------------------ counted by hand


class Doubled(layers.Layer):
    """A layer that nobody knows."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(), name="factor")

    def call(self, x):
        return x * self.factor


@pytest.mark.parametrize(
    ("shape", "layer", "multiply_adds"),
    [
        ((9, 7, 4), layers.Conv2D(6, (3, 2), padding="same"), 9 * 7 * 6 * (3 * 2 * 4)),
        ((9, 7, 4), layers.Conv2D(6, 3, strides=2, groups=2), 4 * 3 * 6 * (3 * 3 * 2)),
        ((9, 7, 4), layers.Conv2D(6, 3, dilation_rate=2), 5 * 3 * 6 * (3 * 3 * 4)),
        ((20, 4), layers.Conv1D(6, 3), 18 * 6 * (3 * 4)),
        ((5, 6, 7, 4), layers.Conv3D(6, 2), 4 * 5 * 6 * 6 * (2 * 2 * 2 * 4)),
        ((9, 7, 4), layers.DepthwiseConv2D(3, depth_multiplier=2), 7 * 5 * 8 * (3 * 3)),
        ((9, 7, 4), layers.SeparableConv2D(6, 3, depth_multiplier=2), 7 * 5 * (8 * 3 * 3 + 6 * 8)),
        ((20, 4), layers.SeparableConv1D(6, 3), 18 * (4 * 3 + 6 * 4)),
        ((9, 7, 4), layers.Conv2DTranspose(6, 3, strides=2), 9 * 7 * 4 * (3 * 3 * 6)),
        ((4, 9, 7), layers.Conv2D(6, 3, data_format="channels_first"), 7 * 5 * 6 * (3 * 3 * 4)),
        ((9, 7, 4), layers.Dense(6), 9 * 7 * 6 * 4),
        ((9, 4), layers.EinsumDense("abc,cd->abd", output_shape=(9, 6)), 9 * 6 * 4),
        ((9, 7, 4), layers.EinsumDense("...x,xy->...y", output_shape=6), 9 * 7 * 6 * 4),
        ((9, 4), layers.EinsumDense("abc,bcd->ad", output_shape=6), 6 * 9 * 4),
        ((9, 7, 4), layers.BatchNormalization(), 0),
        ((9, 7, 4), layers.PReLU(), 0),
    ],
)
def test_layers_counted_by_hand(shape, layer, multiply_adds):
    model = sequential(shape, layer)
    found = fullyconv.cost(model)
    assert (found.multiply_adds, found.additions, found.uncounted) == (multiply_adds, 0, ())
    assert found.parameters == model.count_params()
    assert found.layers[-1].shape == (1, *model.output_shape[1:])


@pytest.mark.parametrize(
    ("layer", "additions"),
    [
        (layers.MaxPooling2D(2), 4 * 3 * 4 * 4),
        (layers.AveragePooling2D(3, strides=1, padding="same"), 9 * 7 * 4 * 9),
        (layers.GlobalMaxPooling2D(), 9 * 7 * 4),
        (layers.AdaptiveAveragePooling2D(1), 9 * 7 * 4),
    ],
)
def test_poolings_are_counted_apart(layer, additions):
    found = fullyconv.cost(sequential((9, 7, 4), layer))
    assert (found.multiply_adds, found.additions) == (0, additions)


def test_operations():
    x = keras.Input((9, 7, 4))
    y = keras.ops.matmul(keras.ops.mean(x, axis=(1, 2)), np.ones((4, 6), "float32"))
    found = fullyconv.cost(keras.Model(x, y))
    assert (found.multiply_adds, found.additions) == (4 * 6, 9 * 7 * 4)


def test_what_is_not_understood_is_named():
    model = sequential((9, 4), layers.LSTM(3, name="lines"), Doubled(name="mine"), layers.Dense(2, name="logits"))
    found = fullyconv.cost(model)
    assert (found.multiply_adds, found.uncounted) == (3 * 2, ("lines", "mine"))
    assert str(found) == "6 multiply-adds, 105 parameters, 156 B of activations for 9; without lines, mine"


def test_a_shared_layer_has_its_parameters_once():
    x, shared = keras.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same", name="twice")
    found = fullyconv.cost(keras.Model(x, shared(shared(x))))
    assert found.multiply_adds == 2 * (8 * 8 * 4 * 3 * 3 * 4)
    assert found.parameters == 3 * 3 * 4 * 4 + 4
    assert [layer.parameters for layer in found.layers if layer.name == "twice"] == [148, 0]


def test_the_peak_keeps_what_is_still_read():
    x = keras.Input((10, 10, 1), dtype="float16")
    a = layers.Conv2D(3, 1, dtype="float16", name="a")(x)  # x 200 bytes, a 600
    b = layers.Conv2D(5, 1, dtype="float16", name="b")(a)  # a, b 1000; x is not read again
    c = layers.Conv2D(3, 1, dtype="float16", name="c")(b)  # a, b, c 600: the peak
    found = fullyconv.cost(keras.Model(x, layers.Add(dtype="float16")([a, c])))
    assert found.peak_activation == 600 + 1000 + 600
    assert [layer.activation for layer in found.layers] == [600, 1000, 600, 600]


# -------------------------------------------------------------------------------------------------------------- plans

SUMS = ("multiply_adds", "additions", "parameters", "peak_activation", "uncounted")


@pytest.mark.parametrize(
    ("build", "stride"),
    [(small, 1), (small, 2), (excited, None), (excited, 2), (lambda: excited("channels_first"), 1)],
)
def test_a_plan_costs_what_the_network_does(build, stride):
    planned = fullyconv.plan(build(), stride=stride)
    fcn = fullyconv.convert(planned)
    for size in (None, 21, (24, 19)):
        expected, found = fullyconv.cost(fcn, size), fullyconv.cost(planned, size)
        assert {name: getattr(found, name) for name in SUMS} == {name: getattr(expected, name) for name in SUMS}
    assert found.parameters == fcn.model.count_params()


def test_shapes_are_those_of_the_network_that_runs():
    planned = fullyconv.plan(small(), stride=2)
    shapes = {layer.name: layer.shape for layer in planned.cost((21, 30)).layers}
    assert shapes["conv"] == (1, 21, 30, 8)
    assert shapes["strided"][0] == 4, "fragments are in the batch"
    out = fullyconv.convert(planned).predict(np.zeros((1, 21, 30, 3), "float32"))
    assert list(shapes.values())[-1] == out.shape


def test_nothing_is_built(monkeypatch):
    planned = fullyconv.plan(excited())

    def refuse(*args, **kwargs):
        raise AssertionError("a weight was created")

    monkeypatch.setattr(keras.layers.Layer, "add_weight", refuse)
    assert [row.stride for row in planned.strides(40)] == [(2, 2), (1, 1)]


def test_what_no_output_needs_is_left_out():
    found = fullyconv.plan(small(), until="pool").cost(20)
    assert [layer.name for layer in found.layers] == ["conv", "pool"]
    assert (found.multiply_adds, found.parameters) == (20 * 20 * 8 * 27, 8 * 27 + 8)


def test_work_of_each_step():
    planned = fullyconv.plan(small())
    work = dict(zip((step.name for step in planned.steps), planned.work(planned.cost(20)), strict=True))
    assert work == {
        "conv": 20 * 20 * 8 * 27,
        "pool": 0,
        "norm": 0,
        "strided": 5 * 5 * 16 * 72,
        "flatten": 0,
        "logits": 3 * 3 * 5 * (3 * 3 * 16),
    }


# ------------------------------------------------------------------------------------------------------------ strides


def test_strides_and_what_lies_beside_them():
    planned = fullyconv.plan(small())
    rows = planned.strides((20, 24))
    window, plain = planned.cost().multiply_adds, planned.cost((20, 24)).multiply_adds
    assert window == fullyconv.cost(planned.model).multiply_adds
    assert [row.stride for row in rows] == [(4, 4), (2, 2), (1, 1)]
    assert [row.cells for row in rows] == [(3, 4), (5, 7), (9, 13)]
    assert [row.windows for row in rows] == [12 * window, 35 * window, 117 * window]
    assert [row.shift_and_stitch for row in rows] == [None, 4 * plain, 16 * plain]
    for k, row in zip((4, 2, 1), rows, strict=True):
        assert row.cost == fullyconv.plan(small(), stride=k).cost((20, 24))
        assert row.speedup == row.windows / row.cost.multiply_adds
        assert fullyconv.plan(small(), stride=k).speedup((20, 24)) == row.speedup
    denser = rows[1:]
    assert all(plain < row.cost.multiply_adds < min(row.shift_and_stitch, row.windows) for row in denser)


def test_a_plan_of_a_stride_has_it_among_the_strides():
    planned = fullyconv.plan(small(), stride=(4, 1))
    assert [row.stride for row in planned.strides(20)] == [(4, 4), (4, 1), (2, 2), (1, 1)]
    assert planned.strides(20)[1].shift_and_stitch == 4 * fullyconv.plan(small()).cost(20).multiply_adds


def test_cells_that_are_no_windows():
    trunk = fullyconv.plan(small(), until="strided")
    assert [(row.cells, row.windows, row.speedup) for row in trunk.strides(20)] == [
        ((5, 5), None, None),
        ((10, 10), None, None),
        ((20, 20), None, None),
    ]
    whole = fullyconv.plan(excited(), pool="global")
    assert [(row.windows, row.shift_and_stitch) for row in whole.strides(20)] == [(None, None)]
    assert whole.speedup(20) is None


def test_a_stride_that_is_refused_says_why(monkeypatch):
    def rule(layer, x, *, site, **_):
        if site.dense is not None:
            from fullyconv.rules.rule import Decline

            raise Decline("is coarse on purpose")
        return x

    model = sequential((12, 12, 3), layers.MaxPooling2D(2), Doubled(name="mine"), layers.Flatten(), layers.Dense(5))
    first, second = fullyconv.plan(model, rules={Doubled: rule}).strides(20)
    assert (first.refused, first.stride) == ("", (2, 2))
    assert (second.refused, second.stride) == ("'mine' (Doubled) is coarse on purpose", (1, 1))
    assert (second.cost, second.speedup) == (None, None)


# ----------------------------------------------------------------------------------------------------------- messages


def test_a_size_the_classifier_cannot_read():
    assert error(fullyconv.cost, small(), 20) == (
        "'net' cannot read an image of 20 x 20: 'logits' (Dense) would get (400,).\n"
        "Give a size it reads (its input is 12 x 12), or its plan:  fullyconv.plan(model).cost((20, 20))"
    )
    pooled = sequential((12, 12, 3), layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(2))
    assert fullyconv.cost(pooled, 20).layers[0].shape == (1, 18, 18, 8)


def test_a_size_is_missing():
    model = sequential((None, None, 3), layers.Conv2D(4, 3))
    assert error(fullyconv.cost, model) == (
        "'net' reads images of any size, so its cost depends on one.\nGive it:  fullyconv.cost(model, size=(224, 224))"
    )
    assert fullyconv.cost(model, (9, 8)).multiply_adds == 7 * 6 * 4 * 27


@pytest.mark.parametrize("size", ["20x20", 20.0, (20, 20.5), (20,), 0, (-1, 20), True])
def test_a_size_that_is_none(size):
    message = (
        f"The size must be a whole number of pixels above 0, or 2 of them, one for each spatial axis, not {size!r}.\n"
        "Give size=224 or size=(224, 224), say."
    )
    assert error(fullyconv.cost, small(), size) == message
    assert error(fullyconv.plan(small()).cost, size) == message
    assert error(fullyconv.plan(small()).strides, size) == message


@pytest.mark.parametrize("cost", [lambda m: fullyconv.plan(m).cost, lambda m: fullyconv.convert(m).cost])
def test_a_size_below_the_window(cost):
    assert error(cost(small()), (12, 11), kind=fullyconv.InputTooSmallError) == (
        "The input is 12 x 11, smaller than the window of 12 x 12.\n"
        "The network was trained on 12 x 12: enlarge the image, or pad it, to at least that size."
    )


def test_what_has_no_graph():
    assert error(fullyconv.cost, "model.keras", kind=fullyconv.UnsupportedModelError) == (
        "Expected a keras.Model, but received a str.\nLoad it with keras.models.load_model."
    )


@pytest.mark.parametrize("window", ["8x8", 8.0, (8.0, 8.0), True])
def test_a_window_that_is_none(window):
    model = sequential((None, None, 3), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(2))
    text = error(fullyconv.plan, model, window=window, kind=fullyconv.WindowError)
    assert text == (
        "The window must be a whole number of pixels above 0, or 2 of them, one for each spatial axis, "
        f"not {window!r}.\nGive window=224 or window=(224, 224), say."
    )


@pytest.mark.parametrize("stride", [0, -1, 1.5, "2", (1, 0), (1,)])
def test_a_stride_of_windows_that_is_none(stride):
    text = error(fullyconv.reference, small(), np.zeros((20, 20, 3), "float32"), stride)
    assert text == (
        f"The stride must be a whole number of pixels above 0, or 2 of them, one for each spatial axis, not {stride!r}."
        "\nGive stride=32 or stride=(32, 32), say."
    )


def test_a_stride_of_a_signal_that_is_none():
    model = sequential((12, 3), layers.Conv1D(4, 3), layers.Flatten(), layers.Dense(2))
    assert error(fullyconv.plan, model, stride="1") == (
        "The stride must be a whole number of pixels above 0, not '1'.\nGive stride=8, say."
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (999_400, "999 k"), (999_600, "1.00 M"), (15_470_264_320, "15.5 G")],
)
def test_units(number, text):
    assert units.in_units(number) == text


def test_bytes():
    sizes = [0, 12, 1023, 1024**2 - 1, 25_690_112, 3 * 1024**4]
    assert [units.in_bytes(n) for n in sizes] == ["0 B", "12 B", "0.999 KiB", "1.00 MiB", "24.5 MiB", "3.00 TiB"]
    assert math.isclose(float(units.in_bytes(sizes[4]).split()[0]), 24.5)
