"""Some of the channels, in any order: what `preprocess_input` does to make BGR of RGB, and slices of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.rules import places
from fullyconv.rules.merge import concatenate_operation
from fullyconv.rules.rule import Decline, Map, Places, Site

_ops = _keras.numpy_operations


def picked(x: Map, numbers: Sequence[int], site: Site) -> Map:
    """Some of the channels of a map or vector, by their numbers.

    given     x[..., ::-1]      of (N, h, w, c), or take(x, numbers, axis=-1)
    result    the same channels of (N, H, W, c)
    """
    low, count = numbers[0], len(numbers)
    if list(numbers) == list(range(low, low + count)):
        key: list[Any] = [slice(None)] * (x.rank + 2)
        key[x.channel_axis] = slice(low, low + count)
        recipe = site.operation(_ops.GetItem, {}, x, tuple(key), suffix="channels")
    else:
        recipe = site.operation(_ops.Take, {"axis": x.channel_axis}, x, list(numbers), suffix="channels")
    index = None if x.is_map else np.arange(count)
    out = x.then(recipe, channels=count, index=index)
    return replace(out, shape=out.layout if x.is_map else (count,))


def single(x: Map, number: int, site: Site) -> Map:
    """One channel of a map, whose axis goes: its values are still positions of the map."""
    one = picked(x, [number], site)
    return one.with_positions(one.positions.reshape(x.size))


def get_item(op: Any, x: Map, key: Any, *rest: Any, site: Site, **kwargs: Any) -> Map | Places:
    """Some of the channels; or what `places` makes of a line of a map, or a crop."""
    listed = list(key) if isinstance(key, (tuple, list)) else [key]  # a file holds lists
    place = next((i for i, k in enumerate(listed) if k is Ellipsis), len(listed))
    named = [k for k in listed if k is not Ellipsis]
    missing = [slice(None)] * (len(x.shape) + 1 - len(named))
    found = _by_key(x, [*named[:place], *missing, *named[place:]], site)
    return places.get_item(op, x, key, *rest, site=site, **kwargs) if found is None else found


def take(op: Any, x: Map, numbers: Any, *rest: Any, site: Site, **kwargs: Any) -> Map:
    """Some of the channels; or what `places` makes of cells taken by their places."""
    found = None if isinstance(numbers, Places) else _by_numbers(x, numbers, op.axis, site)
    return places.take(op, x, numbers, *rest, site=site, **kwargs) if found is None else found


def _by_key(x: Map, key: Sequence[Any], site: Site) -> Map | None:
    """What a key that names every axis takes, where that is channels alone; else None."""
    if len(key) != len(x.shape) + 1 or not (x.is_map or x.is_vector):
        return None
    over = [axis for axis in range(len(key)) if x.over_channels(axis)]
    if len(over) != 1 or any(k != slice(None) for axis, k in enumerate(key) if axis != over[0]):
        return None
    chosen = key[over[0]]
    if isinstance(chosen, slice):
        numbers = list(range(x.channels))[chosen]
        return picked(x, numbers, site) if numbers else None
    return single(x, chosen % x.channels, site) if isinstance(chosen, int) and x.is_map else None


def _by_numbers(x: Map, numbers: Any, axis: int | None, site: Site) -> Map | None:
    """What `take` with numbers that are known takes, where that is channels alone; else None."""
    chosen = np.asarray(numbers) if not isinstance(numbers, keras.KerasTensor) else np.empty(0)
    whole = chosen.size and np.issubdtype(chosen.dtype, np.integer) and axis is not None and x.over_channels(axis)
    if not whole or chosen.ndim > 1 or not (x.is_map or x.is_vector):
        return None
    if chosen.ndim == 0:
        return single(x, int(chosen) % x.channels, site) if x.is_map else None
    return picked(x, [int(n) % x.channels for n in chosen], site)


def flip(op: Any, x: Map, *_: Any, site: Site, **__: Any) -> Map:
    """The channels in reverse order."""
    axis = op.axis[0] if isinstance(op.axis, (tuple, list)) and len(op.axis) == 1 else op.axis
    if not isinstance(axis, int) or not x.over_channels(axis):
        raise Decline("turns the image round", "leave it out, and turn the images before they enter")
    return picked(x, range(x.channels)[::-1], site)


def stack(op: Any, inputs: Sequence[Map], *, site: Site, **_: Any) -> Map:
    """A concatenation of maps of one channel, along the axis that is new.

    given     stack([x[..., 2], x[..., 1], x[..., 0]], axis=-1)     of (N, h, w, 3)
    result    Concatenate of the same channels of (N, H, W, 3)
    """
    axis = op.axis % (len(inputs[0].shape) + 2)
    if axis == 0:
        raise Decline("stacks along the batch", "stack channels")
    lifted = [x.with_positions(np.expand_dims(x.positions, axis - 1)) for x in inputs]
    if any(not x.is_map or x.channels != 1 for x in lifted):
        raise Decline(f"stacks tensors of shape {inputs[0].shape}", "concatenate the channels of maps")
    return concatenate_operation(_ops.Concatenate(axis=axis), lifted, site=site)
