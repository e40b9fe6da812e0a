"""From a Keras model on the openvino backend to a compiled OpenVINO graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import openvino as ov
from openvino import opset16 as ops

from fullyconv._layout import Lowering
from fullyconv._layout_rules import RULES


def trace(call: Callable[[Any], Any], inputs: Sequence[Any], structure: Any, shapes: Sequence[Sequence[int]]) -> tuple[ov.Model, Any]:
    """The graph of `call` on inputs of `shapes` (-1: unknown), and the structure of its outputs.

    bfloat16 enters and leaves the graph as float32, since NumPy has no bfloat16 of its own.
    """
    parameters = [ops.parameter(list(shape), _type(t.dtype)) for t, shape in zip(inputs, shapes, strict=True)]
    tensors = [_tensor(p, t.dtype) for p, t in zip(parameters, inputs, strict=True)]
    outputs = call(keras.tree.pack_sequence_as(structure, tensors))
    results = [ops.result(_readable(y.output)) for y in keras.tree.flatten(outputs)]
    return ov.Model(results, parameters), keras.tree.map_structure(lambda _: 0, outputs)


def _type(dtype: str) -> ov.Type:
    return ov.Type.f32 if dtype == "bfloat16" else ov.Type(np.dtype(dtype))


def _tensor(parameter: ov.Node, dtype: str) -> Any:
    tensor = keras.ops.convert_to_tensor(parameter.output(0))
    return keras.ops.cast(tensor, dtype) if dtype == "bfloat16" else tensor


def _readable(output: ov.Output) -> ov.Output:
    if output.get_element_type() != ov.Type.bf16:
        return output
    return ops.convert(output, ov.Type.f32).output(0)


def lower(graph: ov.Model) -> ov.Model:
    """The same function with the same inputs and outputs, computed channels-first; `graph` is not changed."""
    graph = graph.clone()
    nodes = graph.get_ordered_ops()
    lowering = Lowering(RULES, nodes)
    for node in nodes:
        lowering.visit(node)
    graph.validate_nodes_and_infer_types()
    return graph


def compiled(graph: ov.Model, structure: Any, config: dict[str, Any]) -> Callable[[list[np.ndarray]], Any]:
    """A callable from flat arrays to arrays in `structure`."""
    executable = ov.Core().compile_model(graph, "CPU", config)

    def run(arrays: list[np.ndarray]) -> Any:
        return keras.tree.pack_sequence_as(structure, list(executable(arrays).to_tuple()))

    return run
