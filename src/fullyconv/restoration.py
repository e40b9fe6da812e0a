"""The classifier that a fully convolutional network was made from, with the network's weights: the way back.

Where that classifier is at hand, its own description is followed backwards: every array returns to where it came from.
Where it is not, the network is rebuilt at its window (see replay.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.convert import FullyConv
from fullyconv.errors import FullyConvError, UnsupportedModelError, WeightsError
from fullyconv.finite import check_weights
from fullyconv.likeness import differences
from fullyconv.plan import CONTEXTS, HEADS, POOLS, Plan, plan
from fullyconv.replay import at_window
from fullyconv.rules.rule import Arrange, Blueprint
from fullyconv.walk import need_graph
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
        WeightsError: the network is no conversion of `like`; all differences are named: layers, their settings and
            arrays, and how they are connected. What training changes does not count. Or weights are NaN, infinite or
            complex.
        UnsupportedModelError: nothing says what the classifier was: it needs `like`; or `like` is no classifier.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.to_classifier(fullyconv.convert(model)).output_shape
        (None, 5)
    """
    if not isinstance(fcn, FullyConv):
        raise UnsupportedModelError(
            f"Expected a FullyConv, but received {type(fcn).__name__}.\n"
            "A network that Keras saved is read with fullyconv.load(path, window=...)."
        )
    check_weights(fcn.model)
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
    _check_like(like)
    best: tuple[int, Plan] | None = None
    refused: list[FullyConvError] = []
    for options in _options(fcn, like):
        try:
            made = plan(like, **options)
        except FullyConvError as error:
            refused.append(error)
            continue
        wrong = len(differences(made, fcn.model))
        best = (wrong, made) if best is None or wrong < best[0] else best
        if not wrong:
            break
    if best is None:
        raise refused[0]
    return best[1]


def _check_like(like: Any) -> None:
    """Refuse what is no classifier."""
    if not isinstance(like, FullyConv):
        need_graph(like)
    network = like.model if isinstance(like, FullyConv) else like
    if network is not like or any(None in tensor.shape[1:] for tensor in network.outputs):
        raise UnsupportedModelError(
            f"{network.name!r} returns a map of any size, so it is no classifier.\n"
            "Give as `like` the classifier that the network was made from."
        )


def _options(fcn: FullyConv, like: keras.Model) -> Iterator[dict[str, Any]]:
    """The options it may have been made with: its own, or all that there are where its file lost them."""
    options = dict(fcn.options)
    opened = any(None in tensor.shape[1:] for tensor in like.inputs)
    options["window"] = options.get("window") or (fcn.window if opened else None)
    sizing = (keras.layers.Resizing, keras.layers.CenterCrop)
    skipped = tuple(o.name for _, o in _keras.operations_of(like) if isinstance(o, sizing))
    tried: dict[str, Sequence[Any]] = {
        "skip": [(), skipped] if skipped else [()],
        "stride": [None, keras.tree.flatten(fcn.grids)[0].stride],
        "pool": POOLS,
        "context": CONTEXTS,
        "head": HEADS,
    }
    known = {name: [fcn.options[name]] if name in fcn.options else values for name, values in tried.items()}
    for values in itertools.product(*known.values()):
        yield {**options, **dict(zip(known, values, strict=True))}


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
    wrong = differences(made, network)
    if wrong:
        raise WeightsError(
            f"{network.name!r} is no conversion of {made.model.name!r}: they differ in {len(wrong)} places.",
            wrong,
            "Give the classifier that it was made from: fullyconv.to_classifier(fcn, like=classifier).",
        )
