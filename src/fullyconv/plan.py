"""What a conversion will do: the graph walked once, a rule looked up and applied at each call. Builds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from fullyconv.errors import GeometryError
from fullyconv.geometry import Grid
from fullyconv.rules.rule import Map, Recipe, describe_size
from fullyconv.walk import Step, Walk

POOLS = ("window", "drop", "global")
CONTEXTS = ("window", "global")


@dataclass(frozen=True, eq=False)
class Plan:
    """What a conversion will do: a description, with no layer built and no weight copied.

    Args:
        model: The classifier.
        options: The options the plan was made with.
        inputs: What stands for each of its inputs, in order.
        outputs: What stands for each of its outputs, in order.
        structure: The structure of its outputs.
        steps: What each of its calls becomes.
        recipes: The calls of the result, each after those it needs.
        notes: What the user should know.
    """

    model: Any
    options: Mapping[str, Any]
    inputs: tuple[Map, ...]
    outputs: tuple[Map, ...]
    structure: Any
    steps: tuple[Step, ...]
    recipes: tuple[Recipe, ...]
    notes: tuple[str, ...]

    @property
    def grids(self) -> Any:
        """The grid of each output, in the outputs' structure."""
        grids = [_grid(x) for x in self.outputs]
        return keras.tree.pack_sequence_as(self.structure, grids)

    @property
    def exactness(self) -> str:
        """The weakest of the outputs' exactness."""
        order = ("exact", "native", "approximate")
        grids = keras.tree.flatten(self.grids)
        return max((grid.exactness for grid in grids), key=order.index)

    @property
    def window(self) -> tuple[int, ...]:
        """Spatial size of the input the classifier was built for."""
        return next(tuple(a.window for a in x.axes) for x in self.inputs if x.axes)

    def __str__(self) -> str:
        """The conversion as a table."""
        rows = [("layer", "class", "becomes", "at the window")]
        rows += [(s.name, s.source, s.result, describe_size(s.output_shape)) for s in self.steps]
        return "\n".join([*aligned(rows), "", *self._summary()])

    def _summary(self) -> list[str]:
        lines = []
        for grid in keras.tree.flatten(self.grids):
            fields = describe_size(tuple(high - low for low, high in grid.receptive_field))
            lines.append(f"window {describe_size(grid.window)}, stride {describe_size(grid.stride)}, field {fields}")
            lines.append(f"{grid.exactness}" + (f": {reasons_in_words(grid)}" if grid.exactness != "exact" else ""))
        return [*lines, *self.notes]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines, its columns aligned; the first row is the heading, and is underlined."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _grid(x: Map) -> Grid:
    grid = Grid(x.axes, x.reasons, x.approximate)
    return replace(grid, reasons=()) if grid.exactness == "exact" else grid


def reasons_in_words(grid: Grid, most: int = 3) -> str:
    """The reasons of a grid that is not exact, the weightiest few by name."""
    shown, rest = sorted(grid.reasons, key=lambda reason: reason.endswith(" pads"))[:most], len(grid.reasons) - most
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def plan(
    model: keras.Model,
    *,
    window: int | Sequence[int] | None = None,
    pool: str = "window",
    context: str = "window",
    rules: Mapping[type, Any] | None = None,
    stride: int | Sequence[int] | None = None,
    until: str | None = None,
    skip: str | Iterable[str] = (),
) -> Plan:
    """What converting a classifier will do: what each layer becomes, and where every output cell lies.

    Nothing is built and no weight is copied.

    Args:
        model: A Sequential or Functional model, inner models included.
        window: Spatial size in pixels of the images it was trained on, where its input leaves it open.
        pool: What the head's global pooling becomes: `"window"`, the pooling of a window at every position (exact);
            `"drop"`, nothing (a class-activation map, after Zhou et al., CVPR 2016); `"global"`, kept.
        context: What squeeze-and-excite pools: `"window"`, the window around each position, or `"global"`, the image.
        rules: Rules of your own by layer class, which come before the built-in ones.
        stride: Pixels from one cell to the next, where the map should be denser than the network's own stride, which it
            must divide. Strides are removed exactly, from the last backwards.
        until: Name of a layer; the plan ends with its output.
        skip: Names of leading Resizing or CenterCrop layers to leave out.

    Returns:
        A `Plan`.

    Raises:
        UnsupportedLayerError: layers have no rule; all of them are named.
        UnsupportedModelError: the model has no graph, or reads no image.
        WindowError: the window is missing, or contradicts the model.
        GeometryError: the stride does not divide the network's.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> print(fullyconv.plan(model).steps[-1].result)
        Conv2D 8 x 8, 5 filters
    """
    if pool not in POOLS or context not in CONTEXTS:
        raise ValueError(f"pool must be one of {POOLS} and context one of {CONTEXTS}, not {pool!r} and {context!r}.")
    names = (skip,) if isinstance(skip, str) else tuple(skip)
    options = {"window": window, "pool": pool, "context": context, "rules": rules, "until": until, "skip": names}
    options |= {"stride": stride}
    first = Walk(model, options)
    outputs = first.run()
    dense = None if stride is None else _dense(model, outputs, stride)
    if not first.contexts and dense is None:
        return _described(first, outputs)
    second = Walk(model, options, first.contexts, lattice(outputs, dense), dense)
    return _described(second, second.run())


def _described(walk: Walk, outputs: Sequence[Map]) -> Plan:
    """The plan of a finished walk."""
    structure = None if walk.options["until"] is not None else walk.structure
    return Plan(
        model=walk.model,
        options=walk.options,
        inputs=walk.inputs,
        outputs=tuple(outputs),
        structure=keras.tree.map_structure(lambda _: None, structure),
        steps=tuple(walk.steps),
        recipes=tuple(walk.recipes),
        notes=tuple(walk.notes),
    )


def _strides(outputs: Sequence[Map]) -> list[tuple[int, ...]]:
    """The strides of the outputs that have whole ones."""
    strides = [tuple(a.stride for a in x.axes) for x in outputs if x.axes]
    return [tuple(map(int, s)) for s in strides if all(n == int(n) for n in s)]


def lattice(outputs: Sequence[Map], dense: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The finest output stride of each axis, on which contexts are pooled."""
    strides = _strides(outputs) + ([dense] if dense else [])
    return tuple(math.gcd(*axis) for axis in zip(*strides, strict=True)) if strides else None


def _dense(model: Any, outputs: Sequence[Map], stride: int | Sequence[int]) -> tuple[int, ...]:
    """The wanted stride of each axis, which must divide that of every output."""
    own = _strides(outputs)
    wanted = (stride,) * len(own[0]) if isinstance(stride, int) else tuple(stride)
    for strides in own:
        if len(wanted) != len(strides) or any(k < 1 or s % k for s, k in zip(strides, wanted, strict=True)):
            divisors = [k for k in range(1, max(strides) + 1) if all(s % k == 0 for s in strides)]
            raise GeometryError(
                f"A stride of {describe_size(wanted)} does not divide the stride {describe_size(strides)} of "
                f"{model.name!r}.\nGive one of {', '.join(map(str, divisors))}, or one of them per axis."
            )
    return wanted
