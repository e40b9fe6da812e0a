"""Layers and operations that merge several tensors: their grids are made to agree first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.errors import GeometryError
from fullyconv.rules.conv import class_of_rank
from fullyconv.rules.flatten import unfolded
from fullyconv.rules.fragments import alike, fragmented
from fullyconv.rules.places import cell_of_position, numbered
from fullyconv.rules.pointwise import for_channels, need_channels
from fullyconv.rules.rule import Decline, Map, Recipe, Site, axes_of, config_of, describe_size

DIFFERENT_GRIDS = "give its inputs the same stride, or merge them behind their poolings"


def merge(layer: keras.layers.Layer, inputs: Sequence[Map], *, site: Site, **_: Any) -> Map:
    """The same merge, of maps whose grids agree.

    given     Add()([(N, h, w, c), (N, h, w, c)]), or a vector (N, c) of a pooling (squeeze-and-excite)
    result    the longer map cropped to the shorter, or the vector spread over the positions around its window
    """
    maps = agreed([_lifted(x, inputs) for x in inputs], site)
    return _merged(maps, site.layer(type(layer), config_of(layer), maps), site)


def concatenate(layer: keras.layers.Concatenate, inputs: Sequence[Map], *, site: Site, **_: Any) -> Map:
    """The same concatenation, over the channels of maps whose grids agree."""
    maps = _joinable(inputs, layer.axis, site)
    config = {**config_of(layer), "axis": maps[0].channel_axis}
    return _joined(maps, site.layer(type(layer), config, maps), site)


def concatenate_operation(op: Any, inputs: Sequence[Map], *, site: Site, **_: Any) -> Map:
    """As the layer; or fragments in the batch, or side by side, in a network that was made denser."""
    if op.axis == 0 or inputs[0].apart:
        return _of_fragments(op, inputs, site)
    maps = _joinable(inputs, op.axis, site)
    return _joined(maps, site.operation(type(op), {"axis": maps[0].channel_axis}, maps), site)


def _of_fragments(op: Any, inputs: Sequence[Map], site: Site) -> Map:
    """What stands for a concatenation that fragments.py has written."""
    first, recipe = inputs[0], site.operation(type(op), {"axis": op.axis}, list(inputs))
    if first.apart and op.axis == 0:
        return first.then(recipe, apart=False)
    if first.apart:
        i = first.spatial.index(op.axis)
        rest = list(first.fragments)
        rest.remove((i, len(inputs)))
        axes = tuple(a.joined(len(inputs)) if j == i else a for j, a in enumerate(first.axes))
        return first.then(recipe, axes=axes, apart=False, fragments=tuple(rest))
    if not first.axes and site.name.endswith("repeated") and all(x.recipe is first.recipe for x in inputs):
        return first.then(recipe)  # a vector beside the image, once for each fragment
    moved = [i for i, (a, b) in enumerate(zip(first.axes, inputs[1].axes, strict=True)) if a.field != b.field]
    if len(moved) != 1:
        raise Decline("concatenates along the batch", "concatenate channels")
    return first.then(recipe, fragments=(*first.fragments, (moved[0], len(inputs))))


def dot(layer: keras.layers.Dot, inputs: Sequence[Map], *, site: Site, **_: Any) -> Map:
    """The product of two vectors, cell by cell: normalised if asked for, multiplied, and summed over the channels."""
    maps = agreed(list(inputs), site)
    if any(not x.is_vector or len(x.shape) != 1 for x in maps):
        raise Decline(
            f"multiplies tensors of shapes {inputs[0].shape} and {inputs[1].shape}",
            "give it vectors, such as those of a global pooling or a Dense layer",
        )
    if layer.normalize:
        unit = {"axis": maps[0].channel_axis}
        parts = [site.layer(keras.layers.UnitNormalization, unit, x, suffix=f"unit{i}") for i, x in enumerate(maps)]
        maps = [x.then(part) for x, part in zip(maps, parts, strict=True)]
    product = site.layer(keras.layers.Multiply, {"dtype": site.dtype}, maps)
    total = {"axis": maps[0].channel_axis, "keepdims": True}
    recipe = site.operation(_keras.numpy_operations.Sum, total, product, suffix="sum")
    return replace(_merged(maps, recipe, site), channels=1, index=np.arange(1), shape=site.shape)


def elementwise_merge(op: Any, a: Any, b: Any, *, site: Site, **_: Any) -> Map:
    """The same operation, on maps whose grids agree, or on a map and a constant."""
    a, b = (keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else x for x in (a, b))
    maps = [x for x in (a, b) if isinstance(x, Map)]
    if len(maps) == 2:
        if len(a.shape) != len(b.shape):
            raise Decline(f"broadcasts shapes {a.shape} and {b.shape}", "reshape both to the same rank")
        maps = agreed(maps, site)
        return _merged(maps, site.operation(type(op), {}, *maps), site)
    size = np.size(b if a is maps[0] else a)
    x = maps[0] if size == 1 else unfolded(maps[0], site)
    if size > 1 and x.channels == 1:
        raise Decline(f"makes {size} channels of one", "use a Dense layer or a 1x1 convolution")
    args = [x if arg is maps[0] else for_channels(x, arg) for arg in (a, b)]
    return x.then(site.operation(type(op), {}, *args), dtype=site.dtype)


def _lifted(x: Map, inputs: Sequence[Map]) -> Map:
    """A vector as Keras's merge layers reshape it to the rank of the others."""
    rank = max(len(other.shape) for other in inputs)
    if len(x.shape) == rank:
        return x
    return x.with_positions(x.positions.reshape((1,) * (rank - len(x.shape)) + x.shape))


def _joinable(inputs: Sequence[Map], axis: int, site: Site) -> list[Map]:
    maps = [x if x.is_map else unfolded(x, site) for x in inputs]
    for x in maps:
        need_channels(x, axes_of(axis))
    return _expanded(agreed(maps, site), site)


def _joined(maps: Sequence[Map], recipe: Recipe, site: Site) -> Map:
    channels = sum(x.channels for x in maps)
    out = _merged(maps, recipe, site)
    index = None if maps[0].is_map else np.arange(channels).reshape(site.shape)
    return replace(out, channels=channels, index=index, shape=site.shape)


def _merged(maps: Sequence[Map], recipe: Recipe, site: Site) -> Map:
    """What stands for a merge: everything that holds for any of the maps."""
    first = next((x for x in maps if not _single(x)), maps[0])
    reasons = tuple(dict.fromkeys(reason for x in maps for reason in x.reasons))
    pools = frozenset().union(*(x.pools for x in maps)) if math.prod(first.size) == 1 else frozenset()
    channels = max(x.channels for x in maps)
    index = first.index if first.index is None or first.channels == channels else np.arange(channels)
    approximate = any(x.approximate for x in maps)
    out = first.then(recipe, channels=channels, index=index, dtype=site.dtype, reasons=reasons, pools=pools)
    return replace(out, shape=site.shape, approximate=approximate)


def _single(x: Map) -> bool:
    """Whether the map has one cell for the whole image, which any other broadcasts with."""
    return all(axis.whole for axis in x.axes)


def agreed(maps: list[Map], site: Site) -> list[Map]:
    """The maps with grids that agree: unfolded, spread, subsampled and cropped as needed.

    Raises:
        Decline: they cannot agree.
    """
    if len({(x.rank, x.channels_first) for x in maps}) > 1:
        raise Decline("merges maps of different data formats", "give all layers the same data_format")
    maps = _unmoved_alike(maps, site)
    _check_broadcast(maps)
    several = [x for x in maps if not _single(x)]
    if not several:
        return _through_context(maps, site)
    size = max((x.size for x in several), key=math.prod)
    vectors = [x for x in several if math.prod(x.size) == 1]
    if math.prod(size) > 1 and vectors:
        site.contexts = site.contexts | frozenset().union(*(x.pools for x in vectors))
    target = _coarsest([x for x in several if x.size == size])
    maps = [x if _single(x) else _onto(x, target, site) for x in maps]
    fragments = max((x.fragments for x in maps), key=len)
    maps = [alike(x, fragments, site) for x in maps]
    return _cropped(_through_context(maps, site), site)


def _through_context(maps: list[Map], site: Site) -> list[Map]:
    """Mark the poolings that are merged back onto a map, whose axes then are those of the whole image."""
    if any(math.prod(x.size) > 1 for x in maps):
        site.contexts = site.contexts | frozenset().union(*(x.pools for x in maps if math.prod(x.size) == 1))
        whole = any(_single(x) and x.axes for x in maps)
        maps = [replace(x, axes=tuple(a.unbounded() for a in x.axes)) if whole and not _single(x) else x for x in maps]
    return maps


def _check_broadcast(maps: list[Map]) -> None:
    """Decline a vector that meets a map along anything but its channels."""
    if any(math.prod(x.size) > 1 for x in maps):
        for x in maps:
            if math.prod(x.size) == 1 and not x.is_map:
                raise Decline(
                    f"merges a vector of shape {x.shape} along an axis of a map that is not its channels",
                    "reshape the vector to one value a channel first",
                )


def _unmoved_alike(maps: list[Map], site: Site) -> list[Map]:
    """Flattened maps stay as they are where all of them are flattened alike, else are unfolded."""
    flat = [x for x in maps if not x.is_map and not x.is_vector]
    alike = flat and all(x.size == flat[0].size and np.array_equal(x.positions, flat[0].positions) for x in maps)
    return maps if alike else [unfolded(x, site) if not x.is_vector else x for x in maps]


def _coarsest(maps: list[Map]) -> Map:
    """The map with the coarsest grid, which the others can be brought to."""
    return max(maps, key=lambda x: x.axes[0].stride)


def _onto(x: Map, target: Map, site: Site) -> Map:
    """The map on the target's grid: spread over its positions, or every n-th of its cells."""
    if x.size != target.size and math.prod(x.size) != 1:
        raise Decline(
            f"merges maps of {describe_size(x.size)} and {describe_size(target.size)} positions",
            "give its inputs the same size, or pool one of them over all of its positions",
        )
    if x.size != target.size:
        return _spread(x, target, site)
    ratios = [t.stride / a.stride for a, t in zip(x.axes, target.axes, strict=True)]
    natives = [(a.native, t.native) for a, t in zip(x.axes, target.axes, strict=True)]
    if any(a != b for a, b in natives):
        raise Decline("merges a pooling that was left out (pool='drop') with a vector of a window", "use pool='window'")
    if all(r == 1 for r in ratios):
        return x
    if math.prod(x.size) > 1 or any(r != int(r) for r in ratios):
        raise Decline(
            f"merges maps of strides {_strides(x)} and {_strides(target)} pixels, which cannot be made to agree",
            DIFFERENT_GRIDS,
        )
    return _subsampled(x, [int(r) for r in ratios], site)


def _strides(x: Map) -> str:
    return describe_size(tuple(axis.stride for axis in x.axes))


def _subsampled(x: Map, ratios: list[int], site: Site) -> Map:
    x = fragmented(x, ratios, site)
    config = {"pool_size": (1,) * x.rank, "strides": ratios, "data_format": x.data_format, "dtype": x.dtype}
    recipe = site.layer(class_of_rank("AveragePooling", x.rank), config, x, suffix="every_nth_cell")
    return x.then(recipe, axes=tuple(a.slide(1, r) for a, r in zip(x.axes, ratios, strict=True)))


def _expanded(maps: list[Map], site: Site) -> list[Map]:
    """Maps of one cell repeated at every position of the others."""
    several = [x for x in maps if not _single(x)]
    if not several:
        return maps
    zeros = site.operation(_keras.numpy_operations.ZerosLike, {}, _first_channel(several[0], site), suffix="zeros")
    add = _keras.numpy_operations.Add
    return [x.then(site.operation(add, {}, x, zeros, suffix="everywhere")) if _single(x) else x for x in maps]


def _first_channel(x: Map, site: Site) -> Recipe:
    key: list[Any] = [slice(None)] * (x.rank + 2)
    key[x.channel_axis] = slice(0, 1)
    return site.operation(_keras.numpy_operations.GetItem, {}, x, tuple(key), suffix="channel")


def _cropped(maps: list[Map], site: Site) -> list[Map]:
    """The maps cropped at their ends to the shortest, along each axis."""
    several = [x for x in maps if not _single(x)]
    for i in range(several[0].rank):
        try:
            shortest = several[0]
            for x in several[1:]:
                shortest = x if shortest.axes[i].excess(x.axes[i]) > 0 else shortest
            several = [_crop(x, shortest, i, site) for x in several]
        except GeometryError as error:
            raise Decline(
                f"cannot crop its inputs to one size: {error}",
                "merge them behind their poolings, or leave out the upsampling",
            ) from error
    axes = several[0].axes
    for x in several[1:]:
        axes = tuple(a.meet(b) for a, b in zip(axes, x.axes, strict=True))
    cropped = iter(several)
    return [x if _single(x) else replace(next(cropped), axes=axes) for x in maps]


def _crop(x: Map, shortest: Map, i: int, site: Site) -> Map:
    if x.axes[i].excess(shortest.axes[i]) == 0:
        return x
    cells = numbered(shortest, i, site)
    take = {"axis": x.spatial[i]}
    recipe = site.operation(_keras.numpy_operations.Take, take, x, cells, suffix=f"cropped{i}")
    axes = tuple(replace(a, length=shortest.axes[i].length) if j == i else a for j, a in enumerate(x.axes))
    return x.then(recipe, axes=axes)


def _spread(x: Map, target: Map, site: Site) -> Map:
    """A context on the positions of a map: position p reads cell clip((p - (n - q) // 2) // q).

    The cells are those of the output's lattice, q positions apart; n is the map's size at the window.
    """
    ratios = [a.stride / t.stride for a, t in zip(x.axes, target.axes, strict=True)]
    if any(r != int(r) or r < 1 for r in ratios):
        raise Decline(
            f"merges cells {_strides(x)} pixels apart onto positions {_strides(target)} apart", DIFFERENT_GRIDS
        )
    recipe = x.recipe
    for i, ratio in enumerate(ratios):
        cells = cell_of_position(x, target, i, int(ratio), site)
        take = {"axis": x.spatial[i]}
        recipe = site.operation(_keras.numpy_operations.Take, take, recipe, cells, suffix=f"spread{i}")
    axes = tuple(t.spread(a, n) for a, t, n in zip(x.axes, target.axes, target.size, strict=True))
    return replace(x, recipe=recipe, axes=axes, size=target.size, index=None, shape=target.shape)
