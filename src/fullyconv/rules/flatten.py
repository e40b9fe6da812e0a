"""Rearrangements: nothing is moved.

Positions are pushed through the same path, and the next Dense's rows follow them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.rules.order import laid_out, order_of
from fullyconv.rules.rule import Decline, Map, Recipe, Site, describe_size, slid


def all_values(x: Map, positions: np.ndarray) -> np.ndarray:
    """The positions, which must be those of every value of the map: a user's rule may have forgotten its `index`."""
    values = math.prod(x.size) * x.channels
    if positions.size != values:
        raise Decline(
            f"reads {positions.size} values, where the map before it holds {values}",
            "let the rule that returned the map give its `index` too, a position for each value",
        )
    return positions


def _settled(x: Map, positions: np.ndarray) -> Map:
    """The map under new positions."""
    return x.with_positions(all_values(x, positions))


def flatten(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """Nothing: the next Dense becomes a convolution of the flattened map's size."""
    positions = x.positions
    if layer.data_format == "channels_first" and positions.ndim > 1:
        positions = np.moveaxis(positions, 0, -1)
    return _settled(x, positions.ravel())


def reshape(op: Any, x: Map, *_: Any, site: Site, **__: Any) -> Map:
    """Nothing, as long as a Dense or a layer over channels follows."""
    if None in site.shape:
        raise Decline("makes sizes that are not known before it runs", "write them as numbers, -1 for the batch only")
    return _settled(x, x.positions.reshape(site.shape))


def rearranged(op: Any, x: Map, *_: Any, site: Site, **__: Any) -> Map:
    """Nothing; a Permute where a map of the other data format is read after it."""
    order = order_of(op, len(x.shape) + 1) or []
    if order[:1] != [0]:
        raise Decline("moves the batch axis", "keep the batch first")
    return _settled(x, x.positions.transpose([a - 1 for a in order[1:]]))


def squeeze(op: Any, x: Map, *_: Any, site: Site, **__: Any) -> Map:
    """Nothing: axes of one value go or come."""
    return _settled(x, x.positions.reshape(site.shape))


def unfolded(x: Map, site: Site, ordered: bool = True) -> Map:
    """The flattened piece of map under every cell, in the channels: for layers with parameters for each position.

    given     (N, h*w*c), a row for each window
    result    (N, H-h+1, W-w+1, h*w*c), by shifted crops and Concatenate

    Args:
        x: The flattened map.
        site: Where it is.
        ordered: Whether the channels must come in the order of the flattened values.
    """
    x = laid_out(x, site)
    if x.is_vector or x.is_map:
        return x
    if len(x.shape) != 1:
        raise Decline(
            f"works on a tensor of shape {x.shape}, into which a map of {describe_size(x.size)} positions was reshaped",
            "convert the part before the reshape with `until`",
        )
    recipe = x.recipe
    for i in reversed(range(x.rank)):
        recipe = _shifted(x, recipe, i, site)
    axes = slid(x, x.size, (1,) * x.rank, ((0, 0),) * x.rank)
    channels = math.prod(x.size) * x.channels
    if not ordered:
        return replace(x, recipe=recipe, axes=axes, size=(1,) * x.rank, channels=channels)
    if not np.array_equal(x.positions, np.arange(channels)):
        take = {"axis": x.channel_axis}
        kind = _keras.numpy_operations.Take
        recipe = site.operation(kind, take, recipe, [int(i) for i in x.positions], suffix="order")
    return replace(x, recipe=recipe, axes=axes, size=(1,) * x.rank, channels=channels, index=np.arange(channels))


def _shifted(x: Map, recipe: Recipe, axis: int, site: Site) -> Recipe:
    """The map beside its copies shifted along one axis by 1, 2 ... positions."""
    n = x.size[axis]
    if n == 1:
        return recipe
    key: list[Any] = [slice(None)] * (x.rank + 2)
    shifted = []
    for j in range(n):
        key[x.spatial[axis]] = slice(j, None if j == n - 1 else j - n + 1)
        shifted.append(site.operation(_keras.numpy_operations.GetItem, {}, recipe, tuple(key), suffix=f"shift{axis}"))
    joined = {"axis": x.channel_axis, "dtype": x.dtype}
    return site.layer(keras.layers.Concatenate, joined, shifted, suffix=f"unfold{axis}")
