"""Normalisations: over the channels of each cell they stay; over space they are approximate, or cannot be had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.rules.flatten import unfolded
from fullyconv.rules.order import transposed
from fullyconv.rules.pointwise import for_channels, need_channels
from fullyconv.rules.rule import Arrange, Decline, Map, Site, axes_of, config_of, kept


def batch_normalization(layer: keras.layers.BatchNormalization, x: Map, *, site: Site, **_: Any) -> Map:
    """The same normalisation over the map's channels; of a flattened map, over the unfolded one's."""
    x = unfolded(x, site, ordered=False)
    arrange = None
    if x.is_map or x.is_vector:
        need_channels(x, axes_of(layer.axis))
    else:
        arrange = {name: Arrange(np.argsort(x.positions)) for name in _keras.arrays(layer)}
    axis = x.channel_axis if not isinstance(layer.axis, (list, tuple)) else [x.channel_axis]
    config = {**config_of(layer), "axis": axis}
    return x.then(site.layer(type(layer), config, x, source=layer, arrange=arrange), dtype=site.dtype)


def layer_normalization(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same normalisation of each cell's channels; of a flattened map, of the unfolded one's."""
    x = unfolded(x, site)
    axes = tuple(a % (len(x.shape) + 1) for a in axes_of(layer.axis))
    if set(axes) & set(x.spatial) and x.is_map and not x.is_vector:
        return _over_space(layer, x, axes, site)
    need_channels(x, axes)
    last = channels_last(x, site)
    config = {**config_of(layer), "axis": -1}
    return channels_back(last.then(site.layer(type(layer), config, last, source=layer), dtype=site.dtype), x, site)


def channels_last(x: Map, site: Site) -> Map:
    """The map with its channels last, where torch's normalisation wants them."""
    return transposed(x, site, "to_last") if x.channels_first else x


def channels_back(x: Map, like: Map, site: Site) -> Map:
    """The map with its channels where they were."""
    out = transposed(x, site, "to_first") if like.channels_first else x
    return replace(out, shape=like.shape, index=like.index)


def _over_space(layer: keras.layers.Layer, x: Map, axes: tuple[int, ...], site: Site) -> Map:
    if layer.weights and any(axis in x.spatial for axis in axes):
        raise Decline(
            f"normalises over positions with a weight for each value of a map of shape {x.shape}",
            "normalise over the channels (axis=-1), or use GroupNormalization",
        )
    return whole_image(x.then(site.layer(type(layer), config_of(layer), x), dtype=site.dtype), site)


def whole_image(x: Map, site: Site) -> Map:
    """The map, each cell of which depends on the whole image."""
    if site.dense is not None:
        raise Decline("normalises over the whole image, so that its map cannot be made denser", "leave stride out")
    reasons = (*x.reasons, f"{site.name} normalises over the whole image")
    return x.then(x.recipe, axes=tuple(a.unbounded() for a in x.axes), reasons=reasons, approximate=True)


def unit_normalization(layer: keras.layers.UnitNormalization, x: Map, *, site: Site, **_: Any) -> Map:
    """The same normalisation of each cell's channels."""
    x = unfolded(x, site)
    need_channels(x, axes_of(layer.axis))
    return x.then(site.layer(type(layer), {**config_of(layer), "axis": x.channel_axis}, x))


def group_normalization(layer: keras.layers.GroupNormalization, x: Map, *, site: Site, **_: Any) -> Map:
    """On a vector: a LayerNormalization of each group, since GroupNormalization averages over space too.

    given     GroupNormalization(g) on (N, u)
    result    split into g, LayerNormalization of each, Concatenate
    """
    x = unfolded(x, site)
    need_channels(x, [layer.axis])
    if not x.is_vector:
        return whole_image(kept(layer, x, site=site), site)
    groups = x.channels if layer.groups == -1 else layer.groups
    last = channels_last(x, site)
    sections = {"indices_or_sections": groups, "axis": -1}
    split = site.operation(_keras.numpy_operations.Split, sections, last, suffix="split")
    parts = [_group(layer, last, split, i, groups, site) for i in range(groups)]
    recipe = parts[0]
    if groups > 1:
        recipe = site.layer(keras.layers.Concatenate, {"axis": -1, "dtype": x.dtype}, parts)
    return channels_back(last.then(recipe, dtype=site.dtype), x, site)


def _group(layer: keras.layers.GroupNormalization, x: Map, split: Any, i: int, groups: int, site: Site) -> Any:
    rows = np.arange(i * (x.channels // groups), (i + 1) * (x.channels // groups))
    arrange = {name: Arrange(rows) for name in _keras.arrays(layer)}
    source = config_of(layer)
    roles = [f"{w}_{role}" for w in ("beta", "gamma") for role in ("initializer", "regularizer", "constraint")]
    config = {name: source[name] for name in ("epsilon", "center", "scale", "dtype", "trainable", *roles)} | {
        "axis": -1
    }
    return site.layer(
        keras.layers.LayerNormalization, config, split.part(i), source=layer, arrange=arrange, suffix=f"group{i}"
    )


def normalization(layer: keras.layers.Normalization, x: Map, *, site: Site, **_: Any) -> Map:
    """The same mean and variance, one for all values or one for each channel, written into the layer's config."""
    x = unfolded(x, site)
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
    values = {name: np.ravel(for_channels(x, v)) for name, v in (("mean", mean), ("variance", variance))}
    single = values["mean"].size == 1
    config = {**config_of(layer), "axis": None if single else x.channel_axis}
    config |= {name: float(v[0]) if single else v.tolist() for name, v in values.items()}
    return x.then(site.layer(type(layer), config, x), dtype=site.dtype)


def spectral_normalization(layer: keras.layers.SpectralNormalization, x: Map, *, site: Site, **_: Any) -> Map:
    """The wrapped layer, whose kernel was normalised when training ended."""
    site.note(f"{site.name}: the kernel stays as training left it; SpectralNormalization acts only in training.")
    rule = _keras.rule_for(layer.layer, site.rules)
    if rule is None:
        kind = type(layer.layer).__name__
        raise Decline(f"wraps a layer that has no rule ({kind})", f"say what that becomes: rules={{{kind}: rule}}")
    return rule(layer.layer, x, site=site)
