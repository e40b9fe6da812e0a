"""Denser maps, exactly: strides are removed by applying a layer to shifted copies of its input.

A layer whose stride is to be divided by f is applied to f copies of its input, each shifted by a little more, stacked
in the batch (`fragmented`). Every later layer runs on the fragments as it is, and the output
interleaves them (`interleaved`). Weights are untouched, and the work is that of the dilated form, without its limits:
poolings have no dilation. After Masci, Giusti, Ciresan, Fricout and Schmidhuber, "A Fast Learning Algorithm for Image
Segmentation with Max-Pooling Convolutional Networks", ICIP 2013.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

from fullyconv import _keras
from fullyconv.geometry import Axis, Length
from fullyconv.rules.places import numbered
from fullyconv.rules.rule import Decline, Map, Recipe, Site

_ops = _keras.numpy_operations


def fragmented(x: Map, strides: Sequence[int], site: Site) -> Map:
    """The map as its shifted copies in the batch, as many as keep the cells of a layer of these strides dense.

    Behind a layer whose output would be `a` pixels apart, cells are gcd(a, k) apart for a wanted stride of k: so
    strides are removed from the last backwards, and maps of one stride are fragmented alike.
    """
    if site.dense is None or not x.axes:
        return x
    for i, (stride, wanted) in enumerate(zip(strides, site.dense, strict=True)):
        apart = Fraction(x.axes[i].stride)
        factor = int(stride * _common(apart, wanted) / _common(apart * stride, wanted))
        if factor > 1 and (apart * stride % 1 or any(wanted % repeated for _, repeated in x.axes[i].upsampled)):
            raise Decline("strides over cells that an upsampling made, and has no denser ones", "leave stride out")
        if factor > 1:
            site.note(f"{site.name}: applied to {factor} shifted copies along axis {i}, in place of a stride.")
            x = _copies(x, i, factor, int(wanted / _common(apart, wanted)), site)
    return x


def _common(apart: Fraction, wanted: int) -> Fraction:
    """The largest number of pixels that both are whole multiples of."""
    return Fraction(math.gcd(apart.numerator, wanted * apart.denominator), apart.denominator)


def _copies(x: Map, i: int, factor: int, shift: int, site: Site) -> Map:
    copies = [x.recipe, *(_shifted(x, i, j * shift, site) for j in range(1, factor))]
    recipe = site.operation(_ops.Concatenate, {"axis": 0}, copies, suffix=f"fragments{i}")
    return x.then(recipe, fragments=(*x.fragments, (i, factor)))


def _shifted(x: Map, i: int, shift: int, site: Site) -> Recipe:
    """The map without its first positions, and as many zeros at its end: those cells are cut from the output.

    The zeros come first: a map may have fewer positions than the shift.
    """
    widths = tuple((0, shift) if axis == x.spatial[i] else (0, 0) for axis in range(x.rank + 2))
    filled = site.operation(_ops.Pad, {"pad_width": widths, "mode": "constant"}, x, suffix=f"filled{i}")
    key: list[Any] = [slice(None)] * (x.rank + 2)
    key[x.spatial[i]] = slice(shift, None)
    return site.operation(_ops.GetItem, {}, filled, tuple(key), suffix=f"shifted{i}")


def alike(x: Map, fragments: tuple[tuple[int, int], ...], site: Site) -> Map:
    """The map with the same fragments in the batch as another: repeated, or put in its order.

    Raises:
        Decline: they are not the same fragments.
    """
    if x.fragments == fragments:
        return x
    count = math.prod(factor for _, factor in fragments)
    if not x.fragments and not x.axes:
        recipe = site.operation(_ops.Concatenate, {"axis": 0}, [x] * count, suffix="repeated")
        return x.then(recipe, fragments=fragments)
    mine, theirs = _phases(x.fragments), _phases(fragments)
    if sorted(mine) != sorted(theirs):
        reason = "merges maps of which one was made denser than the other"
        raise Decline(reason, "choose another stride, or leave it out")
    parts = site.operation(_ops.Split, {"indices_or_sections": count, "axis": 0}, x, suffix="fragments_apart")
    ordered = [parts.part(mine.index(phase)) for phase in theirs]
    recipe = site.operation(_ops.Concatenate, {"axis": 0}, ordered, suffix="fragments_ordered")
    return x.then(recipe, fragments=fragments)


def _phases(fragments: tuple[tuple[int, int], ...]) -> list[tuple[int, ...]]:
    """For each fragment in the batch's order, the shift along each axis that it stands for."""
    axes = sorted({i for i, _ in fragments})
    phases = []
    for numbers in product(*(range(factor) for _, factor in reversed(fragments))):
        shift, scale = dict.fromkeys(axes, 0), dict.fromkeys(axes, 1)
        for (i, factor), j in zip(fragments, reversed(numbers), strict=True):
            shift[i] += j * scale[i]
            scale[i] *= factor
        phases.append(tuple(shift[i] for i in axes))
    return phases


def interleaved(x: Map, image: Map, site: Site) -> Map:
    """The map whose cells are those of its fragments in turn, the last fragmentation first.

    A head's map is cut to the windows inside the image; a trunk's keeps the cells of all fragments.
    """
    stack = x.fragments
    heads = all(axis.native == 1 for axis in x.axes)
    while stack:
        i, factor = stack[-1]
        stack = stack[:-1]
        last = heads and all(axis != i for axis, _ in stack)
        x = replace(_joined(x, i, factor, image if last else None, site), fragments=stack)
    return x


def _joined(x: Map, i: int, factor: int, image: Map | None, site: Site) -> Map:
    parts = site.operation(_ops.Split, {"indices_or_sections": factor, "axis": 0}, x, suffix=f"apart{i}")
    pieces = [parts.part(j) for j in range(factor)]
    row = site.operation(_ops.Concatenate, {"axis": x.spatial[i]}, pieces, suffix=f"row{i}")
    cell = numbered(x.then(row), i, site) if image is None else _window_numbers(x, image, i, factor, site)
    last = site.operation(_ops.Amax, {"axis": 0}, numbered(x.then(pieces[0]), i, site), suffix=f"last{i}")
    count = site.operation(_ops.Add, {}, last, 1, suffix=f"cells{i}")
    within = site.operation(_ops.FloorDivide, {}, cell, factor, suffix=f"within{i}")
    which = site.operation(_ops.Mod, {}, cell, factor, suffix=f"which{i}")
    before = site.operation(_ops.Multiply, {}, which, count, suffix=f"before{i}")
    place = site.operation(_ops.Add, {}, before, within, suffix=f"place{i}")
    recipe = site.operation(_ops.Take, {"axis": x.spatial[i]}, row, place, suffix=f"interleaved{i}")
    axis = x.axes[i].joined(factor)
    if image is not None:
        axis = replace(axis, length=_windows(axis))
    return x.then(recipe, axes=tuple(axis if n == i else a for n, a in enumerate(x.axes)))


def _windows(axis: Axis) -> Length:
    return Length().then(1, int(axis.stride) - axis.window, int(axis.stride))


def _window_numbers(x: Map, image: Map, i: int, factor: int, site: Site) -> Recipe:
    """0, 1, 2 ... for the windows inside the image along an axis."""
    step = int(x.axes[i].stride) // factor
    return numbered(image, i, site, slice(x.axes[i].window - 1, None, step))
