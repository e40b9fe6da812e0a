"""Which arrays of a classifier's layer go into which of a network's: by names, sizes, and the classes of the layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from fullyconv.classifier_weights import in_words
from fullyconv.weight_files import Weight
from fullyconv.weight_sources import CONVOLUTIONS, DENSE, Source, arrays


class Misfit(Exception):
    """Why one layer cannot be loaded: one sentence."""


def matched(source: Source, name: str, target: str, layer: Any) -> list[tuple[bool, Weight, Weight]]:
    """The arrays that belong together, and whether each is the kernel of a Dense layer for a convolution.

    Args:
        source: The classifier's arrays.
        name: Its layer.
        target: The name of the network's layer.
        layer: That layer.

    Raises:
        Misfit: they do not go into that layer.
    """
    stored, wanted = source.layers[name], list(arrays(target, layer))
    aligned = _aligned(stored, wanted)
    if aligned is None:
        raise Misfit(_shapes(stored, wanted))
    dense = [isinstance(layer, CONVOLUTIONS) and len(have.shape) == 2 for have, _ in aligned]
    slopes = isinstance(layer, keras.layers.PReLU)  # of units, or of channels that all positions share
    alike = [
        h.shape == w.shape or (d and _same_sums(h, w)) or (slopes and _same_slopes(h, w))
        for d, (h, w) in zip(dense, aligned, strict=True)
    ]
    if not all(alike):
        raise Misfit(_shapes(stored, wanted))
    _check_kind(source, name, layer, DENSE if any(dense) else ())
    return [(d, have, want) for d, (have, want) in zip(dense, aligned, strict=True)]


def _check_kind(source: Source, name: str, layer: Any, also: tuple[type, ...]) -> None:
    """Refuse arrays of a layer of another class, whose sizes only happen to agree."""
    known = source.objects.get(name)
    kind = type(known) if known is not None else source.layers[name][0].kind
    if kind is not None and not issubclass(kind, also) and _stock(kind) is not _stock(type(layer)):
        raise Misfit(f"{kind.__name__} in the weights, {type(layer).__name__} in the network")


def _stock(kind: type) -> type:
    """The class of Keras that a layer's class is made from; itself where that is only `Layer`."""
    found = next(c for c in kind.__mro__ if c.__module__.startswith("keras."))
    return kind if found is keras.layers.Layer else found


def _shapes(stored: Sequence[Weight], wanted: Sequence[Weight]) -> str:
    names = [w.name for w in wanted] if len(stored) == len(wanted) else []
    return f"{in_words(stored, names)} in the weights, {in_words(wanted)} in the network"


def _same_slopes(have: Weight, want: Weight) -> bool:
    """Whether slopes of units are those of channels, which come behind axes of one."""
    return want.shape == (1,) * (len(want.shape) - 1) + have.shape


def _same_sums(have: Weight, want: Weight) -> bool:
    """Whether a Dense kernel has a row for each value under the convolution's kernel, and its units."""
    return have.shape == (math.prod(want.shape[:-1]), want.shape[-1])


def _aligned(stored: Sequence[Weight], wanted: Sequence[Weight]) -> list[tuple[Weight, Weight]] | None:
    """The arrays that belong together, by name; in order where the file has no names, or none that Keras has."""
    have, want = {w.name: w for w in stored}, {w.name: w for w in wanted}
    if None not in have and None not in want and have.keys() == want.keys():
        return [(have[name], want[name]) for name in want]
    apart = have.keys().isdisjoint(want.keys() - {None})
    return list(zip(stored, wanted, strict=True)) if apart and len(stored) == len(wanted) else None
