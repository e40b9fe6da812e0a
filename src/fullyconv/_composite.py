"""The graph inside a layer whose `call` is its user's, of layers and `keras.ops`: traced with symbolic tensors.

Private here, since Keras has no public way to it: `_inbound_nodes` is how a layer was called; `_flatten_layers`,
`_trainable_variables` and `_non_trainable_variables` tell its layers from what it holds itself.
"""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

# By layer: how often it had been called, and its graph, or why it has none. Tracing adds a node to each layer inside
# it, so that it is done again only where the layer has been called since.
_known: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()


def inner_layers(operation: Any) -> list[Any]:
    """The layers that a layer holds, to any depth; none for an operation."""
    return list(operation._flatten_layers(include_self=False)) if isinstance(operation, keras.layers.Layer) else []


def attention_in(operation: Any) -> str | None:
    """The class of a layer of attention that a layer holds, of those of Keras and KerasHub."""
    kinds = [type(layer) for layer in inner_layers(operation)]
    known = [kind.__name__ for kind in kinds if kind.__module__.split(".")[0] in ("keras", "keras_hub")]
    return next((name for name in known if "Attention" in name), None)


def traced(operation: Any) -> Any | None:
    """The graph of a layer whose `call` is written by its user, of layers and `keras.ops`; None where there is none.

    The layers in the graph are the very layers that it holds.
    """
    found = _traced(operation)
    return None if isinstance(found, str) else found


def why_not(operation: Any) -> str:
    """Why such a layer has no graph, in words that follow its name; empty where it has one or is Keras's own."""
    found = _traced(operation)
    return found if isinstance(found, str) else ""


def _traced(operation: Any) -> Any | str | None:
    if not _is_the_users(operation) or not getattr(operation, "_inbound_nodes", None):
        return None
    calls = len(operation._inbound_nodes)
    if operation not in _known or _known[operation][0] != calls:
        _known[operation] = calls, _trace(operation)
    return _known[operation][1]


def _is_the_users(operation: Any) -> bool:
    """Whether it is a layer whose `call` is not Keras's own, for which there are rules."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    home = next(cls for cls in type(operation).__mro__ if "call" in vars(cls))
    return not home.__module__.startswith("keras.")


def _trace(layer: Any) -> Any | str:
    attention = attention_in(layer)
    if attention is not None:
        return f"holds {attention}, which mixes every position with every other"
    if layer._trainable_variables or layer._non_trainable_variables:
        return "holds weights of its own" + (" beside its layers" if inner_layers(layer) else "")
    calls = [node.arguments for node in layer._inbound_nodes]
    settings = [_settings(call) for call in calls]
    if any(not call.args or _tensors(rest) for call, rest in zip(calls, settings, strict=True)):
        return "is called with more than one argument"
    if not all(_alike(other, settings[0]) for other in settings):
        return "is called with different settings in different places"
    try:
        inputs = keras.tree.map_structure(_common, *(call.args[0] for call in calls))
        graph = keras.Function(inputs, _called(layer, inputs, *settings[0]))
    except Exception as error:  # noqa: BLE001  anything may happen in a user's `call`
        said = str(error).strip().splitlines() or [""]
        return f"has a `call` that cannot be read as a graph ({type(error).__name__}: {said[0]})"
    trained = next(
        (node.operation for nodes in graph._nodes_by_depth.values() for node in nodes if _trains(node)), None
    )
    return graph if trained is None else f"calls its layer {trained.name!r} with training=True"


def _settings(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a layer was called with, besides its first argument."""
    return call.args[1:], {name: value for name, value in call.kwargs.items() if name not in ("training", "mask")}


def _alike(a: Any, b: Any) -> bool:
    """Whether a layer was called with the same settings, value for value."""
    empty = [keras.tree.map_structure(lambda _: None, settings) for settings in (a, b)]
    pairs = zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=False)
    return empty[0] == empty[1] and all(_equal(x, y) for x, y in pairs)


def _equal(x: Any, y: Any) -> bool:
    arrays = [isinstance(v, np.ndarray) or keras.ops.is_tensor(v) for v in (x, y)]
    if any(arrays):
        return all(arrays) and np.array_equal(*(keras.ops.convert_to_numpy(v) for v in (x, y)))
    return x is y or (type(x) is type(y) and repr(x) == repr(y))


def _tensors(settings: Any) -> bool:
    return any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(settings))


def _called(layer: keras.layers.Layer, inputs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the layer's own `call` returns at inference."""
    training = {"training": False} if layer._call_has_training_arg else {}
    return layer.call(inputs, *args, **kwargs, **training)


def _trains(node: Any) -> bool:
    """Whether a layer was told to act as in training, which it does wherever it is called from.

    Layers that work on images (Resizing, augmentation) say so where nobody tells them, and do not count.
    """
    takes = getattr(node.operation, "_call_has_training_arg", False)
    given = takes and inspect.signature(node.operation.call).parameters.get("training")
    if given and given.default is True:
        return False
    return takes and any(x is True for x in (*node.arguments.args[1:], node.arguments.kwargs.get("training")))


def _common(first: Any, *others: Any) -> Any:
    """An input of the sizes that all have, so that a `call` which counts on one of several cannot be traced."""
    shapes = zip(first.shape, *(t.shape for t in others), strict=True)
    return keras.Input(batch_shape=[n[0] if len(set(n)) == 1 else None for n in shapes], dtype=first.dtype)
