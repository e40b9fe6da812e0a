"""Whether a network written by hand answers as the classifier whose weights it was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.engine import compile
from fullyconv.entering import Window, at_window
from fullyconv.inputs import channels_first

# Of the largest answer: far above rounding, far below what another layer does.
_ALIKE, _IN_16_BITS = 1e-3, 5e-2


def apart_at_window(classifier: keras.Model, fcn: keras.Model, window: Window) -> float | None:
    """How far a network's answers are from the classifier's, of the largest; None where they agree.

    None too where they cannot be compared. Both answer noise of unit spread, and noise of the pixels of a photo, which
    a network may rescale.
    """
    rng, first = np.random.default_rng(0), channels_first(classifier)
    specs = [at_window(x, window, first) for x in keras.tree.flatten(_keras.input_structure(classifier))]
    noise = [rng.uniform(size=(2, *spec.shape[1:])) for spec in specs]
    try:
        runs = [compile(model) for model in (classifier, fcn)]
        found = [
            _largest_difference(*(run(_given(noise, specs, low, high)) for run in runs))
            for low, high in ((-2, 2), (0, 255))
        ]
    except Exception:  # noqa: BLE001  what an engine cannot run, such as a layer of one's own, is not compared
        return None
    short = any(map(_is_short, (classifier, fcn)))
    return max(found) if max(found) > (_IN_16_BITS if short else _ALIKE) else None


def _is_short(model: keras.Model) -> bool:
    """Whether any layer computes in 16 bits."""
    kinds = {getattr(o, "compute_dtype", "") for _, o in _keras.operations_of(model)}
    return not kinds.isdisjoint({"float16", "bfloat16"})


def _given(noise: Sequence[np.ndarray], specs: Sequence[Any], low: float, high: float) -> Any:
    """Noise between two values, as a model takes it."""
    images = [(low + (high - low) * x).astype(spec.dtype) for x, spec in zip(noise, specs, strict=True)]
    return images[0] if len(images) == 1 else images


def _largest_difference(want: Any, have: Any) -> float:
    """The largest difference of two answers, of the largest of the first; none where they have other shapes."""
    pairs = list(zip(keras.tree.flatten(want), keras.tree.flatten(have), strict=False))
    if len(keras.tree.flatten(want)) != len(keras.tree.flatten(have)) or any(a.size != b.size for a, b in pairs):
        return 0.0
    return max(float(np.abs(a.ravel() - b.ravel()).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)
