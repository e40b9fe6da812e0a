"""Poolings: over a neighbourhood, over everything, and the reductions that are one.

A pooling over everything is one of three things: the head's, which becomes the pooling of a window; a context, which is
merged back onto a map (squeeze-and-excite); or one the user wants kept over the whole image.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.geometry import Axis
from fullyconv.rules.conv import FROZEN, class_of_rank, each, reduced_axes, sizes_after, slide, zero_padded
from fullyconv.rules.fragments import fragmented
from fullyconv.rules.order import laid_out, need_format
from fullyconv.rules.rule import Decline, Map, Pads, Recipe, Site, describe_axes, describe_size, slid


def max_pooling(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same maxima; with frozen padding, over a map padded with -inf."""

    def form(x: Map, config: dict[str, Any], pads: Pads) -> Recipe:
        return site.layer(type(layer), config, _padded_below(x, pads, site))

    return slide(layer, x, each(layer.pool_size, x.rank), site, form)


def average_pooling(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same means; with frozen padding, of zeros, divided by the same means of ones, so that padding does not count.

    given     AveragePooling(k, strides=2, padding="same")
    result    AveragePooling(pad(x)) / AveragePooling(pad(ones))
    """

    def form(x: Map, config: dict[str, Any], pads: Pads) -> Recipe:
        if not any(map(any, pads)):
            return site.layer(type(layer), config, x)
        return _mean_without_padding(type(layer), config, x, pads, site)

    return slide(layer, x, each(layer.pool_size, x.rank), site, form)


def _mean_without_padding(kind: type, config: dict[str, Any], x: Map, pads: Pads, site: Site) -> Recipe:
    ones = x.then(site.operation(_keras.numpy_operations.OnesLike, {}, x, suffix="ones"))
    sums = site.layer(kind, config, zero_padded(x, pads, site))
    config = {**config, "name": None}
    share = site.layer(kind, config, zero_padded(ones, pads, site), suffix="share")
    return site.operation(_keras.numpy_operations.Divide, {}, sums, share, suffix="mean")


def _padded_below(x: Map, pads: Pads, site: Site) -> Map | Recipe:
    if not any(map(any, pads)):
        return x
    widths: list[tuple[int, int]] = [(0, 0)] * (x.rank + 2)
    for axis, pair in zip(x.spatial, pads, strict=True):
        widths[axis] = pair
    config = {"pad_width": tuple(widths), "mode": "constant"}
    return site.operation(_keras.numpy_operations.Pad, config, x, suffix=FROZEN, constant_values=-math.inf)


def global_average(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The mean of a window at every position.

    given     GlobalAveragePooling on (N, h, w, c)      -> (N, c)
    result    AveragePooling((h, w), strides=1)         -> (N, H-h+1, W-w+1, c)
    """
    x = need_format(layer, x, site)
    return global_pooling(x, "Average", site)


def global_max(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The maximum of a window at every position."""
    x = need_format(layer, x, site)
    return global_pooling(x, "Max", site)


def global_pooling(x: Map, kind: str, site: Site) -> Map:
    """What a pooling over all positions becomes, by the site's options."""
    vector: dict[str, Any]
    vector = {"shape": site.shape, "size": (1,) * x.rank, "dtype": site.dtype, "pools": frozenset({site.key})}
    if site.key in site.contexts:
        out = _context(x, kind, site) if site.context == "window" else _whole(x, kind, site)
    elif site.pool == "global":
        out = _whole(x, kind, site)
    elif site.pool == "drop":
        site.note(f"{site.name} was left out: every position of the trunk is a cell (pool='drop').")
        out = x
    else:
        out = _window(x, kind, site)
    return replace(out, **vector).with_positions(_positions(x.channels, site.shape))


def _positions(channels: int, shape: tuple[int, ...]) -> Any:
    return np.arange(channels).reshape(shape)


def _pooled(x: Map, kind: str, sizes: tuple[int, ...], strides: tuple[int, ...], site: Site, suffix: str = "") -> Map:
    config = {"pool_size": sizes, "strides": strides, "padding": "valid", "data_format": x.data_format}
    short = kind == "Average" and x.dtype in ("float16", "bfloat16")  # whose sums over a window overflow
    config["dtype"] = "float32" if short else x.dtype
    recipe = site.layer(class_of_rank(f"{kind}Pooling", x.rank), config, x, suffix=suffix)
    if short:
        recipe = site.operation(_keras.core_operations.Cast, {"dtype": x.dtype}, recipe, suffix="shortened")
    return x.then(recipe, axes=slid(x, sizes, strides, ((0, 0),) * x.rank))


def _window(x: Map, kind: str, site: Site) -> Map:
    return _pooled(x, kind, x.size, (1,) * x.rank, site)


def _whole(x: Map, kind: str, site: Site) -> Map:
    if site.dense is not None:
        raise Decline("pools the whole image, which has no denser cells", 'leave stride out, or pool="window"')
    config = {"keepdims": True, "data_format": x.data_format, "dtype": x.dtype}
    recipe = site.layer(class_of_rank(f"Global{kind}Pooling", x.rank), config, x)
    everything = (-math.inf, math.inf)
    axes = tuple(Axis(axis.window, axis.window, everything, whole=True, reach=everything) for axis in x.axes)
    return x.then(recipe, axes=axes, reasons=(*x.reasons, f"{site.name} pools the whole image"), approximate=True)


def _context(x: Map, kind: str, site: Site) -> Map:
    """The pooling of the window around each cell of the output, one spatial axis after the other.

    Blocks as large as the stride of the cells are pooled first, where the window is made of whole ones: each position
    is then added once, and not once for every cell in whose window it lies.
    """
    if site.dense is not None:
        site.note("Contexts are pooled as densely as the cells, so that other cells change a little with the stride.")
    steps = _ratio(x, site)
    if max(steps) > 1 and all(n % step == 0 for n, step in zip(x.size, steps, strict=True)):
        rest = tuple(n // step for n, step in zip(x.size, steps, strict=True))
        x = replace(_pooled(x, kind, steps, steps, site, suffix="blocks"), size=rest)
        steps = (1,) * x.rank
    for i, suffix in enumerate(["", *(f"axis{n}" for n in range(1, x.rank))]):
        sizes = tuple(n if j == i else 1 for j, n in enumerate(x.size))
        strides = tuple(step if j == i else 1 for j, step in enumerate(steps))
        x = _pooled(x, kind, sizes, strides, site, suffix=suffix)
    return x.then(x.recipe, reasons=(*x.reasons, f"{site.name} is a context"), approximate=True)


def _ratio(x: Map, site: Site) -> tuple[int, ...]:
    if site.lattice is None:
        return (1,) * x.rank
    steps = zip(site.lattice, x.axes, strict=True)
    return tuple(int(s // axis.stride) if s % axis.stride == 0 and s >= axis.stride else 1 for s, axis in steps)


def adaptive(kind: str) -> Any:
    """The rule of an adaptive pooling of a kind, `"Average"` or `"Max"`."""

    def rule(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
        """The pooling that it is at the window: of everything, or of equal blocks."""
        x = need_format(layer, x, site)
        target = sizes_after(x, site, x.channels_first)[0]
        if math.prod(target) == 1:
            return global_pooling(x, kind, site)
        if any(n % t for n, t in zip(x.size, target, strict=True)):
            raise Decline(
                f"pools {describe_size(x.size)} positions into {describe_size(target)} unequal blocks",
                f"use an output size that divides {describe_size(x.size)}",
            )
        blocks = tuple(n // t for n, t in zip(x.size, target, strict=True))
        x = fragmented(x, blocks, site)
        return replace(_pooled(x, kind, blocks, blocks, site), shape=site.shape, size=target)

    return rule


def reduction(kind: str) -> Any:
    """The rule of an operation that reduces by `"Average"` or `"Max"`."""

    def rule(op: Any, x: Map, *_: Any, site: Site, **__: Any) -> Map:
        """A reduction over all positions is a global pooling; one over the channels of a map stays."""
        x = laid_out(x, site)
        axes = reduced_axes(x, op.axis)
        if x.is_map and axes == x.spatial:
            return global_pooling(x, kind, site)
        if op.keepdims and len(axes) == 1 and x.over_channels(axes[0]):
            config = {**_keras.parameters(op), "axis": x.channel_axis}
            index = None if x.is_map else np.zeros(site.shape, int)
            recipe = site.operation(type(op), config, x)
            return x.then(recipe, shape=site.shape, channels=1, dtype=site.dtype, index=index)
        raise Decline(
            f"reduces {describe_axes(axes)} of a tensor of shape {x.shape}",
            "reduce over all spatial axes, or over the channels with keepdims=True",
        )

    return rule
