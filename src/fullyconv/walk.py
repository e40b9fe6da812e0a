"""One walk over the graph of a classifier: a rule looked up and applied at each call, and all refusals gathered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.errors import Refusal, UnsupportedLayerError, UnsupportedModelError, WindowError
from fullyconv.geometry import Axis
from fullyconv.inputs import what_enters
from fullyconv.model_limits import CALLS
from fullyconv.printable import inline
from fullyconv.rules import PINS, REFUSED, RULES
from fullyconv.rules.flatten import unfolded
from fullyconv.rules.fragments import interleaved
from fullyconv.rules.places import OfPlaces
from fullyconv.rules.rule import VALUES, Blueprint, Decline, Map, Places, Recipe, Site, describe_size


@dataclass(frozen=True)
class Step:
    """What became of one call of the classifier.

    Args:
        name: Name of its layer or operation.
        source: Class of it.
        result: What it becomes, in words.
        output_shape: Shape of the result at the window, without the batch.
        dropped: Whether it is a head's pooling that was left out (`pool="drop"`).
        recipes: The calls of the result that stand for it.
    """

    name: str
    source: str
    result: str
    output_shape: tuple[int, ...]
    dropped: bool = False
    recipes: tuple[Recipe, ...] = ()


@dataclass(frozen=True)
class Refused:
    """What stands for a tensor that could not be had."""

    causes: frozenset[Refusal]


@dataclass
class Walk:
    """One walk over the graph of a model."""

    model: Any
    options: Mapping[str, Any]
    contexts: frozenset[int] = frozenset()
    lattice: tuple[int, ...] | None = None
    dense: tuple[int, ...] | None = None
    steps: list[Step] = field(default_factory=list)
    recipes: list[Recipe] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blueprints: dict[Any, list[Blueprint]] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    calls: int = 0

    def __post_init__(self) -> None:
        self.rules = {**RULES, **(self.options["rules"] or {})}
        self.structure = need_graph(self.model)._outputs_struct
        self.names = unique_names(self.model, self.options["rules"])
        self.taken = set(self.names.values())
        _check_skip(self.model, self.names, self.options["skip"])
        self.found: Any = None
        self.before: str | None = None

    def maps(self) -> list[Map | Refused]:
        """What stands for each output, or for one that could not be had."""
        self.inputs = tuple(what_enters(self.model, self.options["window"]))
        return keras.tree.flatten(_keras.walk(self.model, self.inputs, self.visit, self.leave, self.options["rules"]))

    def run(self) -> list[Any]:
        """What stands for each output, ready to be built."""
        outputs: list[Any] = self.maps()
        if self.options["until"] is not None:
            outputs = [self._found()]
        self._report(outputs)
        if any(isinstance(x, Places) for x in outputs):
            raise UnsupportedModelError(
                f"{self.model.name!r} returns a single line of a map, which is no map of answers.\n"
                f"Let it return the map, or what a layer makes of it."
            )
        image = next(x for x in self.inputs if x.axes)
        sites = [self._site("output", x.shape, x.dtype) for x in outputs]
        return [interleaved(unfolded(x, site), image, site) for x, site in zip(outputs, sites, strict=True)]

    def visit(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """What stands for the outputs of one call: each of them, if it was refused."""
        out = self._visited(operation, args, kwargs)
        return [out] * len(keras.tree.flatten(operation.output)) if isinstance(out, Refused) else out

    def _visited(self, operation: Any, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        entering = keras.tree.flatten((args, kwargs))
        given = [x for x in entering if isinstance(x, (Map, Places))]
        specs = tensors(args, kwargs)
        refused = [x for x in entering if isinstance(x, Refused)]
        name = self.names[id(operation)]
        if refused:
            return self._behind_refusal(operation, name, refused)
        spec = self._output_spec(operation, name, specs)
        before = len(self.recipes)
        try:
            _check_size(spec)
            out = self._apply(operation, name, spec, args, kwargs)
        except Decline as refusal:
            return self._refusal(operation, name, refusal)
        self._record(operation, name, given, out, before)
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
        if rule is None and _keras.rule_for(operation, REFUSED) == PINS and _is_inside(args[0]):
            raise Decline("pins the size of a map inside the network", "convert the part before it with `until`")
        if rule is None:
            raise _no_rule(operation)
        if any(isinstance(x, Places) for x in keras.tree.flatten((args, kwargs))) and not isinstance(rule, OfPlaces):
            raise Decline("computes with a single line of a map", "leave that computation out")
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
            head=options["head"],
            contexts=self.contexts,
            dense=self.dense,
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

    def _record(self, operation: Any, name: str, given: Sequence[Map | Places], out: Any, before: int) -> None:
        made = out[0] if isinstance(out, list) else out
        if isinstance(made, Places) or self.found is not None:
            return
        same = any(made.recipe is x.recipe for x in given)
        new = tuple(self.recipes[before:])
        result = "nothing" if same else in_words(new)
        dropped = same and self.options["pool"] == "drop" and made.pools == frozenset({self.calls})
        self.steps.append(Step(name, type(operation).__name__, result, (*made.size, made.channels), dropped, new))
        if made.is_map and not same:
            self.before = self.before if self.refusals else name

    def _refusal(self, operation: Any, name: str, decline: Decline) -> Refused:
        kind = type(operation).__name__
        refusal = Refusal(name, kind, self.calls, decline.reason, decline.remedy.replace("{name}", repr(name)))
        self.refusals = (*self.refusals, refusal)
        return Refused(frozenset({refusal}))

    def _behind_refusal(self, operation: Any, name: str, refused: Sequence[Refused]) -> Refused:
        """What stands for a call behind a refusal, which is refused too where no input could help."""
        causes = frozenset[Refusal]().union(*(x.causes for x in refused))
        if self._skipped(operation, name) or _keras.rule_for(operation, self.rules) is not None:
            return Refused(causes)
        return Refused(causes | self._refusal(operation, name, _no_rule(operation)).causes)

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
                f"The `until` argument takes one of: {inline(', '.join(list(self.names.values())[:8]))} ..."
            )
        found = keras.tree.flatten(self.found)
        if len(found) > 1:
            raise UnsupportedModelError(
                f"{self.options['until']!r} in {self.model.name!r} has several outputs.\n"
                f"The `until` argument takes the name of a layer with one."
            )
        return found[0]

    def _report(self, outputs: Sequence[Any]) -> None:
        causes = frozenset().union(*(x.causes for x in outputs if isinstance(x, Refused)))
        if causes:
            ordered = sorted(causes, key=lambda refusal: refusal.place)
            refused = {refusal.name for refusal in ordered}
            before = None if self.before in refused else self.before
            raise UnsupportedLayerError(self.model.name, len(self.names), ordered, before)


def need_graph(model: Any) -> Any:
    """The graph of a model.

    Raises:
        UnsupportedModelError: it has none, or its models call each other more often than can be walked.
    """
    graph = _keras.graph_of(model)
    if graph is not None:
        _check_calls(model)
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
            f"Where its `call` is made of layers and keras.ops, "
            f"this is a Functional model of the same layers and weights:\n"
            f"  x = keras.Input((height, width, channels)); keras.Model(x, model.call(x))"
        )
    inside = isinstance(getattr(model, "model", None), keras.Model)
    raise UnsupportedModelError(
        f"Expected a keras.Model, but received {'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}.\n"
        + ("Give its `.model`." if inside else "Load it with keras.models.load_model.")
    )


def _check_calls(model: Any) -> None:
    calls = _keras.calls_in(model)
    if calls > CALLS:
        raise UnsupportedModelError(
            f"{model.name!r} calls {calls:,} layers, those of inner models counted for each call, and the limit is "
            f"{CALLS:,}.\nGive a smaller network: the largest of keras.applications make about 1,000 calls."
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


def unique_names(model: Any, whole: _keras.Rules = None) -> dict[int, str]:
    """A name for every operation, unique over all inner models; a class in the table `whole` has none inside it."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for prefix, operation in _keras.operations_of(model, whole=whole):
        stems = (operation.name, f"{prefix}_{operation.name}")
        candidates = (f"{stem}_{i}" if i else stem for i in range(10**6) for stem in (stems if prefix else stems[:1]))
        if id(operation) not in names:
            names[id(operation)] = next(name for name in candidates if name not in taken)
            taken.add(names[id(operation)])
    return names


def _check_size(spec: Any) -> None:
    """Decline what returns more than there is memory for, before anything of that size is made."""
    sizes = [math.prod(n for n in t.shape if n) for t in keras.tree.flatten(spec) if hasattr(t, "shape")]
    if max(sizes, default=0) > VALUES:
        raise Decline(
            f"returns {max(sizes):,} values for one window, and the limit is {VALUES:,}",
            "convert the part before it with `until`",
        )


def tensors(args: Any, kwargs: Mapping[str, Any]) -> Any:
    """The arguments of a call of the classifier: symbolic tensors in place of what stands for them."""
    return keras.tree.map_structure(_spec, (args, _without_training(kwargs)))


def _spec(x: Any) -> Any:
    if isinstance(x, Places):
        return keras.KerasTensor((None,), "int32")
    return keras.KerasTensor((None, *x.shape), x.dtype) if isinstance(x, Map) else x


def _without_training(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("training", "mask")}


def _is_inside(x: Any) -> bool:
    """Whether something has changed the size of the image, or mixed its pixels, before this map."""
    return not isinstance(x, Map) or any((axis.stride, axis.field) != (1, (0, 1)) for axis in x.axes)


def _rerooted(layer: Any, x: Map, site: Site) -> Map:
    """The map behind a leading Resizing or CenterCrop that is left out: its size becomes the window."""
    if _is_inside(x):
        reason = "is not the first layer that changes the size, and cannot be skipped"
        raise Decline(reason, "convert the part before it with `until`")
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
    parent = next((c for c in type(operation).__mro__ if c in RULES), None)
    if parent is not None:
        return Decline(
            f"is a {parent.__name__} with a `call` of its own, so the rule of {parent.__name__} does not hold",
            f"say what it is: rules={{{kind}: rule}}",
        )
    if _keras.attention_in(operation) is not None:
        return Decline(
            _keras.why_not(operation),
            "convert the part before it with `until`; of a vision transformer, which is attention throughout, nothing "
            "can be: take a convolutional network in its place",
        )
    why = _keras.why_not(operation)
    if why:
        return Decline(
            f"is a {'subclassed model' if isinstance(operation, keras.Model) else 'layer that has no rule'}, and {why}",
            f"build it with the functional API, or say what it becomes: rules={{{kind}: rule}}",
        )
    what = "a layer" if isinstance(operation, keras.layers.Layer) else "an operation"
    return Decline(f"is {what} that has no rule", f"say what it becomes: rules={{{kind}: rule}}")


def in_words(recipes: Sequence[Recipe]) -> str:
    """What was built for one call, in words: its layers, or else its last operation."""
    made = [recipe.blueprint for recipe in recipes if recipe.blueprint is not None]
    built = [b for b in made if issubclass(b.kind, keras.layers.Layer)]
    words = list(dict.fromkeys(_blueprint_in_words(b) for b in built))
    return " + ".join(words[:3] + ["..."] * (len(words) > 3)) or (made[-1].kind.__name__ if made else "nothing")


def _blueprint_in_words(blueprint: Blueprint) -> str:
    config, words = blueprint.config, blueprint.kind.__name__
    size = config.get("kernel_size", config.get("pool_size"))
    words += f" {describe_size(tuple(size))}" if isinstance(size, (tuple, list)) else ""
    words += f", {config['units']} units" if blueprint.kind is keras.layers.Dense else ""
    return words + (f", {config['filters']} filters" if "filters" in config else "")
