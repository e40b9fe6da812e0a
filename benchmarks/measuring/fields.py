"""What the cells of one network's last map see, found by changing pixels."""

from __future__ import annotations

import inspect
from typing import Any

import keras

import fullyconv
import receptive_nets

WINDOWS = {"Xception": 71, "InceptionV3": 139, "InceptionResNetV2": 139}
EXACTLY, NOTHING_OUTSIDE = "exactly it", "nothing outside it"


def measure(name: str) -> dict[str, Any]:
    """The row of one classifier of `keras.applications`, without its head."""
    model = build(name)
    geometry = fullyconv.geometry(model)
    last = geometry.layers[-1]
    row = {
        "model": name,
        "window": geometry.window[0],
        "layer": last.name,
        "stride": int(last.stride[0]),
        "padding": int(last.padding[0]),
        "field": int(last.field_size[0]),
    }
    try:
        return row | {"sees": seen(model, geometry)}
    except AssertionError as error:
        return row | {"failed": f"its cells see something else: {error}"}


def build(name: str) -> keras.Model:
    """The network for small images."""
    kind = getattr(keras.applications, name)
    plain = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(kind).parameters else {}
    window = WINDOWS.get(name, 64)
    return kind(weights=None, include_top=False, input_shape=(window, window, 3), **plain)


def seen(model: keras.Model, geometry: fullyconv.Geometry) -> str:
    """What its cells see of their fields; asserts that it is nothing else."""
    contexts = [layer for layer in geometry.layers if any(remark.startswith("a context") for remark in layer.remarks)]
    if contexts:
        check_context(model, geometry, contexts[0].name)
        return NOTHING_OUTSIDE
    fcn = fullyconv.convert(receptive_nets.make_positive(model), until=geometry.layers[-1].name)
    receptive_nets.seen_by(fcn, geometry.layers[-1], geometry.window[1])
    return EXACTLY


def check_context(model: keras.Model, geometry: fullyconv.Geometry, first: str) -> None:
    """Assert what can be asserted of a network with contexts, with the weights that Keras has drawn."""
    fcn = fullyconv.convert(model, until=first)  # its contexts stand as close as its own cells
    outside, *edges = receptive_nets.perturbed(model, fcn, fullyconv.geometry(fcn).layers[-1])
    assert outside <= 1e-6, f"{outside:.0e} of the first context changes"
    assert min(edges) > outside, "the edge of the first context's field changes nothing"
    fcn = fullyconv.convert(model, until=geometry.layers[-1].name)
    outside, *_ = receptive_nets.perturbed(model, fcn, geometry.layers[-1])
    assert outside <= 1e-6, f"{outside:.0e} of the last map changes"
