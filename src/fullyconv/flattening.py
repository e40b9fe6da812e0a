"""What enters each layer of a network: its size, its stride, and the order in which a map was flattened.

It is read off the walk that plans a conversion. Where that has no rule, a new map begins: how a map was flattened does
not depend on how it came about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.geometry import Axis
from fullyconv.rules.rule import Map, Recipe
from fullyconv.walk import Refused, Walk, tensors


class Entering(Walk):
    """A walk that takes note of the map that enters each operation.

    Args:
        model: A model with a graph.
        window: Spatial size in pixels of its images, where its input leaves it open.

    Attributes:
        entering: The maps that entered each operation in its calls, by its id.
        begun: Names of the operations without a rule, behind which a new map begins.
    """

    def __init__(self, model: keras.Model, window: int | Sequence[int] | None) -> None:
        options = {"window": window, "pool": "window", "context": "global", "rules": None, "until": None, "skip": ()}
        super().__init__(model, {**options, "head": "convolution"})
        self.entering: dict[int, list[Map]] = {}
        self.begun: list[str] = []
        self.maps()

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
