"""The geometry of every layer of a network: stride, offset, receptive field and effective padding.

It is read off the walk that plans a conversion, so that it cannot disagree with the grids of what is converted. Layers
that cannot be converted are named, and end what can be said about the layers behind them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import keras

from fullyconv.convert import FullyConv
from fullyconv.errors import GeometryError
from fullyconv.geometry import Axis, Interval, Number, plain
from fullyconv.plan import CONTEXTS, aligned, lattice
from fullyconv.rules.conv import each
from fullyconv.rules.rule import Map, describe_size
from fullyconv.walk import Refused, Walk

HEADING = ("layer", "class", "map", "stride", "offset", "field", "padding", "note")


@dataclass(frozen=True)
class Branch:
    """One of the maps that a layer merges.

    Args:
        name: Name of the layer it comes from.
        receptive_field: The half-open pixels that can influence its cell 0, per spatial axis.
    """

    name: str
    receptive_field: tuple[Interval, ...]


@dataclass(frozen=True)
class LayerGeometry:
    """Where the cells of one layer's output lie in the input, in pixels.

    Args:
        name: Name of the layer or operation.
        kind: Its class.
        size: Spatial size of its output at the window.
        axes: One `Axis` per spatial axis; empty where no position belongs to the output.
        branches: What it merges, where the receptive fields differ; its own is their union.
        remarks: What else there is to say, a phrase each.
        refused: Why nothing is known of its output, or nothing.
    """

    name: str
    kind: str
    size: tuple[int, ...] = ()
    axes: tuple[Axis, ...] = ()
    branches: tuple[Branch, ...] = ()
    remarks: tuple[str, ...] = ()
    refused: str = ""

    @property
    def stride(self) -> tuple[Number, ...]:
        """Pixels from one cell to the next."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def offset(self) -> tuple[Number, ...]:
        """Where the box of cell 0 starts: as large as the stride, in the middle of the field; a window's at 0."""
        return tuple(axis.offset for axis in self.axes)

    @property
    def receptive_field(self) -> tuple[Interval, ...]:
        """Half-open interval of the pixels that can influence cell 0; negative positions are padding."""
        return tuple(axis.reach for axis in self.axes)

    @property
    def field_size(self) -> tuple[Number, ...]:
        """Pixels of the receptive field; infinite where a cell sees the whole image."""
        return tuple(high - low for low, high in self.receptive_field)

    @property
    def padding(self) -> tuple[Number, ...]:
        """Effective padding: how far the receptive field of cell 0 reaches beyond the first pixel.

        Negative where the field begins inside the image, behind a crop.
        """
        return tuple(-low for low, _ in self.receptive_field)

    @property
    def note(self) -> str:
        """Whether its field is a union, what else there is to say, or why nothing is known."""
        union = [_union(self.branches)] if self.branches else []
        return "; ".join([self.refused] if self.refused else [*union, *self.remarks])

    @property
    def row(self) -> tuple[str, ...]:
        """The layer as a row of the table."""
        if not self.axes:
            return (self.name, self.kind, "", "", "", "", "", self.note)
        columns = (self.stride, self.offset, self.field_size, self.padding)
        return (self.name, self.kind, describe_size(self.size), *map(_shown, columns), self.note)


@dataclass(frozen=True)
class Geometry:
    """The geometry of every layer of a network. `str()` is a table; `geometry["conv1"]` is a layer.

    Args:
        name: Name of the network.
        window: Spatial size of the input it was built for, in pixels.
        layers: A `LayerGeometry` for each call of the graph, in order.
    """

    name: str
    window: tuple[int, ...]
    layers: tuple[LayerGeometry, ...]

    @property
    def refused(self) -> tuple[LayerGeometry, ...]:
        """The layers of whose output nothing is known."""
        return tuple(layer for layer in self.layers if layer.refused)

    @cached_property
    def last(self) -> LayerGeometry:
        """The last map of several cells, or else the last map."""
        maps = [layer for layer in self.layers if layer.axes]
        if not maps:
            raise GeometryError(f"{self.name!r} has no layer whose geometry is known.\nSee the reasons in its table.")
        return next((layer for layer in reversed(maps) if math.prod(layer.size) > 1), maps[-1])

    def __getitem__(self, name: str) -> LayerGeometry:
        """A layer by its name; of one that is called more than once, the last call."""
        found = [layer for layer in self.layers if layer.name == name]
        if not found:
            known = list(dict.fromkeys(layer.name for layer in self.layers))
            raise GeometryError(
                f"{self.name!r} has no layer named {name!r}.\n"
                f"Give one of: {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
            )
        return found[-1]

    def __str__(self) -> str:
        """The layers as a table."""
        return "\n".join(aligned([HEADING, *(layer.row for layer in self.layers)]))


class _Survey(Walk):
    """A walk that takes note of the geometry of each call."""

    def maps(self) -> list[Map | Refused]:
        """What stands for each output, or for one that could not be had."""
        self.layers: list[LayerGeometry] = []
        self.made: list[Map] = []
        self.origins: dict[int, str] = {}
        return super().maps()

    def visit(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """What stands for the outputs of one call."""
        out = super().visit(operation, *args, **kwargs)
        name, kind = self.names[id(operation)], type(operation).__name__
        made = keras.tree.flatten(out)[0]
        if isinstance(made, Refused):
            self.layers.append(LayerGeometry(name, kind, refused=_reason(made, name)))
        elif isinstance(made, Map):
            given = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Map) and x.axes]
            branches, remarks = self._branches(given), tuple(_remarks(operation, made, given))
            self.layers.append(LayerGeometry(name, kind, made.size, made.axes, branches, remarks))
            self.made += keras.tree.flatten(out)
            self.origins |= {id(x): name for x in keras.tree.flatten(out)}
        return out

    def _branches(self, given: Sequence[Map]) -> tuple[Branch, ...]:
        """What is merged, where the receptive fields differ."""
        found = [Branch(self.origins.get(id(x), "the input"), tuple(a.reach for a in x.axes)) for x in given]
        return tuple(found) if len({branch.receptive_field for branch in found}) > 1 else ()


def _reason(refused: Refused, name: str) -> str:
    """Why nothing is known of a call's output: its own refusal, or the layers before it."""
    own = [cause.reason for cause in refused.causes if cause.name == name]
    before = sorted(repr(cause.name) for cause in refused.causes if cause.name != name)
    return f"unknown: {own[0]}" if own else f"unknown, behind {' and '.join(before)}"


def _remarks(operation: Any, made: Map, given: Sequence[Map]) -> Iterator[str]:
    """What to know of a call besides its numbers."""
    before = given[0].axes if given else made.axes
    strides = each(getattr(operation, "strides", 1), made.rank)
    if any(s > 1 and a.stride == b.stride for s, a, b in zip(strides, made.axes, before, strict=True)):
        yield "covers the whole map, and slides by one cell"
    if any(a.slides for a in made.axes) and not any(a.slides for x in given for a in x.axes):
        yield "a context: pools the window around each cell"
    if any(a.field != a.reach for a in made.axes) and all(a.field == a.reach for x in given for a in x.axes):
        yield "pads where cells were cropped"


def _union(branches: Sequence[Branch]) -> str:
    """What a union of fields is made of, in words."""
    fields = list(dict.fromkeys(branch.receptive_field for branch in branches))
    sizes = dict.fromkeys(_shown([high - low for low, high in field]) for field in fields)
    text = f"union of {', '.join(sizes)}"
    apart = [_spread([low + high for low, high in axis]) for axis in zip(*fields, strict=True)]
    return f"{text}; centres {_shown(apart)} apart" if any(apart) else text


def _spread(doubled: Sequence[Number]) -> Number:
    """How far apart centres are, of which the doubles are given."""
    finite = [Fraction(n) for n in doubled if math.isfinite(n)]
    return plain((max(finite) - min(finite)) / 2) if finite else 0


def _shown(values: Sequence[Number]) -> str:
    """One number for each axis as text; a single one where they are equal."""
    shown = ["all" if n in {math.inf, -math.inf} else str(n) for n in values]
    return shown[0] if len(set(shown)) == 1 else " x ".join(shown)


def geometry(
    model: keras.Model | FullyConv,
    *,
    window: int | Sequence[int] | None = None,
    context: str = "window",
    rules: Mapping[type, Any] | None = None,
    skip: str | Iterable[str] = (),
) -> Geometry:
    """Where the cells of every layer lie in the input: stride, offset, receptive field and effective padding.

    Intervals are half-open pixels of the input. The effective padding is how far the receptive field of cell 0 reaches
    to the left of, or above, the first pixel: `-low`. Of layers that pad differently at even and odd sizes it is that
    at the window. Where a layer merges maps of different fields its field is their union, and its row says so.

    A layer that cannot be converted is named, with the reason, and so is everything behind it.

    Args:
        model: A Sequential or Functional model, converted or not, or a `FullyConv`.
        window: Spatial size in pixels of the images it was trained on, where its input leaves it open.
        context: What squeeze-and-excite pools: `"window"`, the window around each position, as in a converted network,
            or `"global"`, the whole image.
        rules: Rules of your own by layer class, as for `fullyconv.plan`.
        skip: Names of leading Resizing or CenterCrop layers to leave out.

    Returns:
        A `Geometry`; `str()` of it is a table.

    Raises:
        UnsupportedModelError: the model has no graph, or reads no image.
        WindowError: the window is missing, or contradicts the model.

    Example:
        >>> stack = [keras.Input((32, 32, 3)), layers.Conv2D(8, 3, padding="same", name="conv")]
        >>> model = keras.Sequential([*stack, layers.MaxPooling2D(2, name="pool")])
        >>> print(fullyconv.geometry(model))
        layer  class         map      stride  offset  field  padding  note
        -----  ------------  -------  ------  ------  -----  -------  ----
        conv   Conv2D        32 x 32  1       0       3      1
        pool   MaxPooling2D  16 x 16  2       0       4      1
    """
    if context not in CONTEXTS:
        raise ValueError(f"context must be one of {CONTEXTS}, not {context!r}.")
    pool = "window"
    if isinstance(model, FullyConv):
        model, window, context, pool = model.model, model.window, "global", "global"
    names = (skip,) if isinstance(skip, str) else tuple(skip)
    options = {"window": window, "pool": pool, "context": context, "rules": rules, "until": None, "skip": names}
    survey = _surveyed(model, options)
    size = next(x.size for x in survey.inputs if x.axes)
    return Geometry(model.name, size, tuple(survey.layers))


def _surveyed(model: keras.Model, options: Mapping[str, Any]) -> _Survey:
    """The walk, done; a second one where there are contexts, which need the stride of the outputs."""
    first = _Survey(model, options)
    outputs = [x for x in first.maps() if isinstance(x, Map)] or first.made[-1:]
    if not first.contexts:
        return first
    second = _Survey(model, options, first.contexts, lattice(outputs, None))
    second.maps()
    return second
