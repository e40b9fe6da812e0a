"""A weight file and a classifier's code made one network, and that converted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from fullyconv import _keras, _saved
from fullyconv.convert import FullyConv, convert
from fullyconv.errors import ModelFileError, OutputError, WeightsError
from fullyconv.files import check_not_read, written_whole
from fullyconv.model_files import open_model
from fullyconv.plan import plan
from fullyconv.walk import unique_names
from fullyconv.weight_files import Weight, WeightFile, legacy_root, opened, read_weight_file

ENDINGS = (".keras", ".weights.h5")


def convert_weights(
    classifier: keras.Model | str | Path, weights: str | Path, out: str | Path, **options: Any
) -> FullyConv:
    """Convert a classifier whose weights are in a file of their own, and write the result.

    The layers of both must agree in number, order and shape. Where the file holds names that the classifier has too,
    each must be at its own place: arrays of one shape are not taken in the wrong order. Files of Keras 3 do not name
    the arrays of a layer: what a BatchNormalization without `scale` has saved goes into one without `center` too, as in
    Keras. The model that is given is left as it is.

    Args:
        classifier: The model, or the path of its file, or its name in `keras.applications`; its weights are not used.
        weights: A `.weights.h5` or `.keras` file, or a `.h5` file of weights or of a whole model.
        out: The file to write: the network (`.keras`), or its weights (`.weights.h5`).
        **options: Those of `fullyconv.plan`.

    Returns:
        The `FullyConv` that was written.

    Raises:
        WeightsError: the file does not fit the classifier, and every layer that differs is named; or weights are NaN,
            infinite or complex.
        ModelFileError: a file cannot be read.
        UnsupportedModelError: the classifier cannot be converted.
        OutputError: `out` cannot be written, or is one of the files that are read.

    Example:
        >>> classifier = keras.applications.VGG16(weights=None)  # doctest: +SKIP
        >>> fullyconv.convert_weights(classifier, "vgg16.weights.h5", "fcn.keras")  # doctest: +SKIP
        <FullyConv 'vgg16', window (224, 224), native>
    """
    target = Path(out)
    if not target.name.endswith(ENDINGS):
        raise OutputError(f"Cannot save to {target}: the file must end in .keras (the network) or .weights.h5.")
    check_not_read(target, [weights, *([classifier] if isinstance(classifier, str | Path) else [])])
    model = classifier if isinstance(classifier, keras.Model) else open_model(classifier, random_weights=True)
    plan(model, **options)
    fcn = convert(with_weights(model, weights), **options)
    save(fcn, target)
    return fcn


def save(fcn: FullyConv, target: Path) -> None:
    """Write a network, or where the name says so its weights; whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    if target.suffix == ".keras":
        fcn.save(target)
        return
    with written_whole(target) as draft:
        _saved.check_room(fcn.model, target)
        _saved.write_weights(fcn.model, draft)


def with_weights(classifier: keras.Model, weights: str | Path) -> keras.Model:
    """A copy of a classifier with the weights of a file.

    Raises:
        WeightsError: the file does not fit the classifier.
        ModelFileError: it cannot be read.
    """
    file = read_weight_file(Path(weights))
    copy = _keras.clone(classifier)
    slots = list(_legacy_slots(copy) if file.legacy else _numbered_slots(copy))
    stored = _grouped(file.weights)
    by_name = file.legacy and set(stored) == {slot.place for slot in slots}
    _check(copy, file, _pairs(stored, _grouped(slots), file.legacy and not by_name))
    _load(copy, file, by_name)
    return copy


def _legacy_slots(model: keras.Model) -> Iterator[Weight]:
    """The arrays a model takes from a file in Keras 2's layout, in that order."""
    owners = _owners(model)
    for layer in model.layers:
        for v in (*layer.trainable_weights, *layer.non_trainable_weights):
            yield Weight(owners.get(id(v), layer.name), v.name, layer.name, tuple(v.shape), partial(_keras.value_of, v))


def _owners(model: keras.Model) -> dict[int, str]:
    """The name of the layer that each variable belongs to."""
    names = unique_names(model)
    return {id(v): names[id(o)] for _, o in _keras.operations_of(model) for v in getattr(o, "weights", ())}


def _numbered_slots(model: keras.Model) -> Iterator[Weight]:
    """The arrays a model takes from a file in Keras 3's layout, at the places where it looks for them."""
    for place, layer in _saved.places(model):
        for v in _saved.own_weights(layer):
            yield Weight(layer.name, v.name, place, tuple(v.shape), partial(_keras.value_of, v))


def _grouped(weights: Sequence[Weight]) -> dict[str, list[Weight]]:
    """Arrays by their place."""
    groups: dict[str, list[Weight]] = {}
    for weight in weights:
        groups.setdefault(weight.place, []).append(weight)
    return groups


Pair = tuple[list[Weight], list[Weight]]


def _pairs(stored: Mapping[str, list[Weight]], slots: Mapping[str, list[Weight]], in_order: bool) -> list[Pair]:
    """What the file and the model have at each place; an empty list for nothing."""
    if in_order and len(stored) == len(slots):
        return list(zip(stored.values(), slots.values(), strict=True))
    if in_order:
        stored = {weights[0].layer or place: weights for place, weights in stored.items()}
    below = tuple(f"{place}/" for place in slots)  # layers inside layers, which only Keras's own loader knows
    alone: list[Pair] = [
        (weights, []) for place, weights in stored.items() if place not in slots and not place.startswith(below)
    ]
    return [*((stored.get(place, []), wanted) for place, wanted in slots.items()), *alone]


def _check(model: keras.Model, file: WeightFile, pairs: Sequence[Pair]) -> None:
    wrong = [_difference(have, want) for have, want in pairs if _differ(have, want)]
    if wrong:
        raise WeightsError(
            f"'{file.path}' does not fit {model.name!r}: {len(wrong)} of {len(pairs)} layers differ.",
            wrong,
            "Give the weights of this classifier, or the code it was trained with: nothing was loaded.",
        )
    crossed = _crossed(pairs)
    if crossed:
        raise WeightsError(
            f"'{file.path}' has the layers of {model.name!r} in another order.",
            [f"{have!r} in the file, where the model has {want!r}" for have, want in crossed],
            "Their shapes agree, their names do not. Build the layers in the file's order: nothing was loaded.",
        )


def _differ(have: Sequence[Weight], want: Sequence[Weight]) -> bool:
    """Whether shapes differ, or names where the file has those that Keras gives today: gamma is no beta."""
    if [w.shape for w in have] != [w.shape for w in want]:
        return True
    stored, wanted = ([w.name for w in weights] for weights in (have, want))
    return stored != wanted and not set(stored).isdisjoint(wanted)


def _difference(have: Sequence[Weight], want: Sequence[Weight]) -> str:
    """What a layer is in the file and in the model."""
    if not have or not want:
        only = have or want
        return f"{only[0].layer or only[0].place} is only in the {'file' if have else 'model'}: {in_words(only)}"
    names = [w.name for w in want] if len(have) == len(want) else []
    return f"{want[0].layer}: {in_words(have, names)} in the file, {in_words(want)} in the model"


def in_words(weights: Sequence[Weight], names: Sequence[str | None] = ()) -> str:
    """Arrays as text, such as kernel (3, 3, 8, 16), bias (16,); `names` are for those that have none."""
    known = [w.name or name for w, name in zip(weights, names or [None] * len(weights), strict=True)]
    return ", ".join(f"{name} {w.shape}" if name else str(w.shape) for name, w in zip(known, weights, strict=True))


def _crossed(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Layers of the file that would be loaded into a layer of another name, while the model has one of theirs.

    Names that Keras gives by itself (`dense_1`) count only where the file has exactly the model's: they depend on what
    was built before.
    """
    named = [(h.layer, w.layer or "") for have, want in pairs for h, w in zip(have, want, strict=True) if h.layer]
    there = {want for _, want in named}
    same = {have for have, _ in named} == there
    wrong = [(h, w) for h, w in named if h != w and (same or (h in there and not _automatic(h)))]
    return list(dict.fromkeys(wrong))


def _automatic(name: str) -> bool:
    """Whether a layer's name is one that Keras makes from its class."""
    stem = re.sub(r"_\d+$", "", name)
    return _saved.class_named(stem) is not None


def _load(model: keras.Model, file: WeightFile, by_name: bool) -> None:
    if not file.legacy and not file.path.name.endswith(ENDINGS):
        raise ModelFileError(
            f"'{file.path}' has the layout of Keras 3's weight files, and not their ending.\n"
            "Rename it so that it ends in .weights.h5."
        )
    try:
        if file.legacy:
            with opened(file.path) as hdf5:
                _saved.load_legacy(legacy_root(hdf5), model, by_name)
        else:
            model.load_weights(file.path)
    except Exception as error:  # Keras raises many kinds, and none of its own
        reason = " ".join(str(error).split())[:1000].rstrip(".") or type(error).__name__
        raise ModelFileError(
            f"Keras cannot load '{file.path}' into {model.name!r}: {reason}.\nSave the weights again with the model."
        ) from error
