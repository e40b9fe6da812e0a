"""From a Keras model on the openvino backend to a compiled OpenVINO graph."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import openvino as ov
from openvino import opset16 as ops

from fullyconv._layout import constant, integers, rank_of, rewire, sink_transposes
from fullyconv._layout_rules import RULES
from fullyconv._openvino_core import core

# Measured on lowered nets (MobileNetV2, EfficientNetB0, ResNet50, DenseNet121, ConvNeXtTiny, VGG16; 97 to 512 pixels):
# compiling takes 0.1 to 0.6 s, and a graph of unknown sizes runs 1.0 to 1.3 times as long as one of known sizes.
STATIC_SHAPES = 2  # shapes that get a graph of their own at once
STATIC_USES = 16  # uses after which another shape gets one too, if there is room
GRAPHS = 6
DYNAMIC_SHAPES = 64  # shapes after which the graph of unknown sizes, which keeps something of each, is compiled anew
WEIGHT_BYTES = 2**30  # every graph holds a copy of the weights: bounds their sum, down to two graphs

Shapes = tuple[tuple[int, ...], ...]
Run = Callable[[list[np.ndarray]], Any]


def trace(
    call: Callable[[Any], Any], inputs: Sequence[Any], structure: Any, shapes: Sequence[Sequence[int]]
) -> tuple[ov.Model, Any]:
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
    sink_transposes(graph, RULES)
    shield_reductions(graph)
    return graph


def shield_reductions(graph: ov.Model) -> None:
    """Reduce tensors of rank 3 at rank 4.

    OpenVINO 2026.4 on CPUs gives wrong numbers, without a word, where a reduction of rank 3 over its last axis is
    followed by one weight a channel (GlobalAveragePooling1D, then BatchNormalization).
    """
    for node in graph.get_ordered_ops():
        if not node.get_type_name().startswith("Reduce") or rank_of(node.input_value(0)) != 3:
            continue
        axes = integers(node.input_value(1))
        if axes is None:
            continue
        users = node.output(0).get_target_inputs()
        raised = ops.unsqueeze(node.input_value(0), constant([3])).output(0)
        rewire(node, [raised, constant([*(a % 3 for a in axes), 3])])
        if node.get_attributes()["keep_dims"]:
            lowered = ops.squeeze(node.output(0), constant([3])).output(0)
            for user in users:
                user.replace_source_output(lowered)
    graph.validate_nodes_and_infer_types()


def compiled(graph: ov.Model, structure: Any, config: dict[str, Any]) -> Callable[[list[np.ndarray]], Any]:
    """A callable from flat arrays to arrays in `structure`."""
    _name(graph)
    executable = core().compile_model(graph, "CPU", config)

    def run(arrays: list[np.ndarray]) -> Any:
        return keras.tree.pack_sequence_as(structure, list(executable(arrays).to_tuple()))

    return run


def _name(graph: ov.Model) -> None:
    """Names that are the same in every process: OpenVINO's own count on, and its cache tells graphs apart by them."""
    graph.set_friendly_name("graph")
    for number, node in enumerate(graph.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
    for number, port in enumerate([*graph.inputs, *graph.outputs]):
        port.set_names({f"port_{number}"})


def named(graph: ov.Model, inputs: Sequence[str], outputs: Sequence[str]) -> ov.Model:
    """The graph itself, its inputs and outputs named."""
    for port, name in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
        port.get_node().set_friendly_name(name)
        port.set_names({name})
    return graph


class OpenVINORunner:
    """Compiled graphs by input shapes, the least recently used first."""

    def __init__(
        self,
        call: Callable[[Any], Any],
        inputs: Sequence[keras.KerasTensor],
        structure: Any,
        weight_bytes: int,
        config: dict[str, Any],
    ) -> None:
        self._call = call
        self._inputs = inputs
        self._structure = structure
        self._room = max(2, min(GRAPHS, WEIGHT_BYTES // max(weight_bytes, 1)))
        self._config = config
        self.clear()

    def clear(self) -> None:
        """Drop every graph."""
        self._graphs: OrderedDict[Shapes, Run] = OrderedDict()
        self._uses: Counter[Shapes] = Counter()
        self._kept: set[Shapes] = set()  # by the graph of unknown sizes
        self._dynamic_works = True

    def prepare(self, shapes: Sequence[tuple[int, ...]]) -> Run:
        """What runs arrays of these shapes, compiled if need be."""
        key = tuple(shapes)
        self._uses[key] += 1
        if key in self._graphs or self._deserves_its_own(key):
            return self._graph(key)
        dynamic = self._dynamic(key)
        return self._graph(key) if dynamic is None else lambda arrays: self._run(dynamic, key, arrays)

    def _run(self, dynamic: Run, key: Shapes, arrays: list[np.ndarray]) -> Any:
        try:
            return dynamic(arrays)
        except RuntimeError:  # a graph of its own may do, and if not it says better what is wrong with these sizes
            return self._graph(key)(arrays)

    def _deserves_its_own(self, key: Shapes) -> bool:
        if len(self._uses) <= STATIC_SHAPES or not self._dynamic_works:
            return True
        return self._uses[key] >= STATIC_USES and len(self._graphs) < self._room

    def _dynamic(self, key: Shapes) -> Run | None:
        sizes = tuple((-1, *(-1 if n is None else n for n in t.shape[1:])) for t in self._inputs)
        if len(self._kept | {key}) > DYNAMIC_SHAPES:
            self._graphs.pop(sizes, None)
            self._kept.clear()
            self._uses = Counter(dict(self._uses.most_common(DYNAMIC_SHAPES)))
        self._kept.add(key)
        try:
            return self._graph(sizes)
        except Exception:  # noqa: BLE001  some layers must know sizes to be traced: then each shape has its graph
            self._dynamic_works = False
            return None

    def _graph(self, key: Shapes) -> Run:
        if key not in self._graphs:
            while len(self._graphs) >= self._room:
                self._graphs.popitem(last=False)
            graph, structure = trace(self._call, self._inputs, self._structure, key)
            self._graphs[key] = compiled(lower(graph), structure, self._config)
        self._graphs.move_to_end(key)
        return self._graphs[key]
