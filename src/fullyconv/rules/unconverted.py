"""Where cells lie behind layers that are not converted: for `geometry` alone, which builds nothing."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from keras import layers

from fullyconv.geometry import Axis
from fullyconv.rules.conv import each, sizes_after
from fullyconv.rules.flatten import rearranged
from fullyconv.rules.order import need_format
from fullyconv.rules.rule import Decline, Map, Recipe, Rule, Site

# How many neighbours on each side an interpolation reads at most.
_REACH = {"nearest": 1, "bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}


def transposed(layer: Any, x: Map, *, site: Site, **_: Any) -> Map:
    """A transposed convolution: zeros put between the cells, and a kernel that slides over them (Dumoulin, Visin 2016).

    A cell sees at most the field: of a kernel as large as the stride, a single cell of the map before.
    """
    x = need_format(layer, x, site)
    kernels = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, each(layer.dilation_rate, x.rank), strict=True)]
    strides, same = each(layer.strides, x.rank), layer.padding == "same"
    size = sizes_after(x, site, x.channels_first)[0]
    axes = []
    for axis, kernel, stride, old, new in zip(x.axes, kernels, strides, x.size, size, strict=True):
        left = max(kernel - stride, 0) // 2 if same else 0
        axes.append(axis.transpose(kernel, stride, left, new - old * stride))
    return _moved(x, site, tuple(axes))


def resizing(layer: Any, x: Map, *, site: Site, **_: Any) -> Map:
    """A resizing to a size of its own: the stride of its cells depends on the image, and is that at the window."""
    if layer.interpolation not in _REACH:
        raise Decline(f"interpolates by {layer.interpolation}", 'use interpolation="nearest" or "bilinear"')
    if any(getattr(layer, name, False) for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias")):
        raise Decline("crops, pads or blurs what it resizes", "resize the image before it enters")
    size = sizes_after(x, site, x.channels_first)[0]
    steps = [Fraction(old, new) for old, new in zip(x.size, size, strict=True)]
    reach = _REACH[layer.interpolation]
    axes = [a.resized(step, reach, n) for a, step, n in zip(x.axes, steps, size, strict=True)]
    return _moved(x, site, tuple(axes))


def center_crop(layer: Any, x: Map, *, site: Site, **_: Any) -> Map:
    """A crop from the middle to a size of its own: where it lies depends on the image, and is that at the window."""
    size = sizes_after(x, site, x.channels_first)[0]
    if any(new > old for old, new in zip(x.size, size, strict=True)):
        raise Decline("enlarges the image", "resize the image before it enters")
    pads = [(-((old - new) // 2), -(old - new - (old - new) // 2)) for old, new in zip(x.size, size, strict=True)]
    axes = [a.slide(1, 1, *pad) for a, pad in zip(x.axes, pads, strict=True)]
    return _moved(x, site, tuple(a.pinned(n) for a, n in zip(axes, size, strict=True)))


def turned(layer: Any, x: Map, *, site: Site, **_: Any) -> Map:
    """Rows and columns that change places, the channels staying; any other order is that of the values alone."""
    channel = x.channel_axis % (x.rank + 2)
    if not x.is_map or layer.dims[channel - 1] != channel:
        return rearranged(layer, x, site=site)
    order = [x.spatial.index(axis) for axis in layer.dims if axis != channel]
    size, axes = (tuple(values[i] for i in order) for values in (x.size, x.axes))
    return x.then(Recipe(None), shape=site.shape, size=size, axes=axes)


def _moved(x: Map, site: Site, axes: tuple[Axis, ...]) -> Map:
    size, channels = sizes_after(x, site, x.channels_first)
    return x.then(Recipe(None), shape=site.shape, size=size, channels=channels, axes=axes, dtype=site.dtype)


UNCONVERTED: dict[type, Rule] = {
    layers.CenterCrop: center_crop,
    layers.Conv1DTranspose: transposed,
    layers.Conv2DTranspose: transposed,
    layers.Conv3DTranspose: transposed,
    layers.Permute: turned,
    layers.Resizing: resizing,
}

_IN_TURN = "enlarges: cells see this much at most, in turn"
REMARKS: dict[type, str] = {
    layers.CenterCrop: "crops to a size of its own: the numbers are those at the window",
    layers.Conv1DTranspose: _IN_TURN,
    layers.Conv2DTranspose: _IN_TURN,
    layers.Conv3DTranspose: _IN_TURN,
    layers.Resizing: "resizes to a size of its own: the numbers are those at the window",
    layers.UpSampling1D: _IN_TURN,
    layers.UpSampling2D: _IN_TURN,
    layers.UpSampling3D: _IN_TURN,
}
