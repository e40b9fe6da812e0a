"""Random classifiers: a strategy draws a `Spec` of plain values, `build` makes the network of it.

A block that would leave no cell is left out by `build`, so that every spec is a network.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

import nets

ACTIVATIONS = ("relu", "tanh", "gelu", "leaky_relu", "linear")
FORMATS = nets.FORMATS[:1] if nets.cannot_run("channels_first") else nets.FORMATS


@dataclasses.dataclass(frozen=True)
class Block:
    """One step of a trunk. `padding` is what the net allows: `valid`, or the block's own draw."""

    kind: str
    filters: int
    size: int
    stride: int
    padding: str
    activation: str
    flag: bool


@dataclasses.dataclass(frozen=True)
class Head:
    """From a map to one output."""

    depth: int
    collapse: str
    between: str
    hidden: int
    after: str
    units: int


@dataclasses.dataclass(frozen=True)
class Spec:
    """A whole classifier."""

    data_format: str
    window: tuple[int, ...]
    channels: int
    blocks: tuple[Block, ...]
    heads: tuple[Head, ...]
    padded: bool

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.window)


BLOCKS = (
    "conv", "conv", "conv", "max", "average", "depthwise", "separable", "norm", "activation", "prelu", "operations",
    "residual", "branches", "shared", "crop", "pad", "layer_norm",
)  # fmt: skip
COLLAPSES = ("flatten", "flatten_other", "permute", "reshape", "gap", "gmp", "mean", "average_and_max", "two_depths")
BETWEEN = ("nothing", "nothing", "batch_norm", "rescaling", "dropout", "layer_norm")
AFTER = ("nothing", "nothing", "batch_norm", "layer_norm", "prelu", "softmax", "operations", "gate")


def blocks(paddings: tuple[str, ...]) -> st.SearchStrategy[Block]:
    """One block whose padding is one of those."""
    return st.builds(
        Block,
        st.sampled_from(BLOCKS),
        st.integers(2, 5),
        st.integers(1, 4),
        st.integers(1, 3),
        st.sampled_from(paddings),
        st.sampled_from(ACTIVATIONS),
        st.booleans(),
    )


heads = st.builds(
    Head,
    st.integers(1, 4),
    st.sampled_from(COLLAPSES),
    st.sampled_from(BETWEEN),
    st.integers(0, 6),
    st.sampled_from(AFTER),
    st.integers(2, 5),
)
WINDOWS = {1: (10, 30), 2: (8, 17), 3: (6, 9)}


@st.composite
def specs(draw: st.DrawFn, padded: bool) -> Spec:
    """A classifier, padded here and there or not at all."""
    paddings = ("same", "valid") if padded else ("valid",)
    rank = draw(st.sampled_from((2, 1, 3)))
    return Spec(
        draw(st.sampled_from(FORMATS)),
        tuple(draw(st.integers(*WINDOWS[rank])) for _ in range(rank)),
        draw(st.integers(1, 4)),
        tuple(draw(st.lists(blocks(paddings), min_size=1, max_size=5))),
        tuple(draw(st.lists(heads, min_size=1, max_size=2))),
        padded,
    )


# --------------------------------------------------------------------------------------------------------------------
# From a spec to a network
# --------------------------------------------------------------------------------------------------------------------
def build(spec: Spec, seed: int = 0) -> keras.Model:
    """The classifier of a spec, not prepared yet."""
    keras.utils.set_random_seed(seed)
    k = nets.Kit(spec.rank, spec.data_format)
    x = k.input(spec.window, spec.channels)
    maps = [k.conv(3, 1)(x)]
    for block in spec.blocks:
        maps.append(_block(k, block, maps[-1], not spec.padded))
    outputs = [_head(k, head, maps) for head in spec.heads]
    return keras.Model(x, outputs[0] if len(outputs) == 1 else outputs)


def sizes(k: nets.Kit, x: Any) -> tuple[int, ...]:
    """The spatial sizes of a map."""
    return tuple(x.shape[axis] for axis in k.space)


def _block(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    fits = min(sizes(k, x)) >= b.size or b.padding == "same"
    if not fits or (k.rank == 3 and b.kind in ("depthwise", "separable")):
        return x
    return globals()[f"_{b.kind}"](k, b, x, valid)


def _settings(k: nets.Kit, b: Block) -> dict[str, Any]:
    return {"strides": _stride(k, b, b.size) if b.padding == "same" else b.stride, "padding": b.padding}


def _stride(k: nets.Kit, b: Block, size: int) -> int:
    """The block's stride over a padded map; less where the backend would go wrong: nets.CROPPED_STRIDE says where."""
    return min(b.stride, size + 1) if nets.BACKEND == "tensorflow" and k.rank == 3 else b.stride


def _conv(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    dilated = b.flag and b.stride == 1 and (b.padding == "same" or min(sizes(k, x)) >= 2 * b.size - 1)
    extra = {"dilation_rate": 2} if dilated else {"use_bias": not b.flag}
    return k.conv(b.filters, b.size, activation=b.activation, **_settings(k, b), **extra)(x)


def _max(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return k.max(b.size, **_settings(k, b))(x)


def _average(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return k.average(b.size, **_settings(k, b))(x)


def _depthwise(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return k.depthwise(b.size, activation=b.activation, depth_multiplier=1 + b.flag, **_settings(k, b))(x)


def _separable(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return k.separable(b.filters, b.size, activation=b.activation, **_settings(k, b))(x)


def _norm(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return k.norm(scale=b.flag)(x)


def _activation(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return layers.Activation(b.activation)(x)


def _prelu(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return layers.PReLU(shared_axes=list(k.space))(x)


def _operations(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    return ops.maximum(x, 0.1 * x) - 0.5 if b.flag else ops.tanh(x) * 2.0 + x / 4.0


def _residual(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    size = 1 if valid else b.size
    y = k.conv(x.shape[k.axis], size, padding="same", activation=b.activation)(x)
    return layers.Add()([x, y]) if b.flag else x + y


def _branches(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    size, stride = 1 if valid else b.size, _stride(k, b, 1)
    y = k.conv(2, size, strides=stride, padding="same", activation=b.activation)(x)
    z = k.max(1, strides=stride, padding="same")(x)
    return layers.Concatenate(axis=k.axis)([y, z])


def _shared(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    channels = x.shape[k.axis]
    shared = k.conv(channels, 1 if valid else b.size, padding="same", activation=b.activation)
    return shared(shared(x))


def _crop(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    if min(sizes(k, x)) < 3 or (k.rank == 1 and k.axis == 1):  # Keras's Cropping1D knows channels_last only
        return x
    ends = (1, 0) if b.flag else (0, 1)
    return layers.Cropping1D(ends)(x) if k.rank == 1 else k.layer("Cropping", (ends,) * k.rank)(x)


def _pad(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    if valid:
        return x
    ends = (1, 0) if b.flag else (1, 2)
    return k.layer("ZeroPadding", ends if k.rank == 1 else (ends,) * k.rank)(x)


def _layer_norm(k: nets.Kit, b: Block, x: Any, valid: bool) -> Any:
    if nets.BACKEND == "torch" and k.axis == 1:  # Keras's torch backend normalises the last axes only
        return x
    return layers.LayerNormalization(axis=k.axis)(x)


def _head(k: nets.Kit, h: Head, maps: list[Any]) -> Any:
    x = maps[-1] if h.depth >= 3 else maps[max(1, len(maps) - h.depth)]
    y = _collapse(k, h, x, maps)
    y = _between(h, y)
    if h.hidden:
        y = layers.Dense(h.hidden + 1, "relu")(y)
    return _after(h, layers.Dense(h.units)(y))


def _collapse(k: nets.Kit, h: Head, x: Any, maps: list[Any]) -> Any:
    other = nets.FORMATS[0] if k.axis == 1 else nets.FORMATS[1]
    order = (*range(2, k.rank + 2), 1)
    made = {
        "flatten": lambda: k.flatten()(x),
        "flatten_other": lambda: layers.Flatten(data_format=other)(x),
        "permute": lambda: layers.Flatten()(layers.Permute(order)(x)),
        "reshape": lambda: ops.reshape(x, (-1, int(np.prod(x.shape[1:])))),
        "gap": lambda: k.gap()(x),
        "gmp": lambda: k.flatten()(k.gmp(keepdims=True)(x)),
        "mean": lambda: ops.mean(x, axis=k.space),
        "average_and_max": lambda: layers.Concatenate()([k.gap()(x), k.gmp()(x)]),
        "two_depths": lambda: layers.Concatenate()([k.flatten()(x), k.gap()(maps[1])]),
    }
    return made[h.collapse]()


def _between(h: Head, y: Any) -> Any:
    if h.between == "layer_norm" and h.collapse in ("gap", "gmp", "mean", "average_and_max"):
        return y  # pooled channels are so alike that dividing by their spread shows the rounding of the pooling
    made = {
        "nothing": lambda: y,
        "batch_norm": lambda: layers.BatchNormalization()(y),
        "rescaling": lambda: layers.Rescaling(0.5, 0.25)(y),
        "dropout": lambda: layers.Dropout(0.3)(y),
        "layer_norm": lambda: layers.LayerNormalization()(y),
    }
    return made[h.between]()


def _after(h: Head, y: Any) -> Any:
    made = {
        "nothing": lambda: y,
        "batch_norm": lambda: layers.BatchNormalization()(y),
        "layer_norm": lambda: layers.Dense(3)(layers.LayerNormalization()(layers.Dense(6, "tanh")(y))),
        "prelu": lambda: layers.PReLU()(y),
        "softmax": lambda: layers.Dense(3, "softmax")(y),
        "operations": lambda: ops.tanh(y) + 0.5 * y,
        "gate": lambda: layers.Multiply()([y, layers.Dense(h.units, "sigmoid")(y)]),
    }
    return made[h.after]()
