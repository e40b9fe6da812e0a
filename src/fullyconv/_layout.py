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

    @property
    def is_plain(self) -> bool:
        return self.order == tuple(range(len(self.order)))


Rule = Callable[["Lowering", ov.Node, list[Value]], list[Value] | None]


class Lowering:
    """One walk over a graph: the value of every output seen so far, and the transposes added for them."""

    def __init__(self, rules: Mapping[str, Rule], nodes: Sequence[ov.Node]) -> None:
        self.values: dict[tuple[int, int], Value] = {}
        self._rules = rules
        self._live = _live(nodes)
        self._ranks = _channels_last_ranks([n for n in nodes if self.is_live(n)])
        self._transposes: dict[tuple[tuple[int, int], Order], ov.Output] = {}

    def visit(self, node: ov.Node) -> None:
        """Record what the outputs of `node` have become; a weight stays what it is."""
        outputs = self._lowered(node) if self.is_live(node) else None
        for port, value in enumerate(outputs or [plain(o) for o in node.outputs()]):
            self.values[node.get_instance_id(), port] = value

    def is_live(self, node: ov.Node) -> bool:
        """Whether a node of the graph depends on an input; weights do not."""
        return node.get_instance_id() in self._live

    def _lowered(self, node: ov.Node) -> list[Value] | None:
        if node.get_type_name() == "Parameter":
            return [self._entering(plain(node.output(0)))]
        inputs = [self.values[key_of(o)] for o in node.input_values()]
        outputs = self._ruled(node, inputs)
        if outputs is None:
            rewire(node, [self.paid(v) for v in inputs])
        return outputs

    def _ruled(self, node: ov.Node, inputs: list[Value]) -> list[Value] | None:
        kind = node.get_type_name()
        if kind not in self._rules or (kind != "Transpose" and all(v.is_plain for v in inputs)):
            return None
        return self._rules[kind](self, node, inputs)

    def paid(self, value: Value) -> ov.Output:
        """The value itself, its transpose carried out."""
        return self.arranged(value, tuple(range(len(value.order))))

    def arranged(self, value: Value, order: Order) -> ov.Output:
        """The tensor that is still `order` away from the value."""
        steps = tuple(value.order[i] for i in inverse(order))
        if steps == tuple(range(len(steps))):
            return value.tensor
        key = (key_of(value.tensor), steps)
        if key not in self._transposes:
            self._transposes[key] = ops.transpose(value.tensor, constant(steps)).output(0)
        return self._transposes[key]

    def _entering(self, value: Value) -> Value:
        """Images are turned once, at the door, where the graph takes tensors of their rank for channels-last."""
        rank = len(value.order)
        if rank not in self._ranks:
            return value
        order = (0, *range(2, rank), 1)
        return Value(self.arranged(value, order), order)


def _live(nodes: Sequence[ov.Node]) -> set[int]:
    """The nodes that depend on an input."""
    live: set[int] = set()
    for node in nodes:
        sources = {o.get_node().get_instance_id() for o in node.input_values()}
        if node.get_type_name() == "Parameter" or sources & live:
            live.add(node.get_instance_id())
    return live


def _channels_last_ranks(nodes: Sequence[ov.Node]) -> set[int]:
    """The ranks of the tensors that are turned from channels-last to channels-first."""
    orders = [integers(n.input_value(1)) for n in nodes if n.get_type_name() == "Transpose"]
    return {len(o) for o in orders if o is not None and len(o) > 2 and o == [0, len(o) - 1, *range(1, len(o) - 1)]}


def key_of(output: ov.Output) -> tuple[int, int]:
    return output.get_node().get_instance_id(), output.get_index()


def plain(output: ov.Output) -> Value:
    return Value(output, tuple(range(rank_of(output) or 0)))


def rank_of(output: ov.Output) -> int | None:
    rank = output.get_partial_shape().rank
    return rank.get_length() if rank.is_static else None


def inverse(order: Order) -> Order:
    return tuple(order.index(i) for i in range(len(order)))


def constant(values: Sequence[int] | int) -> ov.Output:
    return ops.constant(np.array(values, "int64")).output(0)


def integers(output: ov.Output) -> list[int] | None:
    """The numbers of a constant, as a list."""
    node = output.get_node()
    return [int(i) for i in np.ravel(node.data)] if node.get_type_name() == "Constant" else None


def rewire(node: ov.Node, tensors: Sequence[ov.Output]) -> None:
    """Put these tensors in the place of the inputs of the node."""
    for port, tensor in enumerate(tensors):
        if key_of(node.input_value(port)) != key_of(tensor):
            node.set_argument(port, tensor)
    node.validate_and_infer_types()
