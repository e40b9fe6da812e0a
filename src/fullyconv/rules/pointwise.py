"""Layers and operations that treat each value, or each vector of channels, alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.rules.flatten import unfolded
from fullyconv.rules.rule import Arrange, Decline, Map, Site, axes_of, config_of, describe_axes, describe_size, kept

# Activations that look along an axis, the last one: the channels in channels_last, the width in channels_first.
ALONG_AXIS = (
    keras.activations.softmax,
    keras.activations.log_softmax,
    keras.activations.sparsemax,
    keras.activations.glu,
)


def activated(x: Map, activation: Any, site: Site, suffix: str = "activation") -> Map:
    """The map after an activation along its channels."""
    if activation is None or activation is keras.activations.linear:
        return x
    if activation not in ALONG_AXIS or not x.channels_first:
        config = {"activation": keras.activations.serialize(activation), "dtype": x.dtype}
        return x.then(site.layer(keras.layers.Activation, config, x, suffix=suffix))
    if activation is keras.activations.softmax:
        return x.then(site.layer(keras.layers.Softmax, {"axis": 1, "dtype": x.dtype}, x, suffix=suffix))
    kinds = {
        keras.activations.log_softmax: _keras.nn_operations.LogSoftmax,
        keras.activations.sparsemax: _keras.nn_operations.Sparsemax,
        keras.activations.glu: _keras.nn_operations.Glu,
    }
    return x.then(site.operation(kinds[activation], {"axis": 1}, x, suffix=suffix))


def activation(layer: keras.layers.Activation, x: Map, *, site: Site, **_: Any) -> Map:
    """The same activation; one that has an axis, along the channels."""
    if layer.activation not in ALONG_AXIS:
        return kept(layer, x, site=site)
    need_channels(x, [-1])
    out = activated(x, layer.activation, site, suffix="") if x.channels_first else kept(layer, x, site=site)
    return _as_output(out, site)


def softmax(layer: keras.layers.Softmax, x: Map, *, site: Site, **_: Any) -> Map:
    """The same softmax, along the channels."""
    need_channels(x, axes_of(layer.axis))
    return x.then(site.layer(type(layer), {**config_of(layer), "axis": x.channel_axis}, x))


def prelu(layer: keras.layers.PReLU, x: Map, *, site: Site, **_: Any) -> Map:
    """The same PReLU, its slopes shared by all positions.

    Slopes for each position of a flattened map are kept on the unfolded map; on a map itself they cannot be.
    """
    x = unfolded(x, site)
    per_position = [n for axis, n in enumerate(layer.alpha.shape, 1) if n != 1 and not x.over_channels(axis)]
    if per_position:
        raise Decline(
            f"has slopes of its own for each of {describe_size(x.size)} positions",
            f"train it with shared_axes={list(x.spatial)}",
        )
    slopes = int(np.prod(layer.alpha.shape))
    shape, channel = [1] * (x.rank + 1), x.channel_axis % (x.rank + 2)
    shape[channel - 1] = slopes
    shared = [axis for axis in range(1, x.rank + 2) if axis != channel or slopes < x.channels]
    config = {**config_of(layer), "shared_axes": shared}
    arrange = {"alpha": Arrange(None, tuple(shape))}
    return x.then(site.layer(type(layer), config, x, source=layer, arrange=arrange))


def dropout(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same dropout, which acts in training only."""
    config = config_of(layer)
    if config.get("noise_shape") is not None:
        site.note(f"{site.name}: its noise_shape was written for one window, and was left out.")
        config["noise_shape"] = None
    return x.then(site.layer(type(layer), config, x))


def rescaling(layer: keras.layers.Rescaling, x: Map, *, site: Site, **_: Any) -> Map:
    """The same scale and offset, one for all values or one for each channel."""
    x = unfolded(x, site) if np.size(layer.scale) * np.size(layer.offset) > 1 else x
    config = config_of(layer)
    for name in ("scale", "offset"):
        config[name] = _listed(for_channels(x, getattr(layer, name)))
    return x.then(site.layer(type(layer), config, x), dtype=site.dtype)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def for_channels(x: Map, constant: Any) -> Any:
    """A constant that is combined with the tensor, in the shape that combines with the map."""
    if np.ndim(constant) == 0 or np.size(constant) == 1:
        return constant if np.ndim(constant) == 0 else np.reshape(constant, ())
    array = np.asarray(constant)
    shape = (1,) * (len(x.shape) + 1 - array.ndim) + array.shape
    wrong = [n for axis, n in enumerate(shape) if n != 1 and not (axis and x.over_channels(axis))]
    if wrong or len(shape) != len(x.shape) + 1:
        raise Decline(
            f"holds a constant of shape {array.shape} for a tensor of shape {x.shape}",
            "give it one value, or one a channel",
        )
    return array.reshape((-1,) + (1,) * x.rank) if x.channels_first else array.ravel()


def need_channels(x: Map, axes: Sequence[int]) -> None:
    """Decline unless the axes (the batch counted) are the channels."""
    if not (len(axes) == 1 and x.over_channels(axes[0])):
        raise Decline(
            f"works along {describe_axes(axes)} of a tensor of shape {x.shape}, not along its channels",
            "apply it to the channels of a map, or to a flattened tensor after a Dense",
        )


def elementwise(op: Any, x: Map, *args: Any, site: Site, **kwargs: Any) -> Map:
    """The same operation on each value."""
    return x.then(site.operation(type(op), _keras.parameters(op), x, *args, **kwargs), dtype=site.dtype)


def as_tensor(op: Any, x: Map, *args: Any, site: Site, **kwargs: Any) -> Map:
    """Nothing: what enters is a tensor; the same operation where it makes another type of it."""
    return x if op.dtype in (None, x.dtype) else elementwise(op, x, *args, site=site, **kwargs)


def along_channels(op: Any, x: Map, *args: Any, site: Site, **kwargs: Any) -> Map:
    """The same operation, along the channels."""
    need_channels(x, axes_of(op.axis))
    config = {**_keras.parameters(op), "axis": x.channel_axis}
    out = x.then(site.operation(type(op), config, x, *args, **kwargs), dtype=site.dtype)
    return _as_output(out, site)


def _as_output(x: Map, site: Site) -> Map:
    """The map with as many channels as the output has (a gated linear unit halves them)."""
    channels = site.shape[0] if x.channels_first and x.is_map else site.shape[-1]
    if channels == x.channels:
        return x
    index = None if x.is_map else np.arange(channels).reshape(site.shape)
    return x.then(x.recipe, channels=channels, shape=site.shape, index=index)
