"""The order of a map's axes: channels first or last, and the change from one to the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.rules.rule import Decline, Map, Site, axes_of, describe_size

_ops = _keras.numpy_operations


def order_of(operation: Any, count: int) -> list[int] | None:
    """Where each axis of what an operation returns was before, the batch counted; None if it puts no axes in order.

    Args:
        operation: A layer or operation.
        count: Number of axes.
    """
    if isinstance(operation, keras.layers.Permute):
        return [0, *operation.dims]
    if isinstance(operation, _ops.Transpose):
        axes = operation.axes if operation.axes is not None else range(count - 1, -1, -1)
        return [a % count for a in axes]
    if isinstance(operation, _ops.Moveaxis):
        ends = zip(axes_of(operation.source), axes_of(operation.destination), strict=True)
        moves = {destination % count: source % count for source, destination in ends}
        order = [axis for axis in range(count) if axis not in moves.values()]
        for destination in sorted(moves):
            order.insert(destination, moves[destination])
        return order
    if isinstance(operation, _ops.Swapaxes):
        order = list(range(count))
        a, b = operation.axis1 % count, operation.axis2 % count
        order[a], order[b] = order[b], order[a]
        return order
    return None


def turns(operation: Any, count: int) -> bool:
    """Whether an operation moves the channels of a map with so many axes, first or last, to the other end."""
    order = order_of(operation, count) or range(count)
    return count > 2 and order[1] != 1 and order[-1] != count - 1


def need_map(x: Map, site: Site) -> Map:
    """The map, its axes in the order that the tensor has.

    Raises:
        Decline: the tensor is no map.
    """
    x = laid_out(x, site)
    if not x.is_map:
        raise Decline(
            f"reads a tensor of shape {x.shape} that was reshaped from a map of {describe_size(x.size)} positions",
            "convert the part before the reshape with `until`",
        )
    return x


def need_format(layer: keras.layers.Layer, x: Map, site: Site) -> Map:
    """The map, its axes in the order that the layer reads.

    Raises:
        Decline: they are not, or the tensor is no map.
    """
    x = need_map(x, site)
    if getattr(layer, "data_format", x.data_format) != x.data_format:
        raise Decline(
            f"reads its input as {layer.data_format}, but the map is {x.data_format}",
            "give both the same data_format, or put a Permute between them",
        )
    return x


def laid_out(x: Map, site: Site) -> Map:
    """The map, transposed where the tensor is laid out as a map of the other data format."""
    other = replace(x, channels_first=not x.channels_first, index=None)
    if x.is_map or x.is_vector or x.shape != other.layout or not np.array_equal(x.positions, other.positions):
        return x
    return transposed(x, site, "permuted")


def transposed(x: Map, site: Site, suffix: str) -> Map:
    """The map in the other data format."""
    other = replace(x, channels_first=not x.channels_first, index=None)
    spatial = list(range(2, x.rank + 2)) if x.channels_first else list(range(1, x.rank + 1))
    dims = [*spatial, 1] if x.channels_first else [x.rank + 1, *spatial]
    recipe = site.layer(keras.layers.Permute, {"dims": dims, "dtype": x.dtype}, x, suffix=suffix)
    return replace(other, recipe=recipe, shape=other.layout)
