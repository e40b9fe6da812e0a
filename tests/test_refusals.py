"""What is refused, and in which words: every message whole."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import fullyconv
import nets

WINDOW = (12, 10, 3)


def image():
    return keras.Input(WINDOW, name="image")


def conv(x, name="conv"):
    return layers.Conv2D(4, 3, name=name)(x)


def model(x, y, name="net"):
    """A classifier around what is to be refused."""
    y = layers.Flatten(name="flat")(y) if len(y.shape) > 2 else y
    return keras.Model(x, layers.Dense(3, name="answer")(y), name=name)


def refusal(classifier, error=fullyconv.UnsupportedLayerError, **options):
    """The whole text of a refusal."""
    with pytest.raises(error, match=r"\w") as caught:
        fullyconv.plan(classifier, **options)
    with pytest.raises(error, match=r"\w"):
        fullyconv.convert(classifier, **options)
    return str(caught.value)


UNTIL_CONV = "\n  To convert the part before it:  fullyconv.convert(model, until='conv')"


def test_a_vision_transformer():
    """What mixes or embeds positions is named, each with its own reason."""
    x = image()
    y = layers.Reshape((30, 8), name="tokens")(layers.Conv2D(8, 2, strides=2, name="patches")(x))
    y = y + layers.Embedding(30, 8, name="positions")(ops.arange(30))
    y = y + layers.MultiHeadAttention(2, 4, name="attention")(y, y)
    classifier = model(x, layers.GlobalAveragePooling1D(name="pool")(y), "vit")
    added = next(o.name for o in classifier.operations if type(o).__name__ == "Add")  # Keras numbers it
    assert refusal(classifier) == (
        "2 of the 8 layers of 'vit' cannot be made convolutional.\n"
        f"  '{added}' (Add, layer 3) works on a tensor of shape (30, 8), "
        "into which a map of 6 x 5 positions was reshaped.\n"
        "    Convert the part before the reshape with `until`.\n"
        "  'attention' (MultiHeadAttention, layer 4) mixes every position with every other.\n"
        "    Convert the part before it with `until`.\n"
        "  To convert the part before it:  fullyconv.convert(model, until='patches')"
    )


def test_attention_over_space():
    x = image()
    y = conv(x)
    y = layers.MultiHeadAttention(2, 4, attention_axes=(1, 2), name="attention")(y, y)
    assert refusal(model(x, y)) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'attention' (MultiHeadAttention, layer 2) mixes every position with every other.\n"
        "    Convert the part before it with `until`." + UNTIL_CONV
    )


class Block(layers.Layer):
    """A layer that holds others, as those of KerasHub do."""

    def __init__(self, *inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = list(inner)

    def call(self, x):
        for layer in self.inner:
            x = layer(x, x) if isinstance(layer, layers.MultiHeadAttention) else layer(x)
        return x


def test_a_block_that_holds_attention():
    x = image()
    y = Block(layers.LayerNormalization(), layers.MultiHeadAttention(2, 4), name="encoder")(conv(x))
    assert refusal(model(x, y)) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'encoder' (Block, layer 2) holds MultiHeadAttention, which mixes every position with every other.\n"
        "    Convert the part before it with `until`; of a vision transformer, which is attention throughout, nothing "
        "can be: take a convolutional network in its place." + UNTIL_CONV
    )


class Scaled(Block):
    """A block with a weight of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return super().call(x) * self.scale


class Unreadable(Block):
    """A block that looks at its numbers."""

    def call(self, x):
        return super().call(x) * 2 if isinstance(x, keras.KerasTensor) and float(x[0, 0, 0, 0]) > 0 else x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape)


class OfTwo(Block):
    """A block that is called on two maps."""

    def call(self, x, y):
        return super().call(x) + super().call(y)


NO_GRAPH = """1 of the {count} layers of 'net' cannot be made convolutional.
  'block' ({kind}, layer {place}) is a layer that has no rule, and {why}.
    Build it with the functional API, or say what it becomes: rules={{{kind}: rule}}."""


def test_a_block_with_a_weight_of_its_own():
    x = image()
    text = NO_GRAPH.format(count=5, place=2, kind="Scaled", why="holds weights of its own beside its layers")
    assert refusal(model(x, Scaled(layers.ReLU(), name="block")(conv(x)))) == text + UNTIL_CONV


def test_a_block_that_looks_at_numbers():
    x = image()
    made = model(x, Unreadable(layers.ReLU(), name="block")(conv(x)))
    assert re.sub(r"\(\w+Error: .*\)", "(...)", refusal(made)) == (
        NO_GRAPH.format(
            count=5,
            place=2,
            kind="Unreadable",
            why="has a `call` that cannot be read as a graph (...)",
        )
        + UNTIL_CONV
    )


def test_a_block_called_on_two_maps():
    x = image()
    y = conv(x)
    text = NO_GRAPH.format(count=5, place=2, kind="OfTwo", why="is called with more than one argument")
    assert refusal(model(x, OfTwo(layers.ReLU(), name="block")(y, y))) == text + UNTIL_CONV


def test_a_resizing_inside_the_network():
    x = image()
    assert refusal(model(x, layers.Resizing(6, 6, name="half")(conv(x)))) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'half' (Resizing, layer 2) pins the size of a map inside the network.\n"
        "    Convert the part before it with `until`." + UNTIL_CONV
    )


class Tokens(Block):
    """A block that counts positions where Keras does not know how many images there are."""

    def call(self, x):
        count = ops.shape(x)[0]
        return ops.reshape(super().call(x), (count, -1, x.shape[-1]))

    def compute_output_spec(self, x):
        return keras.KerasTensor((None, x.shape[1] * x.shape[2], x.shape[3]))


def test_a_reshape_to_unknown_sizes():
    x = image()
    classifier = model(x, layers.GlobalAveragePooling1D()(Tokens(layers.ReLU(), name="tokens")(conv(x))))
    assert (
        "makes sizes that are not known before it runs.\n    Write them as numbers, -1 for the batch only."
        in refusal(classifier)
    )


def test_an_lstm_over_rows():
    x = image()
    assert refusal(model(x, layers.LSTM(5, name="lstm")(layers.Reshape((10, 32), name="rows")(conv(x))))) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'lstm' (LSTM, layer 3) reads positions one after the other.\n"
        "    Convert the part before it with `until`." + UNTIL_CONV
    )


def test_a_lambda():
    x = image()
    assert refusal(model(x, layers.Lambda(lambda t: t * 2, name="double")(conv(x)))) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'double' (Lambda, layer 2) holds code that cannot be read as layers.\n"
        "    Write what it does with Keras layers or `keras.ops`." + UNTIL_CONV
    )


class Subclassed(keras.Model):
    """A model that only Python can read."""

    def __init__(self):
        super().__init__(name="mine")
        self.dense = layers.Dense(3)

    def build(self, shape):
        self.dense.build((None, shape[-1]))

    def call(self, x):
        return self.dense(ops.mean(x, axis=(1, 2)))


def test_a_subclassed_model():
    subclassed = Subclassed()
    subclassed.build((None, *WINDOW))
    assert refusal(subclassed, fullyconv.UnsupportedModelError) == (
        "'mine' (Subclassed) is a subclassed model: its layers are called in Python, which cannot be read as a graph.\n"
        "Where its `call` is made of layers and keras.ops, this is a Functional model of the same layers and weights:\n"
        "  x = keras.Input((height, width, channels)); keras.Model(x, model.call(x))"
    )


class Doubled(layers.Dense):
    """Must not be taken for a Dense."""

    def call(self, x):
        return super().call(x) * 2


class Renamed(layers.Dense):
    """May be taken for a Dense."""


def test_a_dense_that_overrides_call():
    x = image()
    flat = layers.Flatten(name="flat")(conv(x))
    assert refusal(keras.Model(x, Doubled(3, name="twice")(flat), name="net")) == (
        "1 of the 4 layers of 'net' cannot be made convolutional.\n"
        "  'twice' (Doubled, layer 3) is a Dense with a `call` of its own, so the rule of Dense does not hold.\n"
        "    Say what it is: rules={Doubled: rule}." + UNTIL_CONV
    )


def test_a_dense_subclass_that_does_not_override_call_is_a_dense():
    x = image()
    classifier = nets.prepare(keras.Model(x, Renamed(3)(layers.Flatten()(conv(x)))))
    fcn = fullyconv.convert(classifier)
    nets.check_windows(classifier, fcn, extra=2)


def _resized(layer):
    x = keras.Input((24, 20, 3), name="image")
    return model(x, conv(layer(12, 10, name="fit")(x)))


@pytest.mark.parametrize("layer", [layers.Resizing, layers.CenterCrop])
def test_resizing_in_front(layer):
    assert refusal(_resized(layer)) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        f"  'fit' ({layer.__name__}, layer 1) pins the size of the image.\n"
        "    Drop it with skip='fit', and bring images to the scale that it made."
    )


@pytest.mark.parametrize("layer", [layers.Resizing, layers.CenterCrop])
def test_resizing_in_front_is_skipped_by_name(layer):
    classifier = nets.prepare(_resized(layer))
    made = fullyconv.plan(classifier, skip="fit")
    assert made.notes == (f"fit ({layer.__name__}) was left out: bring images to the scale that it made.",)
    fcn = fullyconv.convert(made)
    assert fcn.grid.window == (12, 10)
    rest = keras.Sequential([keras.Input((12, 10, 3)), *classifier.layers[2:]])
    nets.check_windows(rest, fcn, extra=3)


def test_resizing_further_in_is_not_skipped():
    x = image()
    assert refusal(model(x, layers.Resizing(8, 8, name="fit")(conv(x))), skip="fit") == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'fit' (Resizing, layer 2) is not the first layer that changes the size, and cannot be skipped.\n"
        "    Convert the part before it with `until`." + UNTIL_CONV
    )


def test_skip_of_a_name_that_is_not_there():
    with pytest.raises(fullyconv.FullyConvError, match=r"'fitt'"):
        fullyconv.plan(_resized(layers.Resizing), skip="fitt")
    x = image()
    with pytest.raises(fullyconv.FullyConvError, match=r"'conv'"):
        fullyconv.plan(model(x, conv(x)), skip="conv")


def test_slopes_for_each_position():
    x = image()
    assert refusal(model(x, layers.PReLU(name="slopes")(conv(x)))) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'slopes' (PReLU, layer 2) has slopes of its own for each of 10 x 8 positions.\n"
        "    Train it with shared_axes=[1, 2]." + UNTIL_CONV
    )


def test_slopes_for_each_value_of_a_flattened_map_are_right_or_refused():
    x = image()
    y = layers.PReLU(alpha_initializer="uniform")(layers.Flatten()(layers.Conv2D(2, 3)(x)))
    classifier = nets.prepare(keras.Model(x, layers.Dense(3)(y)))
    nets.check_windows(classifier, fullyconv.convert(classifier), extra=3)


def test_two_refusals_in_two_branches():
    x = image()
    y = layers.Lambda(lambda t: t * 2, name="double")(conv(x))
    z = layers.LSTM(5, name="lstm")(layers.Reshape((10, 32), name="rows")(conv(x, "conv_b")))
    y = layers.Concatenate(name="join")([layers.GlobalAveragePooling2D(name="pool")(y), z])
    text = refusal(model(x, y))
    assert sorted(line for line in text.split("\n")) == sorted(
        [
            "2 of the 9 layers of 'net' cannot be made convolutional.",
            "  'double' (Lambda, layer 4) holds code that cannot be read as layers.",
            "    Write what it does with Keras layers or `keras.ops`.",
            "  'lstm' (LSTM, layer 6) reads positions one after the other.",
            "    Convert the part before it with `until`.",
            "  To convert the part before it:  fullyconv.convert(model, until='conv')",
        ]
    )


def test_two_refusals_in_one_chain():
    x = image()
    y = layers.Lambda(lambda t: t * 2, name="double")(conv(x))
    y = layers.LSTM(5, name="lstm")(layers.Reshape((10, 32), name="rows")(y))
    assert refusal(model(x, y)) == (
        "2 of the 6 layers of 'net' cannot be made convolutional.\n"
        "  'double' (Lambda, layer 2) holds code that cannot be read as layers.\n"
        "    Write what it does with Keras layers or `keras.ops`.\n"
        "  'lstm' (LSTM, layer 4) reads positions one after the other.\n"
        "    Convert the part before it with `until`." + UNTIL_CONV
    )


def test_a_reshape_to_literal_sizes():
    x = image()
    y = layers.Conv2D(3, 3, name="after")(layers.Reshape((8, 10, 4), name="reshape")(conv(x)))
    assert refusal(model(x, y)) == (
        "1 of the 6 layers of 'net' cannot be made convolutional.\n"
        "  'after' (Conv2D, layer 3) reads a tensor of shape (8, 10, 4) that was reshaped from a map of 10 x 8 "
        "positions."
        "\n    Convert the part before the reshape with `until`." + UNTIL_CONV
    )


def test_a_constant_for_each_position():
    x = image()
    y = keras.ops.add(conv(x), np.ones((1, 10, 8, 4), "float32"))
    text = refusal(model(x, y))
    assert "holds a constant of shape (1, 10, 8, 4) for a tensor of shape (10, 8, 4)." in text


def test_a_shared_layer_that_would_need_two_kernels():
    x = image()
    y, shared = conv(x), layers.Dense(5, name="shared")
    turned = layers.Flatten(name="flat_b")(layers.Permute((2, 1, 3), name="turn")(y))
    y = layers.Concatenate(name="join")([shared(layers.Flatten(name="flat_a")(y)), shared(turned)])
    assert refusal(model(x, y)) == (
        "1 of the 8 layers of 'net' cannot be made convolutional.\n"
        "  'shared' (Dense, layer 6) is used more than once, on maps that need different kernels.\n"
        "    Give each use a layer of its own, and train or copy its weights." + UNTIL_CONV
    )


def test_branches_whose_grids_cannot_agree():
    x = image()
    y = [layers.GlobalAveragePooling2D(name=f"gap{n}")(layers.MaxPooling2D(n, name=f"max{n}")(x)) for n in (2, 3)]
    text = refusal(model(x, layers.Concatenate(name="join")(y)))
    assert (
        "'join' (Concatenate, layer 5) merges maps of strides 2 x 2 and 3 x 3 pixels, which cannot be made to agree.\n"
        "    Give its inputs the same stride, or merge them behind their poolings."
    ) in text


def test_a_normalisation_with_a_weight_for_each_position():
    x = image()
    assert refusal(model(x, layers.LayerNormalization(axis=(1, 2, 3), name="norm")(conv(x)))) == (
        "1 of the 5 layers of 'net' cannot be made convolutional.\n"
        "  'norm' (LayerNormalization, layer 2) normalises over positions with a weight for each value of a map of "
        "shape (10, 8, 4).\n"
        "    Normalise over the channels (axis=-1), or use GroupNormalization." + UNTIL_CONV
    )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_a_quantised_dense():
    x = image()
    classifier = model(x, conv(x))
    classifier.quantize("int8")
    assert refusal(classifier) == (
        "1 of the 4 layers of 'net' cannot be made convolutional.\n"
        "  'answer' (Dense, layer 3) is quantized.\n"
        "    Convert the float model, then quantize the result." + UNTIL_CONV
    )


def test_a_dense_with_lora_gives_its_effective_kernel():
    x = image()
    classifier = nets.prepare(model(x, conv(x)))
    dense = classifier.get_layer("answer")
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.linspace(-1, 1, 6).reshape(2, 3).astype("float32"))
    nets.check_windows(classifier, fullyconv.convert(classifier), extra=3)


@pytest.mark.numerical
def test_a_normalisation_over_space_is_approximate_and_native():
    """GroupNormalization inside the trunk averages over the image: allowed, and said."""
    x = image()
    classifier = nets.prepare(model(x, layers.GroupNormalization(2, name="norm")(conv(x))))
    fcn = fullyconv.convert(classifier)
    assert fcn.exactness == "approximate"
    assert any("norm" in reason for reason in fcn.grid.reasons)
    nets.check_native(classifier, fcn)


def test_a_model_of_vectors():
    x = keras.Input((7,))
    assert refusal(keras.Model(x, layers.Dense(3)(x), name="net"), fullyconv.UnsupportedModelError) == (
        "'net' reads no image: its inputs have the shapes [(None, 7)].\n"
        "A classifier of signals, images or volumes has inputs of the shape (None, *spatial, channels)."
    )


def test_a_model_for_text():
    x = keras.Input((20,), dtype="int32")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(100, 8)(x))
    assert refusal(keras.Model(x, layers.Dense(3)(y), name="text"), fullyconv.UnsupportedModelError) == (
        "'text' reads no image: its inputs have the shapes [(None, 20)].\n"
        "A classifier of signals, images or volumes has inputs of the shape (None, *spatial, channels)."
    )


def test_a_model_that_has_no_graph_yet():
    unbuilt = keras.Sequential([layers.Dense(3)], name="net")
    assert refusal(unbuilt, fullyconv.UnsupportedModelError) == (
        "'net' (Sequential) has no input shape yet, so it has no graph.\n"
        "Give it one: model.build((None, height, width, channels)), or start it with keras.Input."
    )


def test_something_that_is_no_model():
    assert refusal("vgg16.keras", fullyconv.UnsupportedModelError) == (
        "Expected a keras.Model, but received a str.\nLoad it with keras.models.load_model."
    )


def _any_size():
    x = keras.Input((None, None, 3))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(conv(x))), name="net")


def test_a_window_that_is_missing():
    assert refusal(_any_size(), fullyconv.WindowError) == (
        "'net' accepts images of any size, (None, None), so its window must be given.\n"
        "Give the size it was trained on:  fullyconv.convert(model, window=(224, 224))"
    )


def test_a_window_that_contradicts_the_model():
    x = image()
    assert refusal(model(x, conv(x)), fullyconv.WindowError, window=(20, 20)) == (
        "The window (20, 20) contradicts the input of 'net', which is (12, 10).\nLeave it out."
    )


def test_a_window_of_another_rank():
    assert refusal(_any_size(), fullyconv.WindowError, window=(9, 9, 9)) == (
        "The window (9, 9, 9) has 3 sizes, but 'net' has 2 spatial axes."
    )


def test_a_window_too_small_for_the_model():
    text = refusal(_any_size(), fullyconv.WindowError, window=2)
    assert "2 x 2" in text
    assert "conv" in text


def with_refusals() -> keras.Model:
    """Two layers that are refused one behind the other, and a branch beside them."""
    x = keras.Input((12, 12, 3), name="image")
    y = layers.Conv2DTranspose(4, 3, name="enlarge")(layers.Conv2D(4, 3, name="conv")(x))
    deep = [keras.Input((12, 12, 4)), layers.Conv2D(4, 3, name="deep"), layers.ReLU(name="act")]
    y = layers.Reshape((100, 4), name="rows")(keras.Sequential(deep, name="inner")(y))
    y = layers.Dense(2, name="last")(layers.LSTM(4, name="sequence")(y))
    beside = keras.Input((12, 12, 3))
    beside = keras.Model(beside, [layers.Conv2D(4, 12, name="whole")(beside)], name="beside")(x)
    return keras.Model(x, [y, layers.Dense(3, name="side")(layers.Flatten(name="flat")(beside[0]))], name="net")


ENLARGES = (
    "  'enlarge' (Conv2DTranspose, layer 2) makes a map larger, which no part of a classifier does.\n"
    "    Convert the part before it with `until`.\n"
)


@pytest.mark.parametrize("until", ["enlarge", "deep", "act", "inner", "rows"])
def test_until_a_layer_behind_a_refusal_says_the_refusal(until):
    assert refusal(with_refusals(), until=until) == (
        "1 of the 11 layers of 'net' cannot be made convolutional.\n" + ENLARGES + UNTIL_CONV[1:]
    )


@pytest.mark.parametrize("until", ["sequence", "last"])
def test_until_a_layer_behind_two_refusals_says_both(until):
    assert refusal(with_refusals(), until=until) == (
        "2 of the 11 layers of 'net' cannot be made convolutional.\n"
        + ENLARGES
        + "  'sequence' (LSTM, layer 8) reads positions one after the other.\n"
        "    Convert the part before it with `until`." + UNTIL_CONV
    )


@pytest.mark.parametrize(("until", "channels"), [("conv", 4), ("whole", 4), ("beside", 4), ("side", 3)])
def test_until_a_layer_on_another_branch_than_the_refused_one(until, channels):
    assert fullyconv.plan(with_refusals(), until=until).outputs[0].channels == channels


def test_until_a_layer_that_is_not_there():
    x = image()
    assert refusal(model(x, conv(x)), fullyconv.UnsupportedModelError, until="convv") == (
        "'net' has no layer named 'convv'.\nThe `until` argument takes one of: image, conv, flat, answer ..."
    )


def test_options_with_unknown_values():
    x = image()
    with pytest.raises(ValueError, match=r"pool must be one of \('window', 'drop', 'global'\)"):
        fullyconv.plan(model(x, conv(x)), pool="max")
    with pytest.raises(ValueError, match=r"context one of \('window', 'global'\)"):
        fullyconv.plan(model(x, conv(x)), context="image")


def test_an_image_smaller_than_the_window():
    x = image()
    fcn = fullyconv.convert(model(x, conv(x)))
    with pytest.raises(fullyconv.InputTooSmallError, match=r"\w") as caught:
        fcn.predict(nets.images((11, 40), 3))
    assert str(caught.value) == (
        "The input is 11 x 40, smaller than the window of 12 x 10.\n"
        "The network was trained on 12 x 10: enlarge the image, or pad it, to at least that size."
    )


def test_a_wrong_number_of_channels():
    x = image()
    fcn = fullyconv.convert(model(x, conv(x)))
    with pytest.raises(fullyconv.GeometryError, match=r"\w") as caught:
        fcn.predict(nets.images((20, 20), 1))
    assert str(caught.value) == (
        "The input has the shape (1, 20, 20, 1), but 'net' reads (None, None, None, 3).\n"
        "Give a batch of images with the channels last."
    )


def _public_layers():
    """Every public class of `keras.layers` that is a layer."""
    return {
        value for name, value in vars(layers).items() if isinstance(value, type) and issubclass(value, layers.Layer)
    } | {value for name, value in vars(layers).items() if isinstance(value, type) and name[0].isupper()}


def test_every_public_layer_has_a_rule_or_a_reason():
    from fullyconv.rules import REFUSED, RULES

    missing = {cls.__name__ for cls in _public_layers() - set(RULES) - set(REFUSED)}
    assert not missing - {"InputSpec"}
    assert not {cls.__name__ for cls in set(RULES) & set(REFUSED)}
    assert len(_public_layers()) > 120


def _required():
    """What the contract says must have a rule, by name."""
    ranks = [f"{kind}{rank}D" for kind in ("Conv", "AveragePooling", "MaxPooling", "GlobalAveragePooling",
             "GlobalMaxPooling", "AdaptiveAveragePooling", "AdaptiveMaxPooling", "ZeroPadding", "Cropping",
             "UpSampling", "SpatialDropout") for rank in (1, 2, 3)]  # fmt: skip
    ranks += [f"{kind}{rank}D" for kind in ("DepthwiseConv", "SeparableConv") for rank in (1, 2)]
    plain = ["Flatten", "Reshape", "Permute", "Dense", "EinsumDense", "Activation", "ELU", "LeakyReLU", "PReLU", "ReLU",
             "Softmax", "BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization",
             "UnitNormalization", "SpectralNormalization", "Dropout", "AlphaDropout", "GaussianDropout",
             "GaussianNoise", "ActivityRegularization", "Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum",
             "Multiply", "Subtract", "Rescaling", "Normalization", "Identity"]  # fmt: skip
    random = [name for name in vars(layers) if name.startswith("Random") and name != "RandomCrop"]
    return ranks + plain + random


@pytest.mark.parametrize("name", _required())
def test_the_layers_of_the_contract_have_rules(name):
    from fullyconv.rules import RULES

    assert getattr(layers, name) in RULES
