"""Whether a network is what a plan describes: its layers, their settings and weights, and how they are connected.

A network that Keras saved after training says nothing of where it came from. What training changes (values, what is
trainable, regularisation, dropout) does not count, nor do the names of layers without weights, which Keras numbers
anew in each process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from fullyconv import _keras
from fullyconv.plan import Plan
from fullyconv.rules.rule import Arrange, Blueprint, Recipe, needed
from fullyconv.walk import unique_names

# Settings that have no part in a network's answer.
_NO_PART = ("name", "trainable", "dtype", "momentum", "synchronized")
_NO_PART_ENDS = ("_initializer", "_regularizer", "_constraint", "_config")
# Layers that have none: the identity, but in training.
_IDENTITIES = (
    *(layers.ActivityRegularization, layers.AlphaDropout, layers.Dropout, layers.GaussianDropout),
    *(layers.GaussianNoise, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
)


@dataclass(frozen=True, eq=False)
class _Node:
    """One call of a layer or operation, or one of the network's inputs.

    Args:
        name: Its name.
        kind: Its class, or the number of an input or output.
        settings: Its settings, as text by name.
        shapes: The shapes of its arrays.
        inputs: What it is called on: calls, and constants as text.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: tuple[_Node | str, ...] = ()


def differences(made: Plan, network: keras.Model) -> list[str]:
    """What differs between the network of a plan and this one, a line each; nothing where it is that network."""
    (want, want_outputs), (have, have_outputs) = _described(made), _found(network, made.options["rules"])
    wrong = [f"{name} is only in the network" for name in have if name not in want]
    wrong += [f"{name} is missing in the network" for name in want if name not in have]
    pairs = [pair for name in want if name in have for pair in zip(want[name], have[name], strict=False)]
    pairs.append((_whole(want_outputs), _whole(have_outputs)))
    return [*wrong, *dict.fromkeys(_between(pairs, {*want} ^ {*have}))]


_Calls = dict[str, list[_Node]]


def _described(made: Plan) -> tuple[_Calls, list[_Node]]:
    """The calls of a plan's layers with weights, and its outputs."""
    wanted, calls = needed(made.outputs), _Calls()
    nodes = {id(x.recipe): _input(i) for i, x in enumerate(made.inputs)}

    def node_of(recipe: Recipe) -> _Node:
        if id(recipe) not in nodes:  # one of the outputs of a call
            whole, i = recipe.args
            nodes[id(recipe)] = _Node(nodes[id(whole)].name, f"output {i}", {}, {}, (nodes[id(whole)],))
        return nodes[id(recipe)]

    for recipe in made.recipes:
        blueprint = recipe.blueprint
        if id(recipe) in wanted and blueprint is not None:
            kind: Any = blueprint.kind
            inputs = _inputs((recipe.args, dict(recipe.kwargs)), Recipe, node_of)
            shapes = _shapes_of(blueprint)
            settings = _settings(kind.from_config(dict(blueprint.config)))
            nodes[id(recipe)] = _called(blueprint.name, kind, settings, shapes, inputs, calls)
    return calls, [node_of(x.recipe) for x in made.outputs]


def _found(network: keras.Model, rules: Mapping[type, Any] | None) -> tuple[_Calls, list[_Node]]:
    """The calls of a network's layers with weights, and its outputs."""
    names, calls = unique_names(network, rules), _Calls()
    tensors = keras.tree.flatten(_keras.input_structure(network))
    spread = {f"{tensor.name}_everywhere" for tensor in tensors}

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        name = names[id(operation)]
        given = {k: v for k, v in kwargs.items() if k not in ("training", "mask")}
        inputs = _inputs((args, given), _Node, lambda node: node)
        if name in spread:  # what is built for a vector among the inputs
            return inputs[0]
        named = _keras.has_own_weights(operation) if isinstance(operation, layers.Layer) else True
        shapes = _shapes(operation, named)
        node = _called(name, type(operation), _settings(operation), shapes, inputs, calls)
        if not isinstance(operation, _keras.numpy_operations.Split):
            return node
        return [_Node(name, f"output {i}", {}, {}, (node,)) for i in range(len(operation.output))]

    outputs = _keras.walk(network, [_input(i) for i in range(len(tensors))], visit, whole=rules)
    return calls, keras.tree.flatten(outputs)


def _whole(outputs: Sequence[_Node]) -> _Node:
    """The network as a call on its outputs."""
    return _Node("the output", "output", {}, {}, tuple(outputs))


def _input(i: int) -> _Node:
    return _Node(f"input {i}", f"input {i}", {}, {})


def _called(name: str, kind: type, settings: Any, shapes: Any, inputs: tuple[_Node | str, ...], calls: _Calls) -> _Node:
    """The node of a call, noted where it has weights; that of its input where it does nothing."""
    if issubclass(kind, _IDENTITIES) and isinstance(inputs[0], _Node):
        return inputs[0]
    node = _Node(name, kind.__name__, settings, shapes, inputs)
    if shapes:
        calls.setdefault(name, []).append(node)
    return node


def _inputs(arguments: Any, kind: type, node_of: Any) -> tuple[_Node | str, ...]:
    """What a call is given: nodes in place of what stands for tensors, and constants as text."""
    found: list[_Node | str] = []
    for x in keras.tree.flatten(arguments):
        if isinstance(x, kind):
            found.append(node_of(x))
        elif isinstance(x, (int, float, np.ndarray, np.generic)) or keras.ops.is_tensor(x):
            array = keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else x
            found.append(" ".join(f"{value:.6g}" for value in np.ravel(array)))
        elif x is not None:
            found.append(f"{x.start}:{x.stop}:{x.step}" if isinstance(x, slice) else str(x))
    return tuple(found)


def _between(pairs: Iterable[tuple[_Node, _Node]], alone: set[str]) -> Iterator[str]:
    """What differs between calls that belong together, and those that they read; `alone` is named already."""
    stack, seen = list(reversed(list(pairs))), set[tuple[int, int]]()
    while stack:
        want, have = stack.pop()
        if (id(want), id(have)) in seen:
            continue
        seen.add((id(want), id(have)))
        yield from _of_one(want, have)
        if len(want.inputs) != len(have.inputs):
            if want.kind == have.kind:
                yield f"{want.name}: reads {_read(have)} in the network, {_read(want)} in its conversion"
            continue
        for a, b in zip(want.inputs, have.inputs, strict=True):
            if isinstance(a, _Node) and isinstance(b, _Node) and _may_be_one(a, b):
                stack.append((a, b))
            elif a != b and not {getattr(a, "name", ""), getattr(b, "name", "")} & alone:
                yield f"{want.name}: reads {_read(have)} in the network, {_read(want)} in its conversion"
                break


def _may_be_one(want: _Node, have: _Node) -> bool:
    """Whether two calls may be meant for one: those of layers with weights are so by their name."""
    if want.shapes or have.shapes:
        return want.name == have.name
    return want.kind == have.kind or (bool(want.inputs) and len(want.inputs) == len(have.inputs))


def _of_one(want: _Node, have: _Node) -> Iterator[str]:
    """What differs between a layer as it was converted and as it is in the network, what it reads left out."""
    if want.kind != have.kind:
        yield f"{want.name}: {have.kind} in the network, {want.kind} in its conversion"
    elif want.shapes != have.shapes:
        yield f"{want.name}: {_listed(have.shapes)} in the network, {_listed(want.shapes)} in its conversion"
    else:
        for key, value in want.settings.items():
            if value != have.settings.get(key):
                yield f"{want.name}: {key} {have.settings.get(key)} in the network, {value} in its conversion"


def _read(call: _Node) -> str:
    return ", ".join(x.name if isinstance(x, _Node) else f"({x})" for x in call.inputs) or "nothing"


def _settings(operation: Any) -> dict[str, Any]:
    """The settings that have a part in a layer's answer, in the form that a file keeps them in."""
    try:
        config = _plain(dict(operation.get_config()))
    except NotImplementedError:  # a layer of one's own that says nothing of itself
        return {}
    is_layer = isinstance(operation, layers.Layer)
    return config if is_layer else {**config, "dtype": getattr(operation, "dtype", None)}


def _plain(value: Any) -> Any:
    """A setting as JSON has it; a list of one as what is in it, as an axis may be given either way."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in _NO_PART and not str(k).endswith(_NO_PART_ENDS)}
    if isinstance(value, (list, tuple)):
        return _plain(value[0]) if len(value) == 1 else [_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
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
    own = [v for v in getattr(layer, "weights", ()) if not v.name.startswith("lora_")]
    return {v.name if named else str(i): tuple(v.shape) for i, v in enumerate(own)}


def _shape_after(move: Arrange, shape: Sequence[int]) -> tuple[int, ...]:
    taken = tuple(shape) if move.take is None else (len(move.take), *shape[1:])
    return taken if move.shape is None else move.shape


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no weights"
