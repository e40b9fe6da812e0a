"""What a conversion will do: the graph walked once, a rule looked up and applied at each call. Builds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from fullyconv.cost import Cost, Size, StrideCost, of_recipes
from fullyconv.errors import GeometryError, UnsupportedLayerError
from fullyconv.geometry import Grid
from fullyconv.inputs import image_size, integers
from fullyconv.printable import inline
from fullyconv.rules.rule import Map, Recipe, describe_size
from fullyconv.walk import Step, Walk

POOLS = ("window", "drop", "global")
CONTEXTS = ("window", "global")
HEADS = ("convolution", "dense")


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

    def cost(self, size: Size | None = None) -> Cost:
        """What the network will cost for one image, without building it.

        Args:
            size: Spatial size of the image in pixels; by default the window.

        Raises:
            InputTooSmallError: it is smaller than the window.
            GeometryError: it is not one whole number above 0, or one for each spatial axis.
        """
        return of_recipes(self.inputs, self.recipes, self.outputs, image_size(size, self.window))

    def work(self, cost: Cost) -> list[int]:
        """Multiply-adds of what each step becomes, of a cost of this plan."""
        calls: dict[str, list[int]] = {}
        for layer in reversed(cost.layers):
            calls.setdefault(layer.name, []).append(layer.multiply_adds)
        built = [[r.blueprint.name for r in step.recipes if r.blueprint is not None] for step in self.steps]
        return [sum(calls[name].pop() for name in names if calls.get(name)) for names in built]

    def speedup(self, size: Size) -> float | None:
        """How many times fewer multiply-adds than cutting the same windows: the limit of what can be saved in time.

        None where the cells are not windows.
        """
        return _beside_windows(self, image_size(size, self.window), self._plain().cost()).speedup

    def strides(self, size: Size) -> tuple[StrideCost, ...]:
        """What the map costs at the network's own stride and at each denser one, beside the other ways to have it.

        The denser strides are those that are the same for all axes, and the plan's own.

        Args:
            size: Spatial size of the image in pixels.

        Returns:
            A `StrideCost` each, the coarsest first; only the first where the output has no denser cells.

        Raises:
            InputTooSmallError: the size is smaller than the window.
            GeometryError: it is not one whole number above 0, or one for each spatial axis.

        Example:
            >>> stack = [keras.Input((8, 8, 3)), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(5)]
            >>> for row in fullyconv.plan(keras.Sequential(stack)).strides(20):
            ...     print(row.stride, row.cells, row.speedup)
            (2, 2) (7, 7) 1.0
            (1, 1) (13, 13) 0.8622448979591837
        """
        own, extent = self._plain(), image_size(size, self.window)
        plain, window = own.cost(extent), own.cost()
        rest = [_denser_cost(own, stride, plain, window) for stride in _denser(own, self)]
        return (_beside_windows(own, extent, window), *rest)

    def _plain(self) -> Plan:
        """The plan at the network's own stride."""
        return self if self.options["stride"] is None else _at_stride(self, None)

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
        return [*lines, *map(inline, self.notes)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines, its columns aligned; the first row is the heading, and is underlined."""
    rows = [[inline(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _grid(x: Map) -> Grid:
    between = dict.fromkeys(name for axis in x.axes for name in axis.between)
    reasons = (*x.reasons, *(f"{name} makes cells that no window belongs to" for name in between))
    grid = Grid(x.axes, reasons, x.approximate, x.channels_first)
    return replace(grid, reasons=()) if grid.exactness == "exact" else grid


def reasons_in_words(grid: Grid, most: int = 3) -> str:
    """The reasons of a grid that is not exact, the weightiest few by name."""
    shown, rest = sorted(grid.reasons, key=lambda reason: reason.endswith(" pads"))[:most], len(grid.reasons) - most
    return inline(", ".join(shown)) + (f" and {rest} more" if rest > 0 else "")


def plan(  # noqa: PLR0913  one keyword for each option
    model: keras.Model,
    *,
    window: int | Sequence[int] | None = None,
    pool: str = "window",
    context: str = "window",
    head: str | None = None,
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
        head: What large Dense layers become: `"convolution"`, as all others, or `"dense"`, the same layers on the
            window of each cell, gathered by shifted crops. The numbers are the same; None takes what is faster on the
            running backend: `"convolution"` on OpenVINO, `"dense"` on JAX, PyTorch and TensorFlow.
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
    if head not in (None, *HEADS):
        raise ValueError(f"head must be 'convolution' or 'dense', or None for the faster one, not {head!r}.")
    head = head or ("convolution" if keras.backend.backend() == "openvino" else "dense")
    names = (skip,) if isinstance(skip, str) else tuple(skip)
    options = {"window": window, "pool": pool, "context": context, "rules": rules, "until": until, "skip": names}
    options |= {"stride": stride, "head": head}
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
    wanted = integers(stride, outputs[0].rank, "stride", example=8)
    for strides in own:
        if len(wanted) != len(strides) or any(k < 1 or s % k for s, k in zip(strides, wanted, strict=True)):
            divisors = [k for k in range(1, max(strides) + 1) if all(s % k == 0 for s in strides)]
            raise GeometryError(
                f"A stride of {describe_size(wanted)} does not divide the stride {describe_size(strides)} of "
                f"{model.name!r}.\nGive one of {', '.join(map(str, divisors))}, or one of them per axis."
            )
    return wanted


def _at_stride(made: Plan, stride: tuple[int, ...] | None) -> Plan:
    """The same plan at another stride, None for the network's own."""
    return plan(made.model, **{**made.options, "stride": stride})


def _denser(own: Plan, made: Plan) -> list[tuple[int, ...]]:
    """Strides below the network's own, the coarsest first: those for all axes that divide it, and a plan's."""
    if any(axis.whole for x in own.outputs for axis in x.axes):
        return []
    strides = _strides(own.outputs)
    common = math.gcd(*(n for stride in strides for n in stride))
    found = {(k,) * own.outputs[0].rank for k in range(1, common + 1) if common % k == 0}
    return sorted((found | set(_strides(made.outputs))) - set(strides), key=math.prod, reverse=True)


def _beside_windows(made: Plan, size: tuple[int, ...], window: Cost) -> StrideCost:
    """The cost of a plan's map beside that of cutting windows; `window` is what one of them costs."""
    grids = [grid for grid in keras.tree.flatten(made.grids) if grid.axes]
    finest = max(grids, key=lambda grid: math.prod(grid.windows_inside(size)))
    cells = finest.windows_inside(size)
    single = all(axis.native == 1 and not axis.whole for grid in grids for axis in grid.axes)
    windows = math.prod(cells) * window.multiply_adds if single else None
    return StrideCost(finest.stride, cells, made.cost(size), None, windows)


def _denser_cost(own: Plan, stride: tuple[int, ...], plain: Cost, window: Cost) -> StrideCost:
    """The cost of a denser map than a plan's own, which costs `plain`, beside those of the other ways to have it."""
    try:
        made = _at_stride(own, stride)
    except UnsupportedLayerError as error:
        first = error.refusals[0]
        return StrideCost(stride, refused=f"{first.name!r} ({first.kind}) {first.reason}")
    passes = max(map(math.prod, _strides(own.outputs))) // math.prod(stride)
    found = _beside_windows(made, plain.size, window)
    return replace(found, shift_and_stitch=passes * plain.multiply_adds)
