"""The geometry of every layer of a network: stride, offset, receptive field and effective padding.

It is read off the walk that plans a conversion, so that it cannot disagree with the grids of what is converted. Layers
that cannot be converted are named, and end what can be said about the layers behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras

from fullyconv.convert import FullyConv
from fullyconv.layer_geometry import Branch, Geometry, LayerGeometry
from fullyconv.plan import CONTEXTS, lattice
from fullyconv.rules.conv import each
from fullyconv.rules.rule import Map
from fullyconv.rules.unconverted import REMARKS, UNCONVERTED
from fullyconv.walk import Refused, Walk


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
            self.layers.append(LayerGeometry(name, kind, made.size, made.axes, branches, remarks, flat=not made.is_map))
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
    return own[0] if own else f"is behind {' and '.join(before)}"


def _remarks(operation: Any, made: Map, given: Sequence[Map]) -> Iterator[str]:
    """What to know of a call besides its numbers."""
    if type(operation) in REMARKS:
        yield REMARKS[type(operation)]
    if not made.is_map and not made.is_vector and len(made.shape) > 1:
        yield "rearranged: the numbers are those of the map that it holds"
    strides = each(getattr(operation, "strides", 1), made.rank)
    if given and any(s > 1 and a.stride == b.stride for s, a, b in zip(strides, made.axes, given[0].axes, strict=True)):
        yield "covers the whole map, and slides by one cell"
    if any(a.slides for a in made.axes) and not any(a.slides for x in given for a in x.axes):
        yield "a context: pools the window around each cell"
    if any(a.field != a.reach for a in made.axes) and all(a.field == a.reach for x in given for a in x.axes):
        yield "pads where cells were cropped"


def geometry(
    model: keras.Model | FullyConv,
    *,
    window: int | Sequence[int] | None = None,
    context: str = "window",
    rules: Mapping[type, Any] | None = None,
    skip: str | Iterable[str] | None = (),
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
    names = (skip,) if isinstance(skip, str) else tuple(skip or ())
    known = {**UNCONVERTED, **(rules or {})}
    options = {"window": window, "pool": pool, "context": context, "rules": known, "until": None, "skip": names}
    options["head"] = "convolution"
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
