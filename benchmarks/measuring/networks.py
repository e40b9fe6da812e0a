"""The networks that are timed, by name, with weights with which two different maps differ."""

from __future__ import annotations

import keras
import numpy as np

import fullyconv
import nets
import zoo_nets
from fullyconv import pretrained
from measuring.alexnet import alexnet

CHEAP = 10**9  # multiply-adds of a window


def network(name: str) -> keras.Model:
    """A classifier: the trained ones are `EfficientNetLite0` and `chess`, the others have random weights.

    Args:
        name: `AlexNet`, `EfficientNetLite0`, `chess`, or a class of `keras.applications`.
    """
    keras.utils.set_random_seed(0)
    if name == "AlexNet":
        return nets.prepare(alexnet(), count=2)
    trained = {"EfficientNetLite0": pretrained.efficientnet_lite0, "chess": pretrained.chess_model}
    return trained[name]() if name in trained else zoo_nets.prepared(name)


def image(name: str, size: int, count: int = 1) -> np.ndarray:
    """Random images `(count, size, size, 3)` in the range the network takes, float32."""
    rng = np.random.default_rng(0)
    low, high = (0, 255) if name == "chess" else (-1, 1)
    return rng.uniform(low, high, (count, size, size, 3)).astype("float32")


def batches(model: keras.Model) -> tuple[int, ...]:
    """The batch sizes among which the best one for windows is sought."""
    return (1, 8, 64, 256) if fullyconv.cost(model).multiply_adds < CHEAP / 4 else (1, 4, 16)
