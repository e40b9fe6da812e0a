"""Networks up to the last activation of each output: what two of them are compared by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.walk import unique_names


def logits(
    model: Any,
    fcn: Any,
    until: str | None = None,
    replace: Mapping[int, Callable[..., Any]] | None = None,
    any_size: bool = False,
) -> tuple[Any, Any]:
    """Both networks up to the last activation of each output, where both end in one, as the engine can run them."""
    mine, theirs = dict(replace or {}), {}
    last = _keras.output_operations(model), _keras.output_operations(fcn)
    for old, new in zip(*last, strict=True) if until is None else ():
        if _ends_in_activation(old) and _ends_in_activation(new):
            mine.setdefault(id(old), _before_activation(old))
            theirs[id(new)] = _before_activation(new)
    names = unique_names(model)
    inner = {id(o): o.name for o in _keras.inner_models(model)}
    end = next((i for i, name in (names | inner).items() if name == until), None)
    return _keras.Interpreter(model, mine, end, any_size), _keras.Interpreter(fcn, theirs)


def _ends_in_activation(operation: Any) -> bool:
    return _before_activation(operation) is not operation


def _before_activation(operation: Any) -> Callable[..., Any]:
    nn = _keras.nn_operations
    if isinstance(operation, (keras.layers.Softmax, keras.layers.Activation, nn.Softmax, nn.Sigmoid)):
        return lambda x, **_: x
    activation = getattr(operation, "activation", None)
    if activation is None or activation is keras.activations.linear or not isinstance(operation, keras.layers.Layer):
        return operation
    return _keras.without_activation(operation)


def skipped(model: Any, names: Sequence[str]) -> dict[int, Callable[..., Any]]:
    """The stand-ins that leave out the layers of these names or kinds, as `logits` takes them."""
    left_out = {}
    for _, operation in _keras.operations_of(model):
        if not {operation.name, type(operation).__name__.lower()}.isdisjoint(names):
            left_out[id(operation)] = lambda x, **_: x
    return left_out
