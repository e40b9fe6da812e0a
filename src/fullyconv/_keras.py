"""What touches Keras beyond its public layers: walking a graph, and a new layer from an old one.

Beside it only `_composite` (the graph inside a layer), `_saved` (weight files) and `_openvino_core` do. What is private
here, and why there is no public way to it:

- `Function._run_through_graph` with a `call_fn` interprets a graph call by call, with the arguments as recorded.
- `Sequential._functional` is the graph of a Sequential model.
- `keras.src.ops` holds the classes of the operations, which the public functions of `keras.ops` create unnamed.
- `keras.src.applications` holds the custom layers of ConvNeXt and InceptionResNet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.models.functional import Functional
from keras.src.ops import core as core_operations
from keras.src.ops import nn as nn_operations
from keras.src.ops import numpy as numpy_operations
from keras.src.ops.function import Function
from keras.src.ops.operation import Operation

from fullyconv._composite import attention_in, inner_layers, traced, why_not
from fullyconv._openvino_core import lend_to_keras

__all__ = [
    "CustomScaleLayer",
    "LayerScale",
    "Operation",
    "StochasticDepth",
    "attention_in",
    "core_operations",
    "inner_layers",
    "nn_operations",
    "numpy_operations",
    "why_not",
]

Visit = Callable[..., Any]
Rules = Mapping[type, Any] | None

if keras.backend.backend() == "openvino":
    lend_to_keras()


def graph_of(operation: Any) -> Function | None:
    """The graph inside a Sequential or Functional model, or a layer that calls layers of its own; else None."""
    if isinstance(operation, keras.Sequential) and type(operation).call is keras.Sequential.call:
        return operation._functional if operation.built else None
    if isinstance(operation, Functional) and type(operation).call is Functional.call:
        return operation
    return operation if type(operation) is Function else traced(operation)


def _nothing(*_: Any) -> None:
    pass


def graph_inside(operation: Any, whole: Rules) -> Function | None:
    """The graph of an inner model or layer, unless its class has an entry in a table of rules."""
    return None if whole and rule_for(operation, whole) is not None else graph_of(operation)


def walk(model: Any, inputs: Any, visit: Visit, leave: Visit = _nothing, whole: Rules = None) -> Any:
    """Interpret a model: `visit(operation, *args, **kwargs)` is called for each call of its graph.

    Inner models are inlined, and so are layers that call layers of their own.

    Args:
        model: A model with a graph.
        inputs: What stands for its input tensors, flat or in their structure.
        visit: Returns what stands for the outputs of the call.
        leave: Called with each operation or inner model, and what stands for its outputs.
        whole: A table of classes; what has an entry in it is not inlined.

    Returns:
        What stands for the outputs, in the model's structure.
    """

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        inner = graph_inside(operation, whole) is not None
        outputs = walk(operation, args[0], visit, leave, whole) if inner else visit(operation, *args, **kwargs)
        leave(operation, outputs)
        return outputs

    graph = graph_of(model)
    if graph is None:
        raise TypeError(f"{type(model).__name__} has no graph to walk")
    return graph._run_through_graph(keras.tree.flatten(inputs), call_fn=call)


def operations_of(model: Any, prefix: str = "", whole: Rules = None) -> Iterator[tuple[str, Any]]:
    """Every operation of a model with the name of the inner model it is in, inner models inlined as `walk` does it."""
    graph = graph_of(model)
    for operation in graph.operations if graph is not None else ():
        if graph_inside(operation, whole) is not None:
            yield from operations_of(operation, operation.name, whole)
        elif not (prefix and isinstance(operation, keras.layers.InputLayer)):
            yield prefix, operation


def calls_in(model: Any, known: dict[int, int] | None = None) -> int:
    """How many calls `walk` makes of operations, counted without making them."""
    graph, known = graph_of(model), {} if known is None else known
    if graph is None:
        return 1
    if id(graph) not in known:
        nodes = (node for nodes in graph._nodes_by_depth.values() for node in nodes)
        known[id(graph)] = sum(calls_in(node.operation, known) for node in nodes)
    return known[id(graph)]


def inner_models(model: Any) -> Iterator[Any]:
    """Every model inside a model, to any depth."""
    graph = graph_of(model)
    for operation in graph.operations if graph is not None else ():
        if graph_of(operation) is not None:
            yield operation
            yield from inner_models(operation)


def input_structure(model: Any) -> Any:
    """The input tensors of a model, in the structure its caller uses."""
    graph: Any = graph_of(model)
    return graph._inputs_struct


def output_names(model: Any) -> list[str]:
    """A name for each output: its key where the outputs have keys, else the operation it comes from."""
    graph: Any = graph_of(model)
    structure = graph._outputs_struct
    if isinstance(structure, dict) and not any(map(keras.tree.is_nested, structure.values())):
        return sorted(structure)
    names = [t._keras_history.operation.name for t in keras.tree.flatten(structure)]
    return [name if names.index(name) == i else f"{name}_{i}" for i, name in enumerate(names)]


@contextmanager
def normalization_by_arrays(model: Any) -> Iterator[None]:
    """While it lasts, the model's Normalization layers hold arrays in place of tensors.

    TensorFlow's functions capture such a tensor as an argument, which tf2onnx takes for an input of the network.
    """
    found = [o for _, o in operations_of(model) if isinstance(o, keras.layers.Normalization) and o.mean is not None]
    held = [(layer, layer.mean, layer.variance) for layer in found]
    for layer, mean, variance in held:
        layer.mean, layer.variance = map(keras.ops.convert_to_numpy, (mean, variance))
    try:
        yield
    finally:
        for layer, mean, variance in held:
            layer.mean, layer.variance = mean, variance


def output_spec(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Shapes and dtypes that an operation returns for symbolic arguments, without calling it."""
    return operation.compute_output_spec(*args, **kwargs)


def checked_spec(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """As `output_spec`, where the operation's weights fit what it is given.

    Raises:
        ValueError: they do not.
    """
    if isinstance(operation, keras.layers.Layer) and args:
        operation._assert_input_compatibility(args[0])
    return output_spec(operation, args, kwargs)


def rule_for(operation: Any, table: Mapping[type, Any]) -> Any:
    """The entry of the operation's class, else of the nearest parent that shares its `call`, else None."""
    for cls in type(operation).__mro__:
        if cls in table:
            return table[cls]
        if "call" in vars(cls):
            return None
    return None


def parameters(operation: Operation) -> dict[str, Any]:
    """What an operation was created with, without its name."""
    config = dict(operation.get_config())
    config.pop("name", None)
    return config


def arrays(layer: keras.layers.Layer) -> dict[str, Callable[[], np.ndarray]]:
    """The layer's weights by name, each copied when called, with LoRA folded into the kernel."""
    fetch: dict[str, Callable[[], np.ndarray]] = {
        w.name: partial(value_of, w) for w in layer.weights if not w.name.startswith("lora_")
    }
    if getattr(layer, "lora_enabled", False):
        fetch["kernel"] = lambda: np.array(keras.ops.convert_to_numpy(layer.kernel))
    return fetch


def value_of(variable: keras.Variable) -> np.ndarray:
    """A variable's value as an array to make another variable from.

    On torch Keras hands out the memory itself, which is copied. On jax this is a view, which `_fitting` copies: an
    array would be copied twice, and kept until Python next collects garbage.
    """
    if keras.backend.backend() == "jax":
        with suppress(BufferError, RuntimeError, TypeError, ValueError):  # on an accelerator, or of 16 bits
            return np.from_dlpack(variable.value)
    value = keras.ops.convert_to_numpy(variable)
    return value.copy() if keras.backend.backend() == "torch" else value


def is_quantized(layer: Any) -> bool:
    """Whether the layer computes with integer or float8 weights."""
    return getattr(getattr(layer, "dtype_policy", None), "quantization_mode", None) is not None


@contextmanager
def _created_with(layer: keras.layers.Layer, values: dict[str, Callable[[], np.ndarray]]) -> Iterator[None]:
    """Let the layer create its variables from these values, so that no initial value is ever allocated."""
    original = layer.add_weight

    def add_weight(*args: Any, name: str | None = None, **kwargs: Any) -> Any:
        if name in values:
            kwargs["initializer"] = _initializer(layer, name, values.pop(name))
        return original(*args, name=name, **kwargs)

    layer.add_weight = add_weight
    try:
        yield
    finally:
        del layer.add_weight


def _initializer(layer: keras.layers.Layer, name: str, value: Callable[[], np.ndarray]) -> Callable[..., Any]:
    """What Keras calls for a variable's first value."""
    return lambda shape, **_: _fitting(layer, name, value(), shape)


_LARGE = 2**24  # bytes


def _fitting(layer: keras.layers.Layer, name: str, value: np.ndarray, shape: Sequence[int]) -> Any:
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{layer.name}: weight {name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    if keras.backend.backend() == "jax":
        import jax.numpy as jnp  # noqa: PLC0415  # where jax is the backend, it is there

        # Without a dtype JAX compiles the copy, 50 ms a shape; with one it may copy twice, which large kernels notice.
        return jnp.array(value, dtype=value.dtype if value.nbytes < _LARGE else None, copy=True)
    return value


def build_layer(
    kind: type[Any], config: Mapping[str, Any], values: Mapping[str, Callable[[], np.ndarray]], args: Any, kwargs: Any
) -> tuple[keras.layers.Layer, Any]:
    """A new layer with these weights, called on symbolic tensors.

    Returns:
        The layer and its symbolic output.

    Raises:
        ValueError: a value has no variable of its name, or one of another shape.
    """
    layer = kind.from_config(dict(config))
    values = dict(values)
    with _created_with(layer, values):
        outputs = layer(*args, **kwargs)
    if values:
        raise ValueError(f"{layer.name} has no weights named {', '.join(map(repr, sorted(values)))}")
    return layer, outputs


def copy_weights(source: keras.layers.Layer, layer: keras.layers.Layer) -> None:
    """Copy weights by position, for layers that keep their weights in layers of their own."""
    for old, new in zip(source.weights, layer.weights, strict=True):
        new.assign(keras.ops.convert_to_numpy(old))


def has_own_weights(layer: keras.layers.Layer) -> bool:
    """Whether each weight is the layer's own and has a name of its own, as in all layers of Keras itself."""
    own = {id(w) for w in (*layer._trainable_variables, *layer._non_trainable_variables)}
    names = [w.name for w in layer.weights]
    stock = type(layer).__module__.startswith("keras.src.layers.")
    return stock and len(set(names)) == len(names) and all(id(w) in own for w in layer.weights)


def clone(model: Any) -> Any:
    """A model of the same layers, names and settings, its weights not those of the model."""

    def entered(tensor: Any) -> Any:
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor._keras_history.operation.name)

    inputs = keras.tree.map_structure(entered, input_structure(model))
    known = {type(layer).__name__: type(layer) for layer in inner_layers(model)}
    with keras.saving.custom_object_scope({name: kind for name, kind in known.items() if not _is_keras(kind)}):
        return keras.models.clone_model(model, input_tensors=inputs)


def _is_keras(kind: type[Any]) -> bool:
    return kind.__module__.startswith("keras.")


def output_operations(model: Any) -> list[Any]:
    """The operation that computes each output of a model, looked up inside inner models and before `take`."""
    found: list[Any] = []
    graph: Any = graph_of(model)
    for tensor in keras.tree.flatten(graph._outputs_struct):
        operation, _, index = _before_taking(tensor)._keras_history
        found.append(output_operations(operation)[index] if graph_of(operation) is not None else operation)
    return found


_TAKING = (numpy_operations.Take, numpy_operations.Concatenate, numpy_operations.Split)
_REARRANGING = (
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Reshape,
    numpy_operations.Reshape,
    numpy_operations.Squeeze,
    numpy_operations.Transpose,
)


def _before_taking(tensor: Any) -> Any:
    """The tensor whose values a `take` of concatenated parts of it, or a reshape, puts in another order."""
    operation, node, _ = tensor._keras_history
    taking = isinstance(operation, numpy_operations.Take)
    moving = _TAKING if taking else _REARRANGING
    while isinstance(operation, moving):
        tensor = operation._inbound_nodes[node].input_tensors[0]
        operation, node, _ = tensor._keras_history
    return tensor


class Interpreter:
    """A model's graph as a callable on backend tensors, with some of its calls answered by something else.

    Args:
        model: A model with a graph.
        replace: Functions by the id of the operation they stand in for.
        until: Id of an operation or inner model whose output is returned.
        any_size: Whether images of other sizes than the model's own are taken.
    """

    def __init__(
        self,
        model: Any,
        replace: Mapping[int, Visit] | None = None,
        until: int | None = None,
        any_size: bool = False,
    ) -> None:
        self.model, self.replace, self.until = model, dict(replace or {}), until
        self.input = input_structure(model)
        if any_size:
            self.input = keras.tree.map_structure(_of_any_size, self.input)
        self.inputs = keras.tree.flatten(self.input)
        self.weights = list(getattr(model, "weights", ()))

    def __call__(self, x: Any) -> Any:
        """The outputs of the graph for these inputs."""
        reached: dict[str, Any] = {}

        def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
            stand_in = self.replace.get(id(operation), operation)
            if getattr(operation, "_call_has_training_arg", False):
                kwargs["training"] = False
            return stand_in(*args, **kwargs)

        def leave(operation: Any, outputs: Any) -> None:
            if id(operation) == self.until:
                reached["outputs"] = outputs

        outputs = walk(self.model, x, visit, leave)
        return reached["outputs"] if self.until is not None else outputs


def _of_any_size(tensor: Any) -> Any:
    """An image input with its spatial sizes open, the channels being its smallest axis."""
    shape = tuple(tensor.shape)
    if len(shape) < 3:
        return tensor
    first = shape[1] is not None and (shape[-1] is None or shape[1] < shape[-1])
    sizes = (None,) * (len(shape) - 2)
    opened = (None, shape[1], *sizes) if first else (None, *sizes, shape[-1])
    return keras.KerasTensor(opened, tensor.dtype, name=tensor.name)


def without_activation(layer: keras.layers.Layer) -> Visit:
    """A copy of a layer that has an activation, without it."""
    twin = type(layer).from_config({**layer.get_config(), "activation": None})
    twin.build_from_config(layer.get_build_config())
    copy_weights(layer, twin)
    return twin.__call__
