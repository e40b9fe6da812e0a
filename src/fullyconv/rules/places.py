"""Numbers along an axis whose size is known only when the model runs, and taking cells by them.

A Functional model cannot read a runtime size, so crops and contexts are written as `take` by numbers that are counted
from a map. The first half of this file writes them; the second reads them again from a saved network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fullyconv import _keras
from fullyconv.rules.rule import Decline, Map, Places, Recipe, Rule, Site, slid


def numbered(x: Map, i: int, site: Site, cells: slice = slice(None)) -> Recipe:
    """0, 1, 2 ... along one spatial axis of a map, whose size is known only when the model runs."""
    key: list[Any] = [0] * (x.rank + 2)
    key[x.spatial[i]] = cells
    ops = _keras.numpy_operations
    line = site.operation(ops.GetItem, {}, x, tuple(key), suffix=f"line{i}")
    ones = site.operation(ops.OnesLike, {"dtype": "int32"}, line, suffix=f"ones{i}")
    sums = site.operation(ops.Cumsum, {"axis": 0}, ones, suffix=f"count{i}")
    return site.operation(ops.Subtract, {}, sums, 1, suffix=f"number{i}")


def cell_of_position(x: Map, target: Map, i: int, ratio: int, site: Site) -> Recipe:
    """For each position of the target the cell of x that it reads: clip((p - (n - ratio) // 2) // ratio)."""
    ops = _keras.numpy_operations
    before = (target.size[i] - ratio) // 2
    position = numbered(target, i, site)
    shifted = site.operation(ops.Subtract, {}, position, before, suffix=f"shift{i}")
    cell = site.operation(ops.FloorDivide, {}, shifted, ratio, suffix=f"cell{i}")
    last = site.operation(ops.Amax, {"axis": 0}, numbered(x, i, site), suffix=f"last{i}")
    low = site.operation(ops.Maximum, {}, cell, 0, suffix=f"low{i}")
    return site.operation(ops.Minimum, {}, low, last, suffix=f"clip{i}")


@dataclass(frozen=True)
class OfPlaces:
    """A rule that is also given places; every other rule is given maps only."""

    rule: Rule

    def __call__(self, op: Any, *args: Any, site: Site, **kwargs: Any) -> Any:
        """As the rule."""
        return self.rule(op, *args, site=site, **kwargs)


def places_or(rule: Rule) -> Rule:
    """The rule of an operation that also counts places: they stay places."""

    def either(op: Any, x: Any, *args: Any, site: Site, **kwargs: Any) -> Any:
        """As the rule, or the same places further on."""
        if not isinstance(x, Places):
            return rule(op, x, *args, site=site, **kwargs)
        recipe = site.operation(type(op), _keras.parameters(op), x, *args, **kwargs)
        counted = _COUNTED.get(type(op))
        return replace(x, recipe=recipe, **(counted(x, *args) if counted else {}))

    return OfPlaces(either)


def no_places(op: Any, x: Any, *_: Any, site: Site, **__: Any) -> Map:
    """Decline anything that is not a place."""
    raise Decline(
        "is an operation that has no rule for maps", f"say what it becomes: rules={{{type(op).__name__}: rule}}"
    )


def _subtracted(x: Places, amount: int) -> dict[str, Any]:
    return {"before": x.before + amount}


def _interleaving(x: Places, amount: Any) -> dict[str, Any]:
    return {"interleaves": isinstance(amount, Places)}


def _divided(x: Places, amount: int) -> dict[str, Any]:
    return {"ratio": amount}


_COUNTED: dict[type, Callable[..., dict[str, Any]]] = {
    _keras.numpy_operations.Add: _interleaving,
    _keras.numpy_operations.Subtract: _subtracted,
    _keras.numpy_operations.FloorDivide: _divided,
}


def get_item(op: Any, x: Map, key: Any, *, site: Site, **_: Any) -> Map | Places:
    """One line of a map, whose places are counted; or some of its channels; or a crop at its ends."""
    key = tuple(key) if isinstance(key, (tuple, list)) else (key,)  # a file holds lists
    lines = [i for i, axis in enumerate(x.spatial) if x.is_map and isinstance(key[min(axis, len(key) - 1)], slice)]
    if len(lines) == 1 and len(key) == x.rank + 2 and sum(isinstance(k, int) for k in key) == x.rank + 1:
        cells = key[x.spatial[lines[0]]]
        start, step = cells.start or 0, cells.step or 1
        recipe = site.operation(type(op), {}, x, key)
        return Places(recipe, x, lines[0], length=x.axes[lines[0]].length.then(1, step - 1 - start, step))
    whole = _whole_key(x, key)
    if whole is not None:
        return _cropped(x, site.operation(type(op), {}, x, whole), whole, site)
    raise Decline(f"takes a part of a tensor of shape {x.shape}", "slice channels, or positions at the ends")


def _whole_key(x: Map, key: tuple[Any, ...]) -> tuple[slice, ...] | None:
    """A key of slices, one an axis, that crops the map at its ends: or None where it does something else."""
    if not x.is_map or any(not isinstance(k, slice) and k is not Ellipsis for k in key):
        return None
    place = key.index(Ellipsis) if Ellipsis in key else len(key)
    missing = (slice(None),) * (x.rank + 2 - sum(isinstance(k, slice) for k in key))
    whole = [*key[:place], *missing, *key[place + 1 :]]
    if whole[0] != slice(None) or any(k.step not in (None, 1) for k in whole):
        return None
    for axis, n in zip(x.spatial, x.size, strict=True):
        start, stop, _ = whole[axis].indices(n)
        whole[axis] = slice(start or None, stop - n or None)
    return tuple(whole)


def _cropped(x: Map, recipe: Recipe, key: tuple[slice, ...], site: Site) -> Map:
    channel = x.channel_axis % (x.rank + 2) - 1
    pads = tuple((-(key[a].start or 0), key[a].stop or 0) for a in x.spatial)
    size = tuple(n for i, n in enumerate(site.shape) if i != channel)
    ones = (1,) * x.rank
    return x.then(recipe, channels=site.shape[channel], shape=site.shape, size=size, axes=slid(x, ones, ones, pads))


def take(op: Any, x: Map, places: Any, *, site: Site, **_: Any) -> Map:
    """Cells taken by their places: a crop to the size of another map, or a context spread over one."""
    if not isinstance(places, Places) or not x.is_map or op.axis != x.spatial[places.axis]:
        raise Decline("takes entries of a tensor", "slice channels, or crop with a Cropping layer")
    recipe = site.operation(type(op), _keras.parameters(op), x, places)
    if places.interleaves and places.length is not None:
        cut = [replace(a, length=places.length) if j == places.axis else a for j, a in enumerate(x.axes)]
        return x.then(recipe, axes=tuple(cut))
    old, new, i = x.axes[places.axis], places.of.axes[places.axis], places.axis
    if places.ratio is None:
        axis, size, changes = replace(old, length=new.length), x.size[i], {}
    else:
        size = places.of.size[i]
        axis = new.spread(old, size)
        changes = {"approximate": True, "reasons": (*x.reasons, f"{site.name} is a context")}
    axes = tuple(axis if j == i else a for j, a in enumerate(x.axes))
    sizes = tuple(size if j == i else n for j, n in enumerate(x.size))
    return x.then(recipe, axes=axes, size=sizes, shape=replace(x, size=sizes).layout, **changes)


def split(op: Any, x: Map, *, site: Site, **_: Any) -> list[Map]:
    """The same split: of the channels into equal parts, or of the batch into fragments."""
    parts = op.indices_or_sections
    if isinstance(parts, int) and op.axis == 0 and x.fragments:
        recipe = site.operation(type(op), _keras.parameters(op), x)
        return [x.then(recipe.part(i), apart=True) for i in range(parts)]
    if not isinstance(parts, int) or not x.over_channels(op.axis) or not x.is_map:
        raise Decline(f"splits a tensor of shape {x.shape} along axis {op.axis}", "split channels into equal parts")
    recipe = site.operation(type(op), {**_keras.parameters(op), "axis": x.channel_axis}, x)
    part = replace(x, channels=x.channels // parts, index=None)
    return [replace(part, recipe=recipe.part(i), shape=part.layout) for i in range(parts)]
