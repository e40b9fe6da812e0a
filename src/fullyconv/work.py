"""How much work one call of a layer or operation is: its multiply-adds, and the values a pooling adds or compares.

Two tables by class, looked up as rules are: a subclass with a `call` of its own is not taken for its parent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.rules.conv import class_of_rank

Count = Callable[[Any, Sequence[Any], Any], int]


def _elements(x: Any) -> int:
    return math.prod(x.shape)


def _channels(layer: Any, x: Any) -> int:
    return x.shape[1] if layer.data_format == "channels_first" else x.shape[-1]


def _convolution(layer: Any, read: Sequence[Any], out: Any) -> int:
    return _elements(out) * math.prod(layer.kernel_size) * (_channels(layer, read[0]) // layer.groups)


def _depthwise(layer: Any, read: Sequence[Any], out: Any) -> int:  # noqa: ARG001  # counts have one signature
    return _elements(out) * math.prod(layer.kernel_size)


def _separable(layer: Any, read: Sequence[Any], out: Any) -> int:
    between = _channels(layer, read[0]) * layer.depth_multiplier
    return _elements(out) // layer.filters * between * math.prod(layer.kernel_size) + _elements(out) * between


def _transposed(layer: Any, read: Sequence[Any], out: Any) -> int:  # noqa: ARG001
    return _elements(read[0]) * math.prod(layer.kernel_size) * layer.filters


def _product(operation: Any, read: Sequence[Any], out: Any) -> int:  # noqa: ARG001
    return _elements(out) * read[0].shape[-1]


def _einsum_dense(layer: Any, read: Sequence[Any], out: Any) -> int:
    value, _, output = re.split(",|->", layer.equation.replace(" ", "").replace("...", "."))
    summed = [i for i, letter in enumerate(reversed(value), 1) if letter not in output]
    return _elements(out) * math.prod(read[0].shape[-i] for i in summed)


def _pooled(layer: Any, read: Sequence[Any], out: Any) -> int:  # noqa: ARG001
    return _elements(out) * math.prod(layer.pool_size)


def _reduced(operation: Any, read: Sequence[Any], out: Any) -> int:  # noqa: ARG001
    return _elements(read[0])


def _of_ranks(count: Count, name: str, ranks: Iterable[int] = (1, 2, 3)) -> dict[type, Count]:
    return {class_of_rank(name, rank): count for rank in ranks}


_layers = keras.layers
MULTIPLY_ADDS: Mapping[type, Count] = {
    **_of_ranks(_convolution, "Conv"),
    **_of_ranks(_depthwise, "DepthwiseConv", (1, 2)),
    **_of_ranks(_separable, "SeparableConv", (1, 2)),
    **dict.fromkeys((_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose), _transposed),
    _layers.Dense: _product,
    _layers.EinsumDense: _einsum_dense,
    _keras.numpy_operations.Matmul: _product,
}
ADDITIONS: Mapping[type, Count] = {
    **_of_ranks(_pooled, "MaxPooling"),
    **_of_ranks(_pooled, "AveragePooling"),
    **_of_ranks(_reduced, "GlobalMaxPooling"),
    **_of_ranks(_reduced, "GlobalAveragePooling"),
    **_of_ranks(_reduced, "AdaptiveMaxPooling"),
    **_of_ranks(_reduced, "AdaptiveAveragePooling"),
    _keras.numpy_operations.Mean: _reduced,
    _keras.numpy_operations.Max: _reduced,
    _keras.numpy_operations.Sum: _reduced,
}

# Layers whose weights, of whatever shape, meet each value once; and those that multiply without weights of their own.
VALUE_BY_VALUE = (
    *(_layers.PReLU, _layers.Embedding, _layers.Normalization),
    *(_layers.BatchNormalization, _layers.LayerNormalization, _layers.GroupNormalization, _layers.RMSNormalization),
)
PRODUCTS = (
    *(_layers.Dot, _layers.Attention, _layers.AdditiveAttention),
    *(_keras.numpy_operations.Dot, _keras.numpy_operations.Tensordot, _keras.numpy_operations.Einsum),
    *(_keras.nn_operations.Conv, _keras.nn_operations.DepthwiseConv, _keras.nn_operations.SeparableConv),
    *(_keras.nn_operations.ConvTranspose, _keras.nn_operations.DotProductAttention),
)


def multiply_adds(operation: Any, read: Sequence[Any], out: Any) -> int:
    """Multiply-adds of a call.

    Args:
        operation: A layer or operation.
        read: The tensors it is given; their shapes are known.
        out: The tensor it returns, or the first of them.
    """
    count = _keras.rule_for(operation, MULTIPLY_ADDS)
    return 0 if count is None else count(operation, read, out)


def additions(operation: Any, read: Sequence[Any], out: Any) -> int:
    """Values that a pooling adds or compares in a call; see `multiply_adds`."""
    count = _keras.rule_for(operation, ADDITIONS)
    return 0 if count is None else count(operation, read, out)


def is_understood(operation: Any, weights: Sequence[tuple[int, ...]]) -> bool:
    """Whether the multiplications of an operation with weights of these shapes are counted, or it has few."""
    if _keras.rule_for(operation, MULTIPLY_ADDS) is not None:
        return True
    matrices = any(len(shape) > 1 for shape in weights) and not isinstance(operation, VALUE_BY_VALUE)
    return type(operation).__module__.startswith("keras.") and not matrices and not isinstance(operation, PRODUCTS)
