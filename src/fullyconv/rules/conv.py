"""Layers that slide a kernel over a map: convolutions, paddings, croppings, upsampling.

Their padding is frozen as it is at the window. Keras pads a strided `same` layer by an amount that depends on the size
of the image, which would move the grid by a pixel from one size to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.rules.fragments import fragmented
from fullyconv.rules.order import need_format, need_map
from fullyconv.rules.rule import Decline, Map, Pads, Recipe, Site, axes_of, config_of, slid

Form = Callable[[Map, dict[str, Any], Pads], Recipe]
FROZEN = "frozen_pad"  # what a layer's own padding is called behind its name


def class_of_rank(name: str, rank: int) -> type:
    """A Keras layer class by its name without the rank, such as Conv and 2."""
    return getattr(keras.layers, f"{name}{rank}D")


def each(value: Any, rank: int) -> tuple[int, ...]:
    """One value per spatial axis."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank


def frozen_padding(x: Map, kernel: tuple[int, ...], strides: tuple[int, ...]) -> Pads:
    """The pads of a strided `same` layer: on the left as at the window, on the right enough for any size.

    With `kernel - 1 - left` on the right a map of n positions always gives ceil(n / stride) cells.
    """
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.size, kernel, strides, strict=True)]
    return tuple((total // 2, k - 1 - total // 2) for total, k in zip(totals, kernel, strict=True))


def zero_padded(x: Map, pads: Pads, site: Site) -> Recipe:
    """The map with zeros around it."""
    flat = pads[0] if x.rank == 1 else pads
    config = {"padding": flat, "data_format": x.data_format, "dtype": x.dtype}
    return site.layer(class_of_rank("ZeroPadding", x.rank), config, x, suffix=FROZEN)


def padding_reason(
    x: Map, kernel: tuple[int, ...], strides: tuple[int, ...], pads: Pads, site: Site
) -> tuple[str, ...]:
    """The layer's name if it reads padding at the window."""
    outs = [(n + sum(p) - k) // s + 1 for n, k, s, p in zip(x.size, kernel, strides, pads, strict=True)]
    reach = [(o - 1) * s + k - p[0] for o, k, s, p in zip(outs, kernel, strides, pads, strict=True)]
    reads = any(p[0] for p in pads) or any(r > n for r, n in zip(reach, x.size, strict=True))
    return (*x.reasons, f"{site.name} pads") if reads else x.reasons


def sizes_after(x: Map, site: Site, channels_first: bool) -> tuple[tuple[int, ...], int]:
    """Spatial size and channels of the site's output shape."""
    shape = site.shape
    return (shape[1:], shape[0]) if channels_first else (shape[:-1], shape[-1])


def slide(layer: keras.layers.Layer, x: Map, kernel: tuple[int, ...], site: Site, form: Form) -> Map:
    """What stands for a layer that slides over the map.

    Something that covers the whole map has one cell at the window, and slides on by 1: a stride of its own size, the
    default of poolings, would make the grid coarser than the trunk is.

    Args:
        layer: The layer.
        x: The map.
        kernel: Its size, dilation counted.
        site: Where it is.
        form: Returns the recipe for a config and the frozen pads, which are empty where the layer pads by itself.
    """
    x = need_format(layer, x, site)
    strides, padding = each(layer.strides, x.rank), getattr(layer, "padding", "valid")
    changed: dict[str, Any] = {}
    pads = _pads(padding, kernel)
    if padding == "same" and any(s > 1 for s in strides):
        pads, changed = frozen_padding(x, kernel, strides), {"padding": "valid"}
    elif site.pool == "window" and padding == "valid" and kernel == x.size and any(s > 1 for s in strides):
        strides, changed = (1,) * x.rank, {"strides": (1,) * x.rank}
    frozen = pads if "padding" in changed else ()
    x = fragmented(x, strides, site)
    recipe = form(x, {**config_of(layer), **changed}, frozen)
    size, channels = sizes_after(x, site, x.channels_first)
    reasons = padding_reason(x, kernel, strides, pads, site)
    axes = slid(x, kernel, strides, pads)
    return x.then(recipe, shape=site.shape, dtype=site.dtype, size=size, channels=channels, axes=axes, reasons=reasons)


def _pads(padding: str, kernel: tuple[int, ...]) -> Pads:
    if padding == "causal":
        return tuple((k - 1, 0) for k in kernel)
    if padding == "same":
        return tuple(((k - 1) // 2, k // 2) for k in kernel)
    return tuple((0, 0) for _ in kernel)


def convolution(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same convolution; a strided `same` one with its padding frozen.

    given     Conv(k, strides=2, padding="same") on n positions, padded by (left, right) at the window
    result    ZeroPadding(left, k-1-left), Conv(k, strides=2, padding="valid")
    """
    if _keras.is_quantized(layer):
        raise Decline("is quantized", "convert the float model, then quantize the result")
    dilation = each(layer.dilation_rate, x.rank)
    kernel = tuple((k - 1) * d + 1 for k, d in zip(each(layer.kernel_size, x.rank), dilation, strict=True))

    def form(x: Map, config: dict[str, Any], pads: Pads) -> Recipe:
        padded = zero_padded(x, pads, site) if any(map(any, pads)) else x
        return site.layer(type(layer), config, padded, source=layer)

    return slide(layer, x, kernel, site, form)


def padding(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same zeros, at any size."""
    x = need_format(layer, x, site)
    pads = layer.padding if isinstance(layer.padding[0], (list, tuple)) else (layer.padding,)
    return padded(x, tuple(map(tuple, pads)), site.layer(type(layer), config_of(layer), x), site)


def padded(x: Map, pads: Pads, recipe: Recipe, site: Site) -> Map:
    """What stands for a padding of the map, whose recipe is given."""
    ones = (1,) * x.rank
    size = sizes_after(x, site, x.channels_first)[0]
    name = site.name.removesuffix(f"_{FROZEN}")  # of a network that was converted and saved
    reasons = (*x.reasons, f"{name} pads") if any(map(any, pads)) else x.reasons
    return x.then(recipe, shape=site.shape, size=size, axes=slid(x, ones, ones, pads), reasons=reasons)


def cropping(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same crop, at any size."""
    x = need_format(layer, x, site)
    crops = layer.cropping if isinstance(layer.cropping[0], (list, tuple)) else (layer.cropping,)
    pads = tuple((-before, -after) for before, after in crops)
    size = sizes_after(x, site, x.channels_first)[0]
    ones = (1,) * x.rank
    recipe = site.layer(type(layer), config_of(layer), x)
    return x.then(recipe, shape=site.shape, size=size, axes=slid(x, ones, ones, pads))


def upsampling(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same upsampling, at any size. Where it repeats cells, `Axis.between` says what that is worth."""
    x = need_format(layer, x, site)
    repeats = getattr(layer, "interpolation", "nearest") == "nearest"
    if not repeats and layer.interpolation != "bilinear":
        raise Decline(f"interpolates by {layer.interpolation}", 'use interpolation="nearest" or "bilinear"')
    factors = each(layer.size, x.rank)
    if any(factors[i] > 1 for i, _ in x.fragments):
        raise Decline("enlarges a map that was made denser", "leave stride out")
    size = sizes_after(x, site, x.channels_first)[0]
    recipe, axes = site.layer(type(layer), config_of(layer), x), zip(x.axes, factors, strict=True)
    if repeats:
        return x.then(recipe, shape=site.shape, size=size, axes=tuple(a.repeat(f, site.name) for a, f in axes))
    return x.then(
        recipe,
        shape=site.shape,
        size=size,
        axes=tuple(a.upsample(f, 1) for a, f in axes),
        reasons=(*x.reasons, f"{site.name} interpolates across the edge of the window"),
        approximate=True,
    )


def pad_operation(op: Any, x: Map, *args: Any, site: Site, **kwargs: Any) -> Map:
    """The same constant pad, at any size."""
    x = need_map(x, site)
    if op.mode != "constant":
        raise Decline(
            f"pads by mode {op.mode!r}, which two backends cannot do on a map of unknown size", "pad with zeros"
        )
    widths = [tuple(pair) for pair in op.pad_width]
    if any(map(any, (w for axis, w in enumerate(widths) if axis not in x.spatial))):
        raise Decline("pads the batch or the channels", "pad positions only")
    pads = tuple(widths[axis] for axis in x.spatial)
    recipe = site.operation(type(op), _keras.parameters(op), x, **_pad_value(args, kwargs))
    return padded(x, pads, recipe, site)


def _pad_value(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    value = args[0] if args else kwargs.get("constant_values")
    return {} if value is None else {"constant_values": value}


def reduced_axes(x: Map, axis: Any) -> tuple[int, ...]:
    """Axes of the tensor, the batch counted, that a reduction covers."""
    every = tuple(range(1, len(x.shape) + 1))
    return every if axis is None else tuple(sorted(a % (len(x.shape) + 1) for a in axes_of(axis)))
