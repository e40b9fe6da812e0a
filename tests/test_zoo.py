"""Classifiers of `keras.applications`, and what users build on them. The whole zoo: `make zoo`."""

from __future__ import annotations

import functools

import keras
import pytest
from keras import applications, layers

import fullyconv
import nets
import zoo_nets

pytestmark = pytest.mark.skipif(
    nets.BACKEND != "openvino", reason="whole applications run on the default engine only: `make zoo` runs all of them"
)

SMALL = {
    "MobileNet": (64, "native"),
    "MobileNetV2": (64, "native"),
    "MobileNetV3Small": (64, "approximate"),
    "EfficientNetB0": (64, "approximate"),
    "DenseNet121": (32, "native"),
    "ResNet50V2": (32, "native"),
    "ConvNeXtTiny": (32, "native"),
    "VGG16": (32, "native"),
}


@pytest.mark.parametrize("name", SMALL)
def test_an_application(name, tally):
    window, exactness = SMALL[name]
    model = zoo_nets.prepared(name, window, classes=10) if name == "MobileNetV2" else trained(name, window)
    fcn = fullyconv.convert(model)
    assert fcn.exactness == exactness
    nets.check_native_in_the_engine(model, fcn)
    tally(at_two_sizes(fcn))


def at_two_sizes(fcn) -> int:
    """Compares cells at an odd distance from the field and at a stride's; gives their number."""
    compared = nets.Compared()
    stride = int(fcn.grid.stride[0])
    nets.compare_sizes(fcn, [1, stride], compared)
    assert compared.error <= nets.TOLERANCES["float32"].relative
    return compared.cells


# --------------------------------------------------------------------------------------------------------------------
# Transfer learning, as users build it
# --------------------------------------------------------------------------------------------------------------------
BASES = {"MobileNetV2": functools.partial(applications.MobileNetV2, alpha=0.35)}


@functools.cache
def trained(name: str, window: int) -> keras.Model:
    """An application with weights with which a broken trunk shows; the tests of one share a process."""
    if name not in BASES:
        return zoo_nets.prepared(name, window, classes=10)
    return nets.prepare(BASES[name](weights=None, include_top=False, input_shape=(window, window, 3)), count=2)


def base(name: str, window: int, sized: bool = True, **options) -> keras.Model:
    """Its layers before the head, for images of that size or of any, for a model to hold."""
    build = BASES.get(name) or getattr(applications, name)
    shape = (window, window, 3) if sized else (None, None, 3)
    made = build(weights=None, include_top=False, input_shape=shape, **options)
    made.set_weights(trained(name, window).get_weights()[: len(made.weights)])
    return made


def augmented(x):
    """What users put in front: augmentation in a model of its own, and a rescaling."""
    flips = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="augmentation")
    return layers.Rescaling(0.9, offset=0.1)(flips(x))


def check(model: keras.Model, trunk: keras.Model) -> fullyconv.FullyConv:
    """Asserts C1, and the number of cells at a larger size, with weights in the head that show when they are lost."""
    fcn = fullyconv.convert(nets.prepare(model, count=2, kept=[trunk]))
    nets.check_native_in_the_engine(model, fcn)
    size = (fcn.window[0] + 33, fcn.window[1])
    made = keras.tree.flatten(fcn.model(keras.KerasTensor((2, *size, 3))))
    assert [y.shape[1:-1] for y in made] == [grid.cells(size) for grid in keras.tree.flatten(fcn.grids)]
    return fcn


@pytest.mark.parametrize(
    ("pool", "sized"),
    [
        (layers.GlobalAveragePooling2D, True),
        (layers.GlobalAveragePooling2D, False),
        (layers.GlobalMaxPooling2D, False),
        (layers.Flatten, True),
    ],
)
def test_a_sequential_model_on_an_application(pool, sized):
    trunk = base("MobileNetV2", 64, sized)
    front = [keras.Input((64, 64, 3)), layers.RandomFlip("horizontal"), layers.Rescaling(0.9)]
    head = [pool(), layers.Dropout(0.3), layers.Dense(8, "relu"), layers.Dense(3, "softmax")]
    fcn = check(keras.Sequential([*front, trunk, *head]), trunk)
    assert fcn.grid.stride == (32, 32)
    assert not [layer for layer in fcn.model.layers if "Random" in type(layer).__name__]


@pytest.mark.parametrize("sized", [True, False])
def test_a_functional_model_on_an_application(sized):
    trunk = base("MobileNetV2", 64, sized)
    x = keras.Input((64, 64, 3))
    y = layers.GlobalAveragePooling2D()(trunk(augmented(x), training=False))
    y = layers.BatchNormalization()(layers.Dropout(0.2)(y))
    y = layers.Dense(8, "relu", kernel_regularizer="l2")(layers.Dense(12, "gelu")(y))
    check(keras.Model(x, layers.Dense(2, "sigmoid")(y)), trunk)


def test_two_outputs_on_an_application():
    trunk = base("MobileNetV2", 96)
    x = keras.Input((96, 96, 3), name="photo")
    y = trunk(augmented(x))
    kind = layers.Dense(4, "softmax", name="kind")(layers.GlobalAveragePooling2D()(y))
    score = layers.Dense(1, name="score")(layers.Dense(6, "tanh")(layers.Flatten()(y)))
    fcn = check(keras.Model(x, {"kind": kind, "score": score}), trunk)
    assert set(fcn.grids) == {"kind", "score"}


def test_the_layers_of_an_application_used_without_nesting():
    trunk = base("MobileNetV2", 64, pooling="avg")
    check(keras.Model(trunk.input, layers.Dense(3)(layers.Dropout(0.1)(trunk.output))), trunk)


def test_a_classifier_in_a_classifier():
    """A Sequential of a preprocessing model and a Functional one that holds the application."""
    trunk = base("MobileNetV2", 64, sized=False)
    x = keras.Input((64, 64, 3))
    inner = keras.Model(x, layers.Dense(5)(layers.GlobalMaxPooling2D()(trunk(x))), name="inner")
    front = keras.Sequential([keras.Input((64, 64, 3)), layers.Rescaling(0.9)], name="front")
    check(keras.Sequential([front, inner, layers.Softmax()]), trunk)


# Windows for which they are built small, and whether their last map is flattened, averaged or its largest value taken.
TRUNKS = {
    "EfficientNetB0": (96, False, layers.GlobalAveragePooling2D),
    "ResNet50V2": (32, True, layers.GlobalAveragePooling2D),
    "MobileNetV3Small": (64, False, layers.GlobalMaxPooling2D),
    "ConvNeXtTiny": (32, False, layers.GlobalAveragePooling2D),
    "DenseNet121": (64, True, layers.Flatten),
    "NASNetMobile": (64, True, layers.GlobalAveragePooling2D),
}


@pytest.mark.parametrize("name", TRUNKS)
def test_a_head_on_other_applications(name):
    window, sized, pool = TRUNKS[name]
    trunk = base(name, window, sized)
    keras.utils.set_random_seed(0)
    x = keras.Input((window, window, 3))
    y = layers.Dropout(0.2)(pool()(trunk(augmented(x))))
    check(keras.Model(x, layers.Dense(3)(layers.Dense(8, "relu")(y))), trunk)


@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNetV3Large"])
def test_what_contexts_of_a_window_cost(name):
    """At most 1.2 times the work of `context="global"`, the additions of poolings counted, up to 2,048 pixels."""
    model = zoo_nets.build(name, 224)
    window, whole = (fullyconv.plan(model, context=context) for context in ("window", "global"))
    for size in (224, 512, 2048):
        costs = [plan.cost(size) for plan in (window, whole)]
        mine, other = (cost.multiply_adds + cost.additions for cost in costs)
        assert mine <= 1.2 * other
        assert size == 224 or mine > other
