"""The classifier that a fully convolutional network was made from, with the network's weights: the way back.

Where that classifier is at hand, its own description is followed backwards: every array returns to where it came from.
Where it is not, the network is rebuilt at its window (see replay.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.convert import FullyConv
from fullyconv.errors import UnsupportedModelError, WeightsError
from fullyconv.plan import HEADS, Plan, plan
from fullyconv.replay import at_window
from fullyconv.rules.rule import Arrange, Blueprint
from fullyconv.weight_sources import weighted


def to_classifier(fcn: FullyConv, *, like: keras.Model | Plan | None = None) -> keras.Model:
    """The classifier again, with the weights that the fully convolutional network has now.

    At the window it equals the network up to rounding. The convolutions of the head are Dense layers again. Where the
    classifier is known that the network was made from (by `like`, or because `fullyconv.convert` made the network in
    this process), its layers, names and settings come back, whatever the `pool`, `context` and `stride`. Otherwise the
    network is rebuilt for the window: the head's layers keep their names, a Flatten or global pooling comes back in
    front of them, and the padding stays as it was frozen.

    Args:
        fcn: The network; one that Keras saved after training comes from `fullyconv.load(path, window=...)`.
        like: The classifier it was made from, or a plan of it; its weights are not used where the network has them.

    Returns:
        A new model, not compiled, that shares nothing with the network.

    Raises:
        WeightsError: the network is no conversion of `like`; all differences are named.
        UnsupportedModelError: nothing says what the classifier was: it needs `like`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.to_classifier(fullyconv.convert(model)).output_shape
        (None, 5)
    """
    made = _plan(fcn, like)
    if made is None or (like is None and _is_part(made)):
        return at_window(fcn)
    if made.options["until"] is not None:
        raise UnsupportedModelError(
            f"{fcn.model.name!r} was converted up to {made.options['until']!r}, so it is a part of {made.model.name!r}."
            "\nLeave `like` out: what there is becomes a model for the window."
        )
    return _restored(made, fcn.model)


def _plan(fcn: FullyConv, like: keras.Model | Plan | None) -> Plan | None:
    """The plan that the network was, or would have been, made by."""
    if like is None or isinstance(like, Plan):
        return like or fcn.plan
    options = dict(fcn.options)
    opened = any(None in tensor.shape[1:] for tensor in like.inputs)
    options["window"] = options.get("window") or (fcn.window if opened else None)
    heads = [options["head"]] if options.get("head") else HEADS  # a file that Keras saved does not say it
    made = [plan(like, **{**options, "head": head}) for head in heads]
    return min(made, key=lambda p: len(_wrong(p, fcn.model)))


def _is_part(made: Plan) -> bool:
    """Whether the classifier is not what the network computes at the window: a part of it was left out."""
    return made.options["until"] is not None or bool(made.options["skip"])


def _restored(made: Plan, network: keras.Model) -> keras.Model:
    """A copy of the classifier with the weights of the network."""
    _check(made, network)
    layers = dict(weighted(network))
    copy = _keras.clone(made.model)
    for new, old in zip(copy.weights, made.model.weights, strict=True):
        new.assign(np.array(_keras.value_of(old)))
    twins = dict(_twins(made.model, copy))
    for blueprint in _blueprints(made):
        _bring_back(blueprint, layers[blueprint.name], twins[id(blueprint.source)])
    for layer in twins.values():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return copy


def _blueprints(made: Plan) -> Iterator[Blueprint]:
    """What was built from layers with weights, each once."""
    drawn = {id(r.blueprint): r.blueprint for r in made.recipes if r.blueprint is not None}
    return (b for b in drawn.values() if b.source is not None and (b.arrange or b.source.weights))


def _twins(model: keras.Model, copy: keras.Model) -> Iterator[tuple[int, Any]]:
    """The layers of a copy by the ids of the originals, those that are wrapped in another included."""
    pairs = zip(_keras.operations_of(model), _keras.operations_of(copy), strict=True)
    for (_, old), (_, new) in pairs:
        yield id(old), new
        if isinstance(old, keras.layers.Wrapper):
            yield id(old.layer), new.layer


def _bring_back(blueprint: Blueprint, layer: Any, twin: Any) -> None:
    if not blueprint.arrange:
        _keras.copy_weights(layer, twin)
        return
    have, into = _keras.arrays(layer), {v.name: v for v in twin.weights}
    for name, move in blueprint.arrange.items():
        into[name].assign(_unmoved(move, have[name](), np.array(_keras.value_of(into[name]))))
    for name, variable in into.items():
        if name.startswith("lora_"):  # folded into the kernel
            variable.assign(np.zeros(variable.shape))


def _unmoved(move: Arrange, value: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The array that `move` makes this value of; rows that it does not take stay what they were."""
    if move.take is None:
        return np.array(value).reshape(old.shape)
    old[move.take] = np.reshape(value, (len(move.take), *old.shape[1:]))
    return old


def _check(made: Plan, network: keras.Model) -> None:
    """Refuse a network that is not a conversion of the classifier."""
    wrong = _wrong(made, network)
    if wrong:
        raise WeightsError(
            f"{network.name!r} is no conversion of {made.model.name!r}: {len(wrong)} of its layers differ.",
            wrong,
            "Give the classifier that it was made from: fullyconv.to_classifier(fcn, like=classifier).",
        )


def _wrong(made: Plan, network: keras.Model) -> list[str]:
    """What differs between the network of a plan and this one."""
    layers, blueprints = dict(weighted(network)), {b.name: b for b in _blueprints(made)}
    wrong = [f"{name} is only in the network" for name in layers if name not in blueprints]
    wrong += [f"{name} is missing in the network" for name in blueprints if name not in layers]
    for name, blueprint in blueprints.items():
        if name in layers:
            wrong += _differences(blueprint, layers[name])
    return wrong


def _differences(blueprint: Blueprint, layer: Any) -> Iterator[str]:
    """What differs between a layer as it was converted and as it is in the network."""
    shapes = _shapes(blueprint.source, named=bool(blueprint.arrange))
    moves = blueprint.arrange or {name: Arrange() for name in shapes}
    want = {name: _shape_after(move, shapes[name]) for name, move in moves.items()}
    have = _shapes(layer, named=bool(blueprint.arrange))
    if want != have:
        yield f"{blueprint.name}: {_listed(have)} in the network, {_listed(want)} in its conversion"


def _shapes(layer: Any, named: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's arrays by their names; by their numbers where the names are not the layer's own."""
    plain = [v for v in layer.weights if not v.name.startswith("lora_")]
    return {v.name if named else str(i): tuple(v.shape) for i, v in enumerate(plain)}


def _shape_after(move: Arrange, shape: tuple[int, ...]) -> tuple[int, ...]:
    taken = shape if move.take is None else (len(move.take), *shape[1:])
    return taken if move.shape is None else move.shape


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
