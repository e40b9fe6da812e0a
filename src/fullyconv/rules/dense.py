"""Dense layers: the convolutions that compute them at every window, or the layers themselves on every window.

A convolution is what a Dense layer becomes, and on OpenVINO the fastest form. Keras's other backends run one with a
very large kernel many times slower than the product of matrices it is; there a large Dense layer stays what it is,
and reads the window of each cell, gathered into the channels by shifted crops (design/heads.md has the measurements).
"""

from __future__ import annotations

import copy
import math
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.rules.conv import class_of_rank
from fullyconv.rules.flatten import all_values, unfolded
from fullyconv.rules.pointwise import activated
from fullyconv.rules.rule import Arrange, Decline, Map, Site, config_of, describe_size, slid

LARGE = 2**20  # weights of a kernel from which on its form matters
GATHERED = 128  # values a pixel of the image that may be gathered: as many as VGG16's first two convolutions return


def dense(layer: keras.layers.Dense, x: Map, *, site: Site, **_: Any) -> Map:
    """The convolution that computes a Dense layer at every window, or the same layer on every window.

    given     (N, h*w*c) @ (h*w*c, u)               -> (N, u)
    result    (N, H, W, c) * kernel (h, w, c, u)    -> (N, H-h+1, W-w+1, u)
    or        (N, H-h+1, W-w+1, h*w*c) @ (h*w*c, u) -> (N, H-h+1, W-w+1, u)
    """
    if _keras.is_quantized(layer):
        raise Decline("is quantized", "convert the float model, then quantize the result")
    if len(x.shape) == 1:
        return _on_windows(layer, x, site) if _stays(layer, x, site) else _convolution(layer, x, site)
    if x.is_map and not x.channels_first:
        return _along_channels(layer, x, site)
    raise Decline(_mixes(x), "move the channels last before it, or flatten")


def einsum_dense(layer: keras.layers.EinsumDense, x: Map, *, site: Site, **_: Any) -> Map:
    """The same layer where it contracts the channels of a map; a 1x1 convolution on a vector."""
    if not contracts_last(layer):
        raise Decline(f"computes {layer.equation!r}, which is more than a product over channels", "use a Dense layer")
    if len(x.shape) == 1:
        return _convolution(layer, x, site)
    if x.is_map and not x.channels_first:
        return _along_channels(layer, x, site)
    raise Decline(_mixes(x), "move the channels last before it, or flatten")


def _mixes(x: Map) -> str:
    return f"multiplies along the last axis of a tensor of shape {x.shape}, which is not the channels of a map"


def _along_channels(layer: keras.layers.Layer, x: Map, site: Site) -> Map:
    config = config_of(layer)
    if len(config.get("output_shape", ())) > 1:
        config["output_shape"] = (None,) * x.rank + (site.shape[-1],)
    recipe = site.layer(type(layer), config, x, source=layer)
    return x.then(recipe, shape=site.shape, channels=site.shape[-1], dtype=site.dtype)


def contracts_last(layer: keras.layers.EinsumDense) -> bool:
    """Whether the equation is `...c,cd->...d`, whatever its letters."""
    inputs, output = layer.equation.replace(" ", "").split("->")
    value, kernel = inputs.split(",")
    bias = set(layer.bias_axes or output[-1]) == {output[-1]}
    return bias and len(kernel) == 2 and value[-1] == kernel[0] and output == value[:-1] + kernel[1]


def _stays(layer: keras.layers.Dense, x: Map, site: Site) -> bool:
    """Whether the layer is large enough to stay one where that is wanted, and what it reads small enough to gather."""
    if site.head != "dense" or x.channels_first:
        return False
    values = math.prod(x.size) * x.channels
    apart = math.prod(a.stride for a in x.axes) / math.prod(factor for _, factor in x.fragments)
    gathered = values if math.prod(x.size) > 1 else 0
    return values * site.shape[-1] >= LARGE and gathered <= GATHERED * apart


def _on_windows(layer: keras.layers.Dense, x: Map, site: Site) -> Map:
    """The same layer on the window of every cell; its kernel's rows in the order of the map."""
    arrange = {name: Arrange() for name in _keras.arrays(layer)}
    arrange["kernel"] = Arrange(rows(x))
    if math.prod(x.size) > 1:
        site.note(
            f"{site.name}: stays a Dense layer, on the {describe_size(x.size)} positions under each cell, which crops "
            "gather; JAX, PyTorch and TensorFlow are slow at the convolution, which head='convolution' makes of it."
        )
    gathered = unfolded(x, site, ordered=False)
    recipe = site.layer(type(layer), config_of(layer), gathered, source=layer, arrange=arrange)
    units = site.shape[-1]
    return gathered.then(recipe, channels=units, shape=site.shape, index=np.arange(units), dtype=site.dtype)


def _convolution(layer: keras.layers.Layer, x: Map, site: Site) -> Map:
    units, kernel = site.shape[-1], (*x.size, x.channels, site.shape[-1])
    arrange = {"kernel": Arrange(rows(x), kernel)}
    if "bias" in _keras.arrays(layer):
        arrange["bias"] = Arrange()
    config, activation = convolution_config(layer, x, units)
    if _for_matrices(layer):
        site.note(f"{site.name}: its OrthogonalRegularizer is defined for matrices only, and was left out.")
    recipe = site.layer(class_of_rank("Conv", x.rank), config, x, source=layer, arrange=arrange)
    ones, zeros = (1,) * x.rank, ((0, 0),) * x.rank
    changes = {"size": ones, "channels": units, "shape": site.shape, "index": np.arange(units), "dtype": site.dtype}
    out = x.then(recipe, axes=slid(x, x.size, ones, zeros), **changes)
    return activated(out, activation, site)


def rows(x: Map) -> np.ndarray | None:
    """Which row of a Dense kernel belongs to each position of the map, or None where they are in order."""
    positions = all_values(x, x.positions)
    inverse = np.empty_like(positions)
    inverse[positions] = np.arange(positions.size)
    return None if np.array_equal(positions, np.arange(positions.size)) else inverse


def convolution_config(layer: keras.layers.Layer, x: Map, units: int) -> tuple[dict[str, Any], Any]:
    """The config of a Dense layer's convolution, and the activation it cannot hold (one along the wrong axis)."""
    source = config_of(layer)
    names = ("activation", "trainable", "dtype", "activity_regularizer")
    roles = ("initializer", "regularizer", "constraint")
    weights = [f"{w}_{role}" for w in ("kernel", "bias") for role in roles]
    config = {name: source[name] for name in (*names, *weights) if name in source}
    config |= {"filters": units, "kernel_size": x.size, "strides": 1, "padding": "valid"}
    config |= {"data_format": x.data_format, "use_bias": "bias" in _keras.arrays(layer)}
    config["kernel_constraint"] = _over_kernel(config["kernel_constraint"], x.rank)
    if _for_matrices(layer):
        config["kernel_regularizer"] = None
    if not x.channels_first:
        return config, None
    return {**config, "activation": None}, layer.activation


def _over_kernel(constraint: Any, rank: int) -> Any:
    """A constraint on a matrix as one on a convolution's kernel: its axis 0 is the spatial axes and the channels."""
    config = (constraint or {}).get("config", {})
    if "axis" not in config:
        return constraint
    given = config["axis"] if isinstance(config["axis"], (list, tuple)) else [config["axis"]]
    axes = [a for axis in given for a in (range(rank + 1) if axis % 2 == 0 else [rank + 1])]
    constraint = copy.deepcopy(constraint)
    constraint["config"]["axis"] = axes
    return constraint


def _for_matrices(layer: keras.layers.Layer) -> bool:
    """Whether the kernel's regularizer is defined for matrices only."""
    return isinstance(layer.kernel_regularizer, keras.regularizers.OrthogonalRegularizer)
