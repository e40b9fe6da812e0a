"""What each OpenVINO operation becomes when its inputs owe a transpose (see `_layout`).

A rule takes a node and its inputs, of which at least one owes, and returns its outputs; None where the debt must be
paid first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset16 as ops

from fullyconv._layout import Order, Rule, Value, arranged, constant, integers, inverse, paid, plain, rank_of, rewire


def _transpose(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """transpose(transpose(t, p), q) is transpose(t, p[q])."""
    steps = integers(node.input_value(1))
    if steps is None or len(steps) != len(inputs[0].order):
        return None
    return [Value(inputs[0].tensor, tuple(inputs[0].order[i] for i in steps))]


def _pointwise(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """Any broadcasting operation, with any number of inputs."""
    rank = max(len(v.order) for v in inputs)
    owing = [v for v in inputs if not v.is_plain and len(v.order) == rank]
    if not owing or node.get_attributes().get("auto_broadcast", "numpy") != "numpy" or not _ranks_known(node):
        return None
    order = max(owing, key=_extent).order
    return _same_order(node, [_broadcastable(v, order) for v in inputs], order)


def _broadcastable(value: Value, order: Order) -> ov.Output:
    """The tensor of a value that meets, in an operation that broadcasts, tensors that are `order` away."""
    if not _extent(value):
        return value.tensor
    missing = len(order) - len(value.order)
    if not missing:
        return arranged(value, order)
    raised = ops.unsqueeze(paid(value), constant(range(missing))).output(0)
    return arranged(plain(raised), order)


def _prelu(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    return None if _extent(inputs[1]) else _pointwise(node, inputs)


def _batch_norm(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """Only the channel axis, 1, has a place of its own."""
    order = inputs[0].order
    if order[1] != 1 or not all(v.is_plain for v in inputs[1:]):
        return None
    return _same_order(node, [v.tensor for v in inputs], order)


def _axis_attribute(node: ov.Node, inputs: list[Value]) -> list[Value]:
    """Concat, softmax: the axis is an attribute, and all inputs have one rank."""
    order = max((v for v in inputs if not v.is_plain), key=_extent).order
    node.set_attribute("axis", order[int(node.get_attributes()["axis"])])
    return _same_order(node, [arranged(v, order) for v in inputs], order)


def _axes_input(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """Reductions, splits, cumulative sums: the axes are the second input."""
    data, axes = inputs[0], integers(node.input_value(1))
    if not axes or not all(v.is_plain for v in inputs[1:]):
        return None
    axes = [data.order[a] for a in axes]
    rewire(node, [data.tensor, _constant_like(axes, inputs[1]), *(v.tensor for v in inputs[2:])])
    keep = node.get_attributes().get("keep_dims", True)
    order = data.order if keep else _without(data.order, axes)
    return [Value(o, order) for o in node.outputs()]


def _squeeze(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    axes = integers(node.input_value(1)) if len(inputs) > 1 else None
    if not axes:
        return None
    axes = [inputs[0].order[a] for a in axes]
    return _same_order(node, [inputs[0].tensor, constant(axes)], _without(inputs[0].order, axes))


def _unsqueeze(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """New axes go last in the tensor and where they belong in the order."""
    axes = integers(node.input_value(1))
    if axes is None:
        return None
    old, rank = inputs[0].order, len(inputs[0].order) + len(axes)
    axes, rest = [a % rank for a in axes], iter(old)
    new = iter(range(len(old), rank))
    order = tuple(next(new) if i in axes else next(rest) for i in range(rank))
    return _same_order(node, [inputs[0].tensor, constant(range(len(old), rank))], order)


def _per_axis(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """Pad, tile: the second input (and the third, of a pad) has one number an axis."""
    data, vectors = inputs[0], 2 if node.get_type_name() == "Pad" else 1
    shapes = [v.tensor.get_partial_shape() for v in inputs[1 : 1 + vectors]]
    if data.is_plain or any(s.is_dynamic or s.to_shape() != [len(data.order)] for s in shapes):
        return None
    moved = [_gathered(v.tensor, inverse(data.order)) for v in inputs[1 : 1 + vectors]]
    return _same_order(node, [data.tensor, *moved, *(v.tensor for v in inputs[1 + vectors :])], data.order)


def _slice(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    data, count = inputs[0], inputs[1].tensor.get_partial_shape()
    if len(inputs) == 5:
        axes = integers(node.input_value(4))
    else:
        axes = None if count.is_dynamic else list(range(count.to_shape()[0]))
    if axes is None:
        return None
    tensors = [v.tensor for v in inputs[1:4]]
    sliced = ops.slice(data.tensor, *tensors, constant([data.order[a] for a in axes]))
    return [Value(sliced.output(0), data.order)]


def _gather(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """Picking along one axis, which a single index removes.

    A list of positions (upsampling) is picked channels-last, as whole vectors of channels: OpenVINO's convolutions
    keep their maps that way in memory, so paying costs nothing there, and not paying up to half of the whole time.
    """
    data, (indices, axis) = inputs[0], inputs[1:]
    axes, rank = integers(axis.tensor), rank_of(indices.tensor)
    if axes is None or rank not in (0, 1) or node.get_attributes()["batch_dims"]:
        return None
    axes = [data.order[axes[0]]]
    if rank and axes != [1]:
        return None
    order = data.order if rank else _without(data.order, axes)
    return _same_order(node, [data.tensor, indices.tensor, constant(axes[0])], order)


def _gather_nd(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """One index for each of the first axes (`x[0, :, 0, 0]` in Keras): taken one by one, the last axis first."""
    data, indices = inputs
    shape = indices.tensor.get_partial_shape()
    if node.get_attributes()["batch_dims"] or shape.is_dynamic or len(shape) != 1:
        return None
    axes = data.order[: shape.to_shape()[0]]
    tensor = data.tensor
    for axis in sorted(axes, reverse=True):
        index = ops.gather(indices.tensor, constant(axes.index(axis)), constant(0))
        tensor = ops.gather(tensor, index, constant(axis)).output(0)
    return [Value(tensor, _without(data.order, axes))]


def _interpolate(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """The axes, where there are any, are the last input."""
    attributes = node.get_attributes()
    axes = integers(node.input_value(len(inputs) - 1)) if len(inputs) > 2 else None
    if axes is None or any(attributes["pads_begin"]) or any(attributes["pads_end"]):
        return None
    order = inputs[0].order
    return _same_order(node, [*(v.tensor for v in inputs[:-1]), constant([order[a] for a in axes])], order)


def _shape_of(node: ov.Node, inputs: list[Value]) -> list[Value]:
    rewire(node, [inputs[0].tensor])
    return [plain(_gathered(node.output(0), inputs[0].order))]


def _reshape(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """Splitting axes, each into several (grouped channels), or joining such axes again, where sizes are known."""
    data, shape = inputs[0], node.get_output_partial_shape(0)
    if shape.is_dynamic or data.tensor.get_partial_shape().is_dynamic:
        return None
    sizes = [data.tensor.get_shape()[i] for i in data.order]
    parts = _split(sizes, list(shape.to_shape()))
    if parts is not None:
        return [_regrouped(data.tensor, list(shape.to_shape()), [parts[i] for i in inverse(data.order)])]
    parts = _split(list(shape.to_shape()), sizes)
    return None if parts is None else _joined(data, list(shape.to_shape()), parts)


def _split(whole: list[int], pieces: list[int]) -> list[list[int]] | None:
    """For each axis of `whole`, the neighbouring axes of `pieces` whose product it is."""
    parts: list[list[int]] = []
    at = 0
    for size in whole:
        part = [at]
        while at < len(pieces) and np.prod([pieces[i] for i in part]) < size:
            at += 1
            part.append(at)
        at += 1
        if part[-1] >= len(pieces) or np.prod([pieces[i] for i in part]) != size:
            return None
        parts.append(part)
    return parts if at == len(pieces) else None


def _regrouped(tensor: ov.Output, shape: list[int], parts: list[list[int]]) -> Value:
    """The tensor with each axis split into its part of the new axes."""
    axes = [axis for part in parts for axis in part]
    return Value(ops.reshape(tensor, constant([shape[a] for a in axes]), False).output(0), inverse(tuple(axes)))


def _joined(data: Value, shape: list[int], parts: list[list[int]]) -> list[Value] | None:
    """The tensor with each part joined to one axis: its axes must be neighbours there, in this order."""
    places = [[data.order[a] for a in part] for part in parts]
    if any(place != list(range(place[0], place[0] + len(place))) for place in places):
        return None
    axes = sorted(range(len(parts)), key=lambda i: places[i])
    return [Value(ops.reshape(data.tensor, constant([shape[a] for a in axes]), False).output(0), inverse(tuple(axes)))]


def _matmul(node: ov.Node, inputs: list[Value]) -> list[Value] | None:
    """A matrix applied to the channels of a map is a convolution of one cell."""
    data, matrix = inputs
    attributes = node.get_attributes()
    rank = len(data.order)
    is_map = 3 <= rank <= 5 and data.order[0] == 0 and data.order[-1] == 1 and not attributes["transpose_a"]
    if not is_map or not matrix.is_weight or rank_of(matrix.tensor) != 2:
        return None
    turned = matrix.tensor if attributes["transpose_b"] else ops.transpose(matrix.tensor, constant([1, 0])).output(0)
    kernel = ops.unsqueeze(turned, constant(range(2, rank)))
    ones, zeros = [1] * (rank - 2), [0] * (rank - 2)
    return [Value(ops.convolution(data.tensor, kernel, ones, zeros, zeros, ones).output(0), data.order)]


def _ranks_known(node: ov.Node) -> bool:
    return all(rank_of(o) is not None for o in node.input_values())


def _extent(value: Value) -> int:
    """How many axes of the value are longer than one, or may be."""
    return sum(d.is_dynamic or d.get_length() != 1 for d in value.tensor.get_partial_shape())


def _without(order: Order, axes: Sequence[int]) -> Order:
    """The order of what is left when these axes of the tensor are gone."""
    left = [i for i in order if i not in axes]
    return tuple(sorted(left).index(i) for i in left)


def _constant_like(values: list[int], like: Value) -> ov.Output:
    return constant(values if len(like.order) else values[0])


def _gathered(vector: ov.Output, order: Order) -> ov.Output:
    return ops.gather(vector, constant(order), constant(0)).output(0)


def _same_order(node: ov.Node, tensors: Sequence[ov.Output], order: Order) -> list[Value]:
    rewire(node, tensors)
    return [Value(o, order) for o in node.outputs()]


_POINTWISE = """
    Abs Acos Acosh Add Asin Asinh Atan Atanh BitwiseAnd BitwiseOr Ceiling Clamp Convert Cos Cosh Divide Elu Equal Erf
    Exp Floor FloorMod Gelu Greater GreaterEqual HSigmoid HSwish HardSigmoid IsFinite IsInf IsNaN Less LessEqual Log
    LogicalAnd LogicalNot LogicalOr LogicalXor Maximum Minimum Mish Mod Multiply Negative NotEqual Power Relu Round
    Select Selu Sigmoid Sign Sin Sinh SoftPlus SoftSign Sqrt SquaredDifference Subtract Swish Tan Tanh
""".split()  # noqa: SIM905
_AXES_INPUT = """
    CumSum LRN MVN NormalizeL2 ReduceL1 ReduceL2 ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum Split VariadicSplit
""".split()  # noqa: SIM905

RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(_AXES_INPUT, _axes_input),
    **dict.fromkeys(("Concat", "Softmax", "LogSoftmax"), _axis_attribute),
    **dict.fromkeys(("Pad", "Tile"), _per_axis),
    "BatchNormInference": _batch_norm,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Interpolate": _interpolate,
    "MatMul": _matmul,
    "PRelu": _prelu,
    "Reshape": _reshape,
    "ShapeOf": _shape_of,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
