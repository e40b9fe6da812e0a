"""The order of a map's axes: channels first or last, and the change from one to the other."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np

from fullyconv.rules.rule import Decline, Map, Site, describe_size


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
