"""One classifier of `keras.applications`, converted and measured: a row of the coverage table."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

import fullyconv
import memory
import nets
import zoo_nets
from fullyconv import pretrained
from fullyconv.plan import reasons_in_words

FEW, MANY = 9, 25  # windows cut out of the photo: of an expensive classifier, of a cheap one
CHEAP = 2 * 10**9  # multiply-adds of a cheap one
SIZES_BUDGET = 20 * 10**12  # multiply-adds spent on comparing sizes: enough for all residues


def measure(name: str) -> dict[str, Any]:
    """The row of one classifier."""
    start = time.perf_counter()
    row = at_its_window(name)
    gc.collect()
    if "refused" not in row:
        row |= sizes(name, row["window"], row["stride"])
    return row | {"seconds": round(time.perf_counter() - start)}


def at_its_window(name: str) -> dict[str, Any]:
    """What is measured on the classifier as Keras builds it."""
    memory.warmed_up()
    model = zoo_nets.prepared(name)
    row = {"model": name, "window": model.input_shape[1], "load": round(os.getloadavg()[0], 1)}
    try:
        fcn, grown = memory.growth(lambda: fullyconv.convert(model))
    except fullyconv.FullyConvError as error:
        return row | {"refused": str(error)}
    return row | geometry(fcn) | conversion(fcn, grown) | native(model, fcn) | agreement(model, fcn) | reloaded(fcn)


def geometry(fcn: Any) -> dict[str, Any]:
    """Where its cells lie, and what they are worth."""
    grid = fcn.grid
    low, high = grid.receptive_field[0]
    return {
        "stride": int(grid.stride[0]),
        "field": [int(low), int(high)],
        "exactness": grid.exactness,
        "cause": reasons_in_words(grid),
        "layers_that_pad": sum(reason.endswith(" pads") for reason in grid.reasons),
        "contexts": sum("context" in reason for reason in grid.reasons),
    }


def conversion(fcn: Any, grown: dict[str, Any]) -> dict[str, Any]:
    """What the conversion took (contract C7)."""
    sizes = memory.weights_of(fcn.model)
    mib = {kind: round(value / 2**20, 1) for kind, value in {"peak": grown["peak"], **sizes}.items()}
    return {
        "parameters": fcn.model.count_params(),
        "convert_seconds": round(grown["seconds"], 1),
        "peak_mib": mib["peak"],
        "weights_mib": mib["weights"],
        "largest_mib": mib["largest"],
        "allowed_mib": round(mib["weights"] + 1.5 * mib["largest"], 1),
    }


def native(model: keras.Model, fcn: Any) -> dict[str, Any]:
    """C1: at the window, through the engine, of max |logit|; and how far two images lie apart, in errors.

    `rounding` is how far the classifier's own logits move when every pixel changes by one unit in its last place.
    """
    pair = nets.inputs_for(model, 2, 500)
    classify = fullyconv.compile(model)
    want, moved = classify(pair), classify(pair * np.float32(1 + 2**-23))
    have = fcn.predict(pair).reshape(want.shape)
    scale, error = float(np.abs(want).max()), float(np.abs(want - have).max())
    spread = float(np.abs(want[0] - want[1]).max())
    return {
        "native_error": error / scale,
        "rounding": float(np.abs(want - moved).max()) / scale,
        "difference": spread / scale,
        "discrimination": spread / max(error, 1e-12 * scale),
    }


def agreement(model: keras.Model, fcn: Any) -> dict[str, Any]:
    """The share of the windows cut out of a photo for which the map and the classifier name the same class."""
    count = MANY if fullyconv.cost(model).multiply_adds < CHEAP else FEW
    edge = fcn.window[0] + (int(count**0.5) - 1) * int(fcn.grid.stride[0])
    image = photo(edge)
    want = fullyconv.reference(model, image, int(fcn.grid.stride[0]), batch_size=3)
    have = fcn.predict(image[None])[0][: want.shape[0], : want.shape[1]]
    same = float((want.argmax(-1) == have.argmax(-1)).mean())
    return {"agreement": same, "windows": count, "window_error": float(np.abs(want - have).max() / np.abs(want).max())}


def photo(edge: int) -> np.ndarray:
    """A photo of so many pixels, of mean 0 and spread 1, as the weights were prepared for."""
    pixels = Image.fromarray(pretrained.sample_image("astronaut").astype("uint8")).resize((edge, edge))
    array = np.asarray(pixels, "float32")
    return (array - array.mean()) / array.std()


def reloaded(fcn: Any) -> dict[str, Any]:
    """The largest difference, of max |logit|, after saving and loading as Keras does it, with no custom objects."""
    image = photo(fcn.window[0])[None]
    want = fcn.predict(image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fcn.keras"
        fcn.save(path)
        fcn.model, fcn._compiled = None, None  # both networks at once may not fit into memory
        gc.collect()
        stock = keras.models.load_model(path)
    have = fullyconv.compile(stock)(image)
    return {"reload_error": float(np.abs(want - have).max() / np.abs(want).max())}


def sizes(name: str, window: int, stride: int) -> dict[str, Any]:
    """C3 on thin images, in the plain model, at the smallest window that pads alike, for all residues or a number."""
    small = zoo_nets.reduced(name, window, stride)
    fcn = fullyconv.convert(zoo_nets.prepared(name, small, classes=10))
    low, high = fcn.grid.receptive_field[0]
    one = fcn.cost((int(high - low) + 2 * stride, small)).multiply_adds
    count = max(3, min(stride, int(SIZES_BUDGET / one)))
    beyond = sorted({round(i * (stride - 1) / (count - 1)) for i in range(count)})
    compared = nets.Compared()
    nets.compare_sizes(fcn, [*beyond, 2 * stride], compared)
    return {
        "sizes_window": small,
        "sizes_field": int(high - low),
        "residues": len(beyond),
        "cells": compared.cells,
        "size_error": compared.error,
    }
