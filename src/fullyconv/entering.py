"""What enters each layer of a network: its size, its stride, and the order in which a map was flattened.

`Entering` is the walk that plans a conversion. Where that has no rule, a new map begins: how a map was flattened does
not depend on how it came about. `reached` needs no window, and knows shapes and the layers in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.errors import WindowError
from fullyconv.geometry import Axis, Number
from fullyconv.inputs import channels_first, whole_numbers
from fullyconv.rules import RULES
from fullyconv.rules.places import OfPlaces
from fullyconv.rules.rule import Map, Recipe, Rule, Site
from fullyconv.walk import Refused, Walk, tensors

Window = int | Sequence[int] | None


def _moving(kind: type, move: Callable[..., np.ndarray]) -> Rule:
    """The rule of an operation that puts all values in another order: nothing, as of a Permute; else its own rule."""

    def rule(op: Any, x: Map, *args: Any, site: Site, **kwargs: Any) -> Any:
        """The same values under other positions."""
        try:
            moved = move(op, x.positions[None], *args)[0]
        except (AttributeError, IndexError, TypeError, ValueError):
            moved = np.empty(0)
        whole = np.array_equal(np.sort(moved, axis=None), np.sort(x.positions, axis=None)) if moved.size else False
        return x.with_positions(moved) if whole else RULES[kind](op, x, *args, site=site, **kwargs)

    return OfPlaces(rule)


_ops = _keras.numpy_operations
_MOVING: dict[type, Rule] = {
    _ops.Flip: _moving(_ops.Flip, lambda op, values: np.flip(values, op.axis)),
    _ops.GetItem: _moving(_ops.GetItem, lambda _, values, key: values[tuple(key)]),
    _ops.Take: _moving(_ops.Take, lambda op, values, numbers: np.take(values, numbers, op.axis)),
}


class Entering(Walk):
    """A walk that takes note of the map that enters each operation.

    Args:
        model: A model with a graph.
        window: Spatial size in pixels of its images, where its input leaves it open.

    Attributes:
        entering: The maps that entered each operation in its calls, by its id.
        begun: Names of the operations without a rule, behind which a new map begins.
    """

    def __init__(self, model: keras.Model, window: Window) -> None:
        options = {"window": window, "pool": "window", "context": "global", "rules": _MOVING, "until": None, "skip": ()}
        super().__init__(model, {**options, "head": "convolution"})
        self.entering: dict[int, list[Map]] = {}
        self.begun: list[str] = []

    def follow(self) -> Entering:
        """The same walk, walked."""
        self.maps()
        return self

    def into(self, layer: Any) -> tuple[Map | None, tuple[Number, ...]]:
        """The map that enters a layer, and its stride; empty where that is not known."""
        given = self.entering.get(id(layer), [None])[0]
        return given, tuple(axis.stride for axis in given.axes) if given and not self.begun else ()

    def visit(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """What stands for the outputs of one call."""
        given = keras.tree.flatten((args, kwargs))
        self.entering.setdefault(id(operation), []).extend(x for x in given if isinstance(x, Map))
        out = super().visit(operation, *args, **kwargs)
        if not any(isinstance(x, Refused) for x in keras.tree.flatten(out)):
            return out
        self.begun.append(self.names[id(operation)])
        if any(isinstance(x, Refused) for x in given):
            return out
        specs = keras.tree.flatten(_keras.output_spec(operation, *tensors(args, kwargs)))
        return [self._anew(spec) or x for spec, x in zip(specs, keras.tree.flatten(out), strict=True)]

    def _anew(self, spec: keras.KerasTensor) -> Map | None:
        """A new map or vector of a tensor's shape, where it is the shape of one."""
        shape, image = tuple(spec.shape[1:]), self.inputs[0]
        size, channels = (shape[1:], shape[0]) if image.channels_first else (shape[:-1], shape[-1])
        if None in shape or len(size) not in (0, image.rank):
            return None
        index = None if size else np.arange(channels)
        size = size or (1,) * image.rank
        axes = tuple(Axis(n) for n in size)
        return Map(Recipe(None), shape, spec.dtype, size, channels, image.channels_first, axes, index)


@dataclass(frozen=True)
class Reached:
    """What stands for a tensor of the network at the window: its shape, and the layers it was computed by."""

    spec: Any
    layers: frozenset[str]


@dataclass
class Reaching:
    """A walk over a network at the window.

    Args:
        entering: What enters each operation.
        stopped: The name of the operation that nothing is left at, where the window is too small.
    """

    entering: dict[int, Reached] = field(default_factory=dict)
    stopped: str | None = None


class _Stopped(Exception):
    """The end of a walk before the outputs."""


def reached(model: keras.Model, window: Window, known: Mapping[int, str]) -> Reaching:
    """What enters the operations of a network: its shape at the window, and the layers with weights in front of it."""
    found = Reaching()

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        given = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Reached)]
        layers = frozenset[str]().union(*(x.layers for x in given))
        found.entering[id(operation)] = Reached(given[0].spec, layers)
        own = {known[id(operation)]} if id(operation) in known else set()
        try:
            out = _spec_after(operation, args, kwargs)
        except ValueError:
            found.stopped = operation.name
            raise _Stopped from None
        return keras.tree.map_structure(lambda spec: Reached(spec, layers | own), out)

    first = channels_first(model)
    inputs = keras.tree.flatten(_keras.input_structure(model))
    with suppress(_Stopped):
        _keras.walk(model, [Reached(at_window(x, window, first), frozenset()) for x in inputs], visit)
    return found


def _spec_after(operation: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    kwargs = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
    specs = keras.tree.map_structure(lambda x: x.spec if isinstance(x, Reached) else x, (args, kwargs))
    return _keras.output_spec(operation, *specs)


def at_window(tensor: Any, window: Window, first: bool) -> Any:
    """An image input of the size of the window, where that is given."""
    axes = len(tensor.shape) - 2
    if window is None or axes < 1:
        return keras.KerasTensor(tensor.shape, tensor.dtype)
    sizes = whole_numbers(window, axes, "window")
    shape = (None, tensor.shape[1], *sizes) if first else (None, *sizes, tensor.shape[-1])
    return keras.KerasTensor(shape, tensor.dtype)


def rank(model: keras.Model) -> int:
    """Number of spatial axes of a model's images."""
    return max(len(tensor.shape) for tensor in keras.tree.flatten(_keras.input_structure(model))) - 2


def entering(model: keras.Model, window: Window) -> Entering:
    """The walk over a network at the window, as far as the window goes."""
    opened = any(None in tensor.shape[1:] for tensor in keras.tree.flatten(_keras.input_structure(model)))
    found = Entering(model, window if opened else None)
    with suppress(WindowError):  # nothing is left of the window at some layer, which others may not depend on
        found.follow()
    return found
