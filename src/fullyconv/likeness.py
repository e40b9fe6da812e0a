"""Whether a network is what a plan describes: its layers, their settings and weights, and how they are connected.

A network that Keras saved after training says nothing of where it came from. What training changes (values, what is
trainable, regularisation, dropout) does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.plan import Plan
from fullyconv.rules.rule import Arrange, Blueprint, Recipe, needed
from fullyconv.walk import unique_names

# Settings that have no part in a network's answer.
_NO_PART = (
    "name",
    "trainable",
    "dtype",
    "momentum",
    "rate",
    "seed",
    "stddev",
    "noise_shape",
    "synchronized",
    "autocast",
)
_NO_PART_ENDS = ("_initializer", "_regularizer", "_constraint", "_config")


def differences(made: Plan, network: keras.Model) -> list[str]:
    """What differs between the network of a plan and this one, a line each; nothing where it is that network."""
    want, have = _described(made), _found(network)
    wrong = [f"{name} is only in the network" for name in have if name not in want]
    wrong += [f"{name} is missing in the network" for name in want if name not in have]
    for name in want:
        if name in have:
            wrong += [f"{name}: {text}" for text in _between(want[name], have[name])]
    return wrong


class _Call:
    """The calls of one layer or operation, and what it is."""

    def __init__(self, kind: type, settings: Any, shapes: Mapping[str, Any]) -> None:
        self.kind, self.settings, self.shapes = kind, settings, shapes
        self.inputs: list[list[str]] = []


def _described(made: Plan) -> dict[str, _Call]:
    """The layers and operations of a plan by their names."""
    wanted, calls = needed(made.outputs), dict[str, _Call]()
    names = {id(x.recipe): f"input {i}" for i, x in enumerate(made.inputs)}
    for recipe in made.recipes:
        blueprint = recipe.blueprint
        if id(recipe) in wanted and blueprint is not None:
            if blueprint.name not in calls:
                kind: Any = blueprint.kind
                fresh = kind.from_config(dict(blueprint.config))
                calls[blueprint.name] = _Call(kind, _settings(fresh), _shapes_of(blueprint))
            calls[blueprint.name].inputs.append(_tokens((recipe.args, dict(recipe.kwargs)), names))
    return calls


def _found(network: keras.Model) -> dict[str, _Call]:
    """The layers and operations of a network by their names."""
    names, calls = unique_names(network), dict[str, _Call]()

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        name = names[id(operation)]
        tokens = _tokens((args, {k: v for k, v in kwargs.items() if k not in ("training", "mask")}), {})
        if name in spread:  # what is built for a vector among the inputs
            return tokens[0]
        if name not in calls:
            named = _keras.has_own_weights(operation) if isinstance(operation, keras.layers.Layer) else True
            calls[name] = _Call(type(operation), _settings(operation), _shapes(operation, named))
        calls[name].inputs.append(tokens)
        count = len(keras.tree.flatten(operation.output))
        return _Token(name) if count == 1 else [_Token(name)] * count

    inputs = keras.tree.flatten(_keras.input_structure(network))
    spread = {f"{tensor.name}_everywhere" for tensor in inputs}
    _keras.walk(network, [_Token(f"input {i}") for i in range(len(inputs))], visit)
    return calls


class _Token(str):
    """The name of what a tensor comes from."""


def _tokens(arguments: Any, names: Mapping[int, str]) -> list[str]:
    """Where the tensors among a call's arguments come from, and its constants."""
    found: list[str] = []
    for x in keras.tree.flatten(arguments):
        if isinstance(x, Recipe):
            source: Any = x.args[0] if x.blueprint is None and id(x) not in names else x
            found.append(_Token(names.get(id(source)) or source.blueprint.name))
        elif isinstance(x, (int, float, np.ndarray, np.generic)):
            found.append(" ".join(f"{value:.6g}" for value in np.ravel(x)))
        elif isinstance(x, _Token):
            found.append(x)
    return found


def _between(want: _Call, have: _Call) -> Iterator[str]:
    """What differs between a layer as it was converted and as it is in the network."""
    if want.kind.__name__ != have.kind.__name__:
        yield f"{have.kind.__name__} in the network, {want.kind.__name__} in its conversion"
        return
    if want.shapes != have.shapes:
        yield f"{_listed(have.shapes)} in the network, {_listed(want.shapes)} in its conversion"
    elif want.settings != have.settings:
        for key in want.settings:
            if want.settings[key] != have.settings.get(key):
                old, new = have.settings.get(key), want.settings[key]
                yield f"{key} {old} in the network, {new} in its conversion"
    elif want.inputs != have.inputs:
        yield f"reads {_read(have)} in the network, {_read(want)} in its conversion"


def _read(call: _Call) -> str:
    return "; ".join(", ".join(x if isinstance(x, _Token) else f"({x})" for x in given) for given in call.inputs)


def _settings(operation: Any) -> dict[str, Any]:
    """The settings that have a part in a layer's answer, in the form that a file keeps them in."""
    config = operation.get_config()
    kept = {k: v for k, v in config.items() if k not in _NO_PART and not k.endswith(_NO_PART_ENDS)}
    return keras.tree.map_structure(_plain, {k: _lists(v) for k, v in kept.items()})


def _lists(value: Any) -> Any:
    """Tuples as lists, as in JSON, and one alone as itself, as an axis is given."""
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return _lists(value[0]) if len(value) == 1 else [_lists(v) for v in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _plain(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _shapes_of(blueprint: Blueprint) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays that a plan's layer is made with."""
    if blueprint.source is None:
        return {}
    shapes = _shapes(blueprint.source, named=bool(blueprint.arrange))
    moves = blueprint.arrange or {name: Arrange() for name in shapes}
    return {name: _shape_after(move, shapes[name]) for name, move in moves.items()}


def _shapes(layer: Any, named: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's arrays by their names; by their numbers where the names are not the layer's own."""
    plain = [v for v in getattr(layer, "weights", ()) if not v.name.startswith("lora_")]
    return {v.name if named else str(i): tuple(v.shape) for i, v in enumerate(plain)}


def _shape_after(move: Arrange, shape: tuple[int, ...]) -> tuple[int, ...]:
    taken = shape if move.take is None else (len(move.take), *shape[1:])
    return taken if move.shape is None else move.shape


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no weights"
