"""What a conversion will do: the graph walked once, a rule looked up and applied at each call. Builds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.errors import Refusal, UnsupportedLayerError, UnsupportedModelError, WindowError
from fullyconv.geometry import Axis, Grid
from fullyconv.inputs import what_enters
from fullyconv.rules import PINS, REFUSED, RULES
from fullyconv.rules.flatten import unfolded
from fullyconv.rules.rule import Blueprint, Decline, Map, Places, Recipe, Site, describe_size

POOLS = ("window", "drop", "global")
CONTEXTS = ("window", "global")


@dataclass(frozen=True)
class Step:
    """What became of one call of the classifier.

    Args:
        name: Name of its layer or operation.
        source: Class of it.
        result: What it becomes, in words.
        output_shape: Shape of the result at the window, without the batch.
    """

    name: str
    source: str
    result: str
    output_shape: tuple[int, ...]


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
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([*lines, "", *self._summary()])

    def _summary(self) -> list[str]:
        lines = []
        for grid in keras.tree.flatten(self.grids):
            fields = describe_size(tuple(high - low for low, high in grid.receptive_field))
            lines.append(f"window {describe_size(grid.window)}, stride {describe_size(grid.stride)}, field {fields}")
            lines.append(f"{grid.exactness}" + (f": {reasons_in_words(grid)}" if grid.exactness != "exact" else ""))
        return [*lines, *self.notes]


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
        until: Name of a layer; the plan ends with its output.
        skip: Names of leading Resizing or CenterCrop layers to leave out.

    Returns:
        A `Plan`.

    Raises:
        UnsupportedLayerError: layers have no rule; all of them are named.
        UnsupportedModelError: the model has no graph, or reads no image.
        WindowError: the window is missing, or contradicts the model.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> print(fullyconv.plan(model).steps[-1].result)
        Conv2D 8 x 8, 5 filters
    """
    if pool not in POOLS or context not in CONTEXTS:
        raise ValueError(f"pool must be one of {POOLS} and context one of {CONTEXTS}, not {pool!r} and {context!r}.")
    names = (skip,) if isinstance(skip, str) else tuple(skip)
    options = {"window": window, "pool": pool, "context": context, "rules": rules, "until": until, "skip": names}
    first = _Walk(model, options)
    outputs = first.run()
    if not first.contexts:
        return first.plan(outputs)
    second = _Walk(model, options, first.contexts, _lattice(outputs))
    return second.plan(second.run())


def _lattice(outputs: Sequence[Any]) -> tuple[int, ...] | None:
    """The finest output stride of each axis, on which contexts are pooled."""
    strides = [tuple(a.stride for a in x.axes) for x in outputs if isinstance(x, Map) and x.axes]
    strides = [s for s in strides if all(n == int(n) for n in s)]
    return tuple(math.gcd(*map(int, axis)) for axis in zip(*strides, strict=True)) if strides else None


@dataclass(frozen=True)
class _Refused:
    """What stands for a tensor that could not be had."""

    causes: frozenset[Refusal]


@dataclass
class _Walk:
    """One walk over the graph of a model."""

    model: Any
    options: Mapping[str, Any]
    contexts: frozenset[int] = frozenset()
    lattice: tuple[int, ...] | None = None
    steps: list[Step] = field(default_factory=list)
    recipes: list[Recipe] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blueprints: dict[Any, list[Blueprint]] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    calls: int = 0

    def __post_init__(self) -> None:
        self.rules = {**RULES, **(self.options["rules"] or {})}
        self.graph = _graph(self.model)
        self.names = _unique_names(self.model)
        self.taken = set(self.names.values())
        _check_skip(self.model, self.names, self.options["skip"])
        self.found: Any = None
        self.before: str | None = None

    def run(self) -> list[Any]:
        """What stands for each output."""
        self.inputs = tuple(what_enters(self.model, self.options["window"]))
        outputs = keras.tree.flatten(_keras.walk(self.model, self.inputs, self.visit, self.leave))
        if self.options["until"] is not None:
            outputs = [self._found()]
        self._report(outputs)
        return [unfolded(x, self._site("output", x.shape, x.dtype)) for x in outputs]

    def plan(self, outputs: Sequence[Map]) -> Plan:
        """The plan of a finished walk."""
        until = self.options["until"] is not None
        structure = None if until else self.graph._outputs_struct
        structure = keras.tree.map_structure(lambda _: None, structure)
        notes = tuple(self.notes)
        return Plan(
            self.model,
            self.options,
            self.inputs,
            tuple(outputs),
            structure,
            tuple(self.steps),
            tuple(self.recipes),
            notes,
        )

    def visit(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """What stands for the outputs of one call."""
        self.calls += 1
        entering = keras.tree.flatten((args, kwargs))
        given = [x for x in entering if isinstance(x, (Map, Places))]
        specs = keras.tree.map_structure(_spec, (args, _without_training(kwargs)))
        refused = [x for x in entering if isinstance(x, _Refused)]
        name = self.names[id(operation)]
        if refused:
            return self._behind_refusal(operation, name, refused)
        spec = self._output_spec(operation, name, specs)
        try:
            out = self._apply(operation, name, spec, args, kwargs)
        except Decline as refusal:
            return self._refusal(operation, name, refusal)
        self._record(operation, name, given, out)
        return out

    def leave(self, operation: Any, out: Any) -> None:
        """Take note of the output of a call or inner model."""
        until = self.options["until"]
        if until is not None and until in (operation.name, self.names.get(id(operation))):
            self.found = out

    def _apply(
        self, operation: Any, name: str, spec: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Map | Places | list[Map]:
        site = self._site(name, tuple(spec.shape[1:]) if hasattr(spec, "shape") else (), getattr(spec, "dtype", ""))
        if self._skipped(operation, name):
            return _rerooted(operation, args[0], site)
        rule = _keras.rule_for(operation, self.rules)
        if rule is None:
            raise _no_rule(operation)
        out = rule(operation, *args, site=site, **_without_training(kwargs))
        self.contexts = self.contexts | site.contexts
        return out

    def _site(self, name: str, shape: tuple[int, ...], dtype: str) -> Site:
        options = self.options
        return Site(
            name=name,
            key=self.calls,
            pool=options["pool"],
            context=options["context"],
            contexts=self.contexts,
            lattice=self.lattice,
            shape=shape,
            dtype=dtype,
            rank=self.inputs[0].rank,
            rules=self.rules,
            blueprints=self.blueprints,
            taken=self.taken,
            notes=self.notes,
            recipes=self.recipes,
        )

    def _skipped(self, operation: Any, name: str) -> bool:
        names = {name, operation.name, type(operation).__name__.lower()}
        return isinstance(operation, keras.layers.Layer) and not names.isdisjoint(self.options["skip"])

    def _record(self, operation: Any, name: str, given: Sequence[Map | Places], out: Any) -> None:
        made = out[0] if isinstance(out, list) else out
        if isinstance(made, Places):
            return
        same = any(made.recipe is x.recipe for x in given)
        result = "nothing" if same else in_words(made.recipe.blueprint)
        self.steps.append(Step(name, type(operation).__name__, result, (*made.size, made.channels)))
        if made.is_map and not same:
            self.before = self.before if self.refusals else name

    def _refusal(self, operation: Any, name: str, decline: Decline) -> _Refused:
        kind = type(operation).__name__
        refusal = Refusal(name, kind, self.calls, decline.reason, decline.remedy.replace("{name}", repr(name)))
        self.refusals = (*self.refusals, refusal)
        return _Refused(frozenset({refusal}))

    def _behind_refusal(self, operation: Any, name: str, refused: Sequence[_Refused]) -> _Refused:
        """What stands for a call behind a refusal, which is refused too where no input could help."""
        causes = frozenset[Refusal]().union(*(x.causes for x in refused))
        if self._skipped(operation, name) or _keras.rule_for(operation, self.rules) is not None:
            return _Refused(causes)
        return _Refused(causes | self._refusal(operation, name, _no_rule(operation)).causes)

    def _output_spec(self, operation: Any, name: str, specs: Any) -> Any:
        try:
            return _keras.output_spec(operation, *specs)
        except ValueError as error:
            window = describe_size(next(x.size for x in self.inputs if x.axes))
            raise WindowError(
                f"The window {window} is too small for {self.model.name!r}: nothing is left at {name!r}.\n"
                f"Give the size it was trained on, such as window=224."
            ) from error

    def _found(self) -> Any:
        if self.found is None:
            raise UnsupportedModelError(
                f"{self.model.name!r} has no layer named {self.options['until']!r}.\n"
                f"The `until` argument takes one of: {', '.join(list(self.names.values())[:8])} ..."
            )
        return self.found

    def _report(self, outputs: Sequence[Any]) -> None:
        causes = frozenset().union(*(x.causes for x in outputs if isinstance(x, _Refused)))
        if causes:
            ordered = sorted(causes, key=lambda refusal: refusal.place)
            raise UnsupportedLayerError(self.model.name, len(self.names), ordered, self.before)


def _graph(model: Any) -> Any:
    graph = _keras.graph_of(model)
    if graph is not None:
        return graph
    name, kind = getattr(model, "name", "model"), type(model).__name__
    if isinstance(model, keras.Sequential):
        raise UnsupportedModelError(
            f"{name!r} ({kind}) has no input shape yet, so it has no graph.\n"
            f"Give it one: model.build((None, height, width, channels)), or start it with keras.Input."
        )
    if isinstance(model, keras.Model):
        raise UnsupportedModelError(
            f"{name!r} ({kind}) is a subclassed model: its layers are called in Python, "
            f"which cannot be read as a graph.\n"
            f"Build it with the functional API (keras.Model(inputs, outputs)), or convert the functional models inside."
        )
    raise UnsupportedModelError(
        f"Expected a keras.Model, but received {'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}.\n"
        "Load it with keras.models.load_model."
    )


def _check_skip(model: Any, names: Mapping[int, str], asked: Iterable[str]) -> None:
    """Refuse a name that no layer has which can be skipped."""
    pins = [(o, names[id(o)]) for _, o in _keras.operations_of(model) if REFUSED.get(type(o)) == PINS]
    known = {n for o, name in pins for n in (name, o.name, type(o).__name__.lower())}
    for name in asked:
        if name not in known:
            some = ", ".join(repr(n) for _, n in pins) or "none: it has no Resizing or CenterCrop"
            raise UnsupportedModelError(
                f"{model.name!r} has no layer {name!r} that can be skipped.\nThe `skip` argument takes: {some}."
            )


def _unique_names(model: Any) -> dict[int, str]:
    """A name for every operation, unique over all inner models."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for prefix, operation in _keras.operations_of(model):
        stems = (operation.name, f"{prefix}_{operation.name}")
        candidates = (f"{stem}_{i}" if i else stem for i in range(10**6) for stem in (stems if prefix else stems[:1]))
        if id(operation) not in names:
            names[id(operation)] = next(name for name in candidates if name not in taken)
            taken.add(names[id(operation)])
    return names


def _spec(x: Any) -> Any:
    if isinstance(x, Places):
        return keras.KerasTensor((None,), "int32")
    return keras.KerasTensor((None, *x.shape), x.dtype) if isinstance(x, Map) else x


def _without_training(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("training", "mask")}


def _rerooted(layer: Any, x: Map, site: Site) -> Map:
    """The map behind a leading Resizing or CenterCrop that is left out: its size becomes the window."""
    if any((axis.stride, axis.field) != (1, (0, 1)) for axis in x.axes):
        raise Decline("is not the first layer that changes the size, and cannot be skipped")
    size = site.shape[1:] if x.channels_first else site.shape[:-1]
    site.note(f"{site.name} ({type(layer).__name__}) was left out: bring images to the scale that it made.")
    axes = tuple(Axis(n) for n in size)
    return replace(x, shape=site.shape, size=size, axes=axes)


def _no_rule(operation: Any) -> Decline:
    """Why an operation has no rule."""
    kind = type(operation).__name__
    refused = _keras.rule_for(operation, REFUSED)
    if refused is not None and type(operation).__module__.startswith("keras."):
        return Decline(*refused)
    if isinstance(operation, keras.Model):
        return Decline(
            "is a subclassed model, whose layers are called in Python and cannot be read as a graph",
            "build it with the functional API: keras.Model(inputs, outputs)",
        )
    parent = next((c for c in type(operation).__mro__ if c in RULES), None)
    if parent is not None:
        return Decline(
            f"is a {parent.__name__} with a `call` of its own, so the rule of {parent.__name__} does not hold",
            f"say what it is: rules={{{kind}: rule}}",
        )
    what = "layer" if isinstance(operation, keras.layers.Layer) else "operation"
    return Decline(f"is a {what} that has no rule", f"say what it becomes: rules={{{kind}: rule}}")


def in_words(blueprint: Blueprint | None) -> str:
    """What a blueprint builds, in words."""
    if blueprint is None:
        return "nothing"
    config, words = blueprint.config, blueprint.kind.__name__
    size = config.get("kernel_size", config.get("pool_size"))
    words += f" {describe_size(tuple(size))}" if isinstance(size, (tuple, list)) else ""
    words += f", {config['filters']} filters" if "filters" in config else ""
    return words
