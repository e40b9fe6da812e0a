"""Lower an OpenVINO graph to channels-first, knowing no layer.

Keras computes channels-last, and its openvino backend wraps every convolution and pooling in a transpose to
channels-first and one back, which can cost more than the network itself. Here no transpose is carried out where it
stands. Each value travels as a tensor and an `order` still owed (value = transpose(tensor, order)); operations that
do not care about the order of axes compute on the tensor and pass the debt on; a transpose only changes the debt;
and an operation without a rule gets it paid first, so that the result is right whatever the graph holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import openvino as ov
from openvino import opset16 as ops

Order = tuple[int, ...]


class Value(NamedTuple):
    """A tensor of the graph: `transpose(tensor, order)`."""

    tensor: ov.Output
    order: Order
    is_weight: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing is owed."""
        return self.order == tuple(range(len(self.order)))


Rule = Callable[[ov.Node, list[Value]], list[Value] | None]


def sink_transposes(graph: ov.Model, rules: Mapping[str, Rule]) -> None:
    """Rewrite a graph so that transposes are owed along it and paid where no rule can pass them on."""
    values: dict[tuple[int, int], Value] = {}
    for node in graph.get_ordered_ops():
        inputs = [values[key_of(o)] for o in node.input_values()]
        number = node.get_instance_id()
        values.update({(number, port): value for port, value in enumerate(_visited(node, inputs, rules))})
    graph.validate_nodes_and_infer_types()


def _visited(node: ov.Node, inputs: list[Value], rules: Mapping[str, Rule]) -> list[Value]:
    """What the outputs of a node become."""
    kind = node.get_type_name()
    if kind != "Parameter" and all(v.is_weight for v in inputs):
        return [plain(o)._replace(is_weight=True) for o in node.outputs()]
    if kind in rules and (kind == "Transpose" or not all(v.is_plain for v in inputs)):
        outputs = rules[kind](node, inputs)
        if outputs is not None:
            return outputs
    rewire(node, [paid(v) for v in inputs])
    return [plain(o) for o in node.outputs()]


def paid(value: Value) -> ov.Output:
    """The value itself, its transpose carried out."""
    return arranged(value, tuple(range(len(value.order))))


def arranged(value: Value, order: Order) -> ov.Output:
    """The tensor from which the value is `order` away."""
    steps = [value.order[i] for i in inverse(order)]
    return value.tensor if steps == sorted(steps) else _transposed(value.tensor, steps)


def _transposed(tensor: ov.Output, steps: list[int]) -> ov.Output:
    """The transpose of a tensor: the first one that is there already, if there is one."""
    users = [user.get_node() for user in tensor.get_target_inputs() if user.get_index() == 0]
    alike = [n for n in users if n.get_type_name() == "Transpose" and integers(n.input_value(1)) == steps]
    if not alike:
        return ops.transpose(tensor, constant(steps)).output(0)
    node = min(alike, key=lambda n: n.get_instance_id())
    node.validate_and_infer_types()  # the tensor may have changed its layout since
    return node.output(0)


def rewire(node: ov.Node, tensors: Sequence[ov.Output]) -> None:
    """Put these tensors in the place of the inputs of the node."""
    for port, tensor in enumerate(tensors):
        if key_of(node.input_value(port)) != key_of(tensor):
            node.set_argument(port, tensor)
    node.validate_and_infer_types()


def key_of(output: ov.Output) -> tuple[int, int]:
    """What tells an output from every other."""
    return output.get_node().get_instance_id(), output.get_index()


def plain(output: ov.Output) -> Value:
    """A value that owes nothing."""
    return Value(output, tuple(range(rank_of(output) or 0)))


def rank_of(output: ov.Output) -> int | None:
    """The number of axes, if it is known."""
    rank = output.get_partial_shape().rank
    return rank.get_length() if rank.is_static else None


def inverse(order: Order) -> Order:
    """The order that undoes this one."""
    return tuple(order.index(i) for i in range(len(order)))


def constant(values: Sequence[int] | int) -> ov.Output:
    """Integers, as a constant of the graph."""
    return ops.constant(np.array(values, "int64")).output(0)


def integers(output: ov.Output) -> list[int] | None:
    """The numbers of a constant, as a list; None where it is no constant."""
    node = output.get_node()
    return [int(i) for i in np.ravel(node.data)] if node.get_type_name() == "Constant" else None
