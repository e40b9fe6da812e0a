"""Where the cells of a map lie in the input: pure numbers, no Keras.

An `Axis` describes one spatial axis of one tensor of a network, relative to the input. It is composed layer by layer
(`slide`, `upsample`, `meet`) while a plan walks the network, so the geometry that is reported and the network that is
built cannot disagree. A `Grid` is the axes of one output, with what they mean.

Intervals are half-open everywhere. Positions are integers, or fractions behind an upsampling; a field without an end
(a pooling over the whole image) has infinite bounds.

The receptive-field arithmetic is that of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019, with the interval kept in place of a size, since frozen padding makes it asymmetric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from fullyconv.errors import GeometryError

Number = int | Fraction | float
Interval = tuple[Number, Number]
Value = TypeVar("Value")


def plain(number: Number) -> Number:
    """The same number as an int where it is one."""
    return int(number) if not math.isinf(number) and number == int(number) else number


def _widened(interval: Interval, before: Number, after: Number) -> Interval:
    """The interval with so many pixels more before it and after it."""
    return (plain(interval[0] - before), plain(interval[1] + after))


def _union(a: Interval, b: Interval) -> Interval:
    """The interval that spans both."""
    return (plain(min(a[0], b[0])), plain(max(a[1], b[1])))


@dataclass(frozen=True)
class Length:
    """How many cells there are for an input of `n` pixels: a chain of `n -> (n * times + plus) // over`.

    Nested floor divisions collapse, so that every network without upsampling is one link: two branches can be compared
    by comparing two integers.
    """

    links: tuple[tuple[int, int, int], ...] = ((1, 0, 1),)

    def __call__(self, n: int) -> int:
        """The number of cells for `n` pixels."""
        for times, plus, over in self.links:
            n = max(0, (n * times + plus) // over)
        return n

    def then(self, times: int, plus: int, over: int) -> Length:
        """The length after one more layer."""
        head, (t, p, o) = self.links[:-1], self.links[-1]
        if times == 1:
            return Length((*head, (t, p + plus * o, o * over)))
        return Length((*self.links, (times, plus, over)))

    def excess(self, other: Length, sizes: range) -> int:
        """Above zero if this is the longer for some of the sizes, below if the other is, zero if they never differ.

        Raises:
            GeometryError: each is the longer for some size.
        """
        if self == other:
            return 0
        differences = [self(n) - other(n) for n in sizes]
        low, high = min(differences), max(differences)
        if low < 0 < high:
            raise GeometryError("each of the merged branches is the longer one for some image sizes")
        return high if high > 0 else low


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a map.

    Args:
        window: Size in pixels of the input the classifier was built for.
        stride: Pixels from one cell to the next.
        field: Half-open interval of the pixels that can influence cell 0. Negative positions are padding. Where padding
            stands in the place of cropped cells, it is widened by them.
        length: Number of cells as a function of the input's size.
        whole: Whether the axis has one cell that stands for the whole image.
        slides: Whether cells near the start see as far as those further in (a context clamps its position there).
        reach: The field, never widened: what a cell sees that is far from the borders.
        upsampled: The layers that repeated cells on the way, each with the stride of the cells that it repeated.
        pads: Whether a layer on the way reads padding at the window.
    """

    window: int
    stride: Number = 1
    field: Interval = (0, 1)
    length: Length = Length()
    whole: bool = False
    slides: bool = False
    reach: Interval = (0, 1)
    upsampled: tuple[tuple[str, Number], ...] = ()
    pads: bool = False

    def cells(self, size: int) -> int:
        """Number of cells the model returns for an input of `size` pixels."""
        return 1 if self.whole else self.length(size)

    @property
    def native(self) -> int:
        """Number of cells at the window."""
        return self.cells(self.window)

    @property
    def extent(self) -> Number:
        """Pixels that a cell stands for: the window of a head's cell, the stride of a trunk's."""
        return self.window if self.native == 1 or math.isinf(self.field[0]) else self.stride

    @property
    def offset(self) -> Number:
        """Where the box of cell 0 starts, in pixels."""
        if self.extent == self.window and self.native == 1:
            return 0
        if math.isinf(self.field[0]):
            return plain(Fraction(self.window - self.native * Fraction(self.stride), 2))
        return plain(Fraction(self.reach[0] + self.reach[1] - self.stride) / 2)

    @property
    def inside(self) -> bool:
        """Whether nothing outside the window influences any of its cells."""
        low, high = self.field
        if self.upsampled:  # whose field is wider than what each cell sees
            return not self.pads and not math.isinf(low)
        return low >= 0 and high + (self.native - 1) * self.stride <= self.window

    @property
    def between(self) -> tuple[str, ...]:
        """The layers for which some cells lie between windows: no window has a cell there.

        Repeating cells commutes with moving the image by whole cells of the map that is repeated, as all that slides
        does with moving it by whole strides of its own. If the cells of this axis are whole numbers of all of these
        apart, every layer sees the image from one of its windows to the next as moved by whole cells. Without padding,
        a cell then has the values that the classifier has on its window, which is cut out of the image.
        """
        return tuple(name for name, stride in self.upsampled if self.stride % stride)

    def slide(self, kernel: int, stride: int = 1, left: int = 0, right: int = 0) -> Axis:
        """The axis after something of this kernel and stride slides over it, padded as told.

        Padding counts as lying outside the image. Where the map was cropped it stands inside, so that the field is
        widened by the pixels that were lost: a cell that reads padding is never called one that does not.
        """
        before, after = self._lost()
        count = self.length(self.window)
        end = (count + left + right - kernel) // stride * stride + kernel - left
        low = self.field[0] - (before if left > 0 else 0)
        high = self.field[1] + (after if right > 0 else 0)
        return replace(
            self,
            stride=plain(self.stride * stride),
            field=_widened((low, high), left * self.stride, (kernel - 1 - left) * self.stride),
            reach=_widened(self.reach, left * self.stride, (kernel - 1 - left) * self.stride),
            length=self.length.then(1, left + right - kernel + stride, stride),
            pads=self.pads or left > 0 or end > count,
        )

    def _lost(self) -> tuple[Number, Number]:
        """Pixels before the first cell and behind the last that were cells once, and were cropped."""
        low, high = self.field
        if math.isinf(low):
            return (0, 0)
        period = math.prod(over for _, _, over in self.length.links)
        sizes = range(self.window, self.window + period)
        rest = max(n - high - (self.length(n) - 1) * self.stride for n in sizes)
        return (max(0, low // self.stride * self.stride), max(0, rest // self.stride * self.stride))

    def repeat(self, factor: int, name: str) -> Axis:
        """The axis after the layer of this name has repeated each cell `factor` times."""
        made = self.upsample(factor)
        return made if factor == 1 else replace(made, upsampled=(*self.upsampled, (name, self.stride)))

    def upsample(self, factor: int, reach: int = 0) -> Axis:
        """The axis after each cell became `factor` cells, interpolated from `reach` neighbours."""
        back = 0 if factor == 1 else self.stride - Fraction(self.stride) / factor
        return replace(
            self,
            stride=plain(Fraction(self.stride) / factor),
            field=_widened(self.field, back + reach * self.stride, reach * self.stride),
            reach=_widened(self.reach, back + reach * self.stride, reach * self.stride),
            length=self.length.then(factor, 0, 1),
        )

    def transpose(self, kernel: int, factor: int, left: int, more: int) -> Axis:
        """The axis after a transposed convolution.

        Args:
            kernel: Its kernel, dilation counted.
            factor: Its stride: how many cells stand for one.
            left: Cells that it crops at the start.
            more: Cells that there are beyond `factor` for each.
        """
        step = Fraction(self.stride) / factor
        before, after = (kernel - 1 - left) * step, left * step
        return replace(
            self,
            stride=plain(step),
            field=_widened(self.field, before, after),
            reach=_widened(self.reach, before, after),
            length=self.length.then(factor, more, 1),
        )

    def resized(self, step: Fraction, reach: int, count: int) -> Axis:
        """The axis after a resizing to `count` cells, `step` of the old ones apart, each read from `reach` neighbours.

        Output cell i lies at (i + 1/2) step - 1/2 of the old cells.
        """
        before, after = ((reach + Fraction(1, 2) * sign - sign * step / 2) * self.stride for sign in (1, -1))
        made = replace(
            self,
            stride=plain(self.stride * step),
            field=_widened(self.field, before, after),
            reach=_widened(self.reach, before, after),
        )
        return made.pinned(count)

    def pinned(self, count: int) -> Axis:
        """The axis with so many cells whatever the image."""
        return replace(self, length=self.length.then(0, count, 1))

    def spread(self, context: Axis, size: int) -> Axis:
        """This map's axis after a context (one cell a window, every q-th position) was merged back onto it.

        Args:
            context: Axis of the pooled cells.
            size: This map's number of cells at the window.
        """
        ratio = int(context.stride / self.stride)
        before = (size - ratio) // 2
        first, last = (before + ratio - 1) * self.stride, -before * self.stride
        field = _union(self.field, _widened(context.field, first, last))
        return replace(self, field=field, reach=_union(self.reach, _widened(context.reach, first, last)), slides=True)

    def joined(self, factor: int) -> Axis:
        """The axis of the cells of `factor` fragments in turn."""
        return replace(self, stride=plain(Fraction(self.stride) / factor), length=self.length.then(factor, 0, 1))

    def unbounded(self) -> Axis:
        """The same cells, each of which sees the whole image."""
        return replace(self, field=(-math.inf, math.inf), reach=(-math.inf, math.inf))

    def meet(self, other: Axis) -> Axis:
        """The axis of two merged maps, cropped to the shorter one."""
        return replace(
            self,
            field=_union(self.field, other.field),
            reach=_union(self.reach, other.reach),
            length=other.length if self.excess(other) > 0 else self.length,
            slides=self.slides or other.slides,
            upsampled=tuple(dict.fromkeys((*self.upsampled, *other.upsampled))),
            pads=self.pads or other.pads,
        )

    def excess(self, other: Axis) -> int:
        """Above zero where this axis is the longer one; see `Length.excess`."""
        period = math.ceil(max(self.stride, other.stride)) * 4
        return self.length.excess(other.length, range(self.window, self.window + period))

    def cell_to_box(self, index: int, field: bool = False) -> tuple[Number, Number]:
        """The pixels of a cell: its window, or with `field` everything that can influence it."""
        if not field:
            start = self.offset + index * self.stride
            return (plain(start), plain(start + self.extent))
        low, high = (plain(end + index * self.stride) for end in self.field)
        shift = -low if self.slides and low < 0 and not math.isinf(low) else 0
        return (plain(low + shift), plain(high + shift))

    def box_to_cells(self, box: tuple[Number, Number]) -> tuple[int, int]:
        """The cells whose own box lies inside the box of pixels, as a half-open range (never negative)."""
        first = max(0, math.ceil((box[0] - self.offset) / self.stride))
        last = math.floor((box[1] - self.offset - self.extent) / self.stride)
        return (first, max(first, last + 1))

    def windows_inside(self, size: int) -> int:
        """Number of cells whose window lies inside an input of `size` pixels."""
        if self.native != 1 or self.whole:
            return self.cells(size)
        return max(0, min(self.cells(size), math.floor((size - self.window) / self.stride) + 1))


@dataclass(frozen=True)
class Grid:
    """Where the cells of one output lie in the input, and what they are worth.

    Args:
        axes: One `Axis` per spatial axis, in the order of the input.
        reasons: Names of the layers for which the grid is not exact, each with its reason.
        approximate: Whether a layer mixes more than its window (a context, a spatial normalisation).
        channels_first: Whether the output has its channels before its cells: `(batch, channels, *cells)`. That is its
            own order: a network may read its images in the other.

    Example:
        >>> grid = Grid((Axis(window=6).slide(3).slide(4),))
        >>> grid.window, grid.stride, grid.receptive_field, grid.exactness
        ((6,), (1,), ((0, 6),), 'exact')
        >>> grid.cells((9,)), grid.cell_to_box((2,))
        ((4,), ((2, 8),))
    """

    axes: tuple[Axis, ...]
    reasons: tuple[str, ...] = ()
    approximate: bool = False
    channels_first: bool = False

    @property
    def channel_axis(self) -> int:
        """The output's channel axis, the batch counted: 1 or -1."""
        return 1 if self.channels_first else -1

    @property
    def window(self) -> tuple[int, ...]:
        """Size of the input the classifier was built for, in pixels."""
        return tuple(axis.window for axis in self.axes)

    @property
    def stride(self) -> tuple[Number, ...]:
        """Pixels from one cell to the next."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def offset(self) -> tuple[Number, ...]:
        """Where the box of cell 0 starts, in pixels."""
        return tuple(axis.offset for axis in self.axes)

    @property
    def receptive_field(self) -> tuple[tuple[Number, Number], ...]:
        """Half-open interval of the pixels that can influence cell 0; negative positions are padding."""
        return tuple(axis.field for axis in self.axes)

    @property
    def exactness(self) -> str:
        """`"exact"`, `"native"` or `"approximate"`: what a cell is worth beside the classifier on its window.

        - exact: every cell equals the classifier on its window.
        - native: equal at the window; elsewhere cells see real neighbours where the classifier saw padding.
        - approximate: as native, and a layer mixes more than the window, or cells lie between windows.
        """
        if self.approximate or any(axis.between for axis in self.axes):
            return "approximate"
        return "exact" if all(axis.inside for axis in self.axes) else "native"

    @property
    def smallest_input(self) -> tuple[int, ...]:
        """The smallest input, which is the window."""
        return self.window

    def cells(self, size: Sequence[int]) -> tuple[int, ...]:
        """Number of cells the model returns for an input of `size` pixels."""
        return tuple(axis.cells(n) for axis, n in self._each(size))

    def windows_inside(self, size: Sequence[int]) -> tuple[int, ...]:
        """Number of cells whose window lies inside an input of `size` pixels."""
        return tuple(axis.windows_inside(n) for axis, n in self._each(size))

    def cell_to_box(self, index: Sequence[int], field: bool = False) -> tuple[tuple[Number, Number], ...]:
        """Half-open pixel intervals of a cell, one per axis: its window, or with `field` its receptive field."""
        return tuple(axis.cell_to_box(i, field) for axis, i in self._each(index))

    def box_to_cells(self, box: Sequence[tuple[Number, Number]]) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of the cells whose windows lie inside the box of pixels."""
        return tuple(axis.box_to_cells(interval) for axis, interval in self._each(box))

    def _each(self, values: Sequence[Value]) -> Iterable[tuple[Axis, Value]]:
        if len(values) != len(self.axes):
            raise GeometryError(
                f"This grid has {len(self.axes)} spatial axes, but {len(values)} values were given: {tuple(values)}.\n"
                f"Give one value per spatial axis, without batch and channels."
            )
        return zip(self.axes, values, strict=True)
