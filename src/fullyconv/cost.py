"""What a network costs for an image size: multiply-adds, parameters, and the activations alive at once. Runs nothing.

Shapes go from operation to operation as Keras itself works them out; no weight is read, and none is created. What a
plan describes is counted without building it.

- Multiply-adds: those of convolutions (grouped, depthwise, separable and transposed too), Dense, EinsumDense and
  `matmul`. One is a multiplication and the addition it goes with: two FLOPs. Products with padding count.
- Additions: the values that poolings, and means and maxima over axes, add or compare. They are counted apart.
- Parameters: the values of all weights, trainable or not.
- Peak activation: operations are walked in the order in which Keras runs them, and a tensor lives until the last
  operation that reads it is done. The peak is the largest sum of bytes alive at once, for one image. Engines that work
  in place, or fuse activations into convolutions, need less; workspace of their kernels comes on top.

Biases, activations, normalisation, merges, padding, copies and index arithmetic are not counted: they touch each value
a few times. Work that is not understood (recurrent layers, attention, layers of your own that own weights) is named in
`Cost.uncounted`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from fullyconv import _keras
from fullyconv.errors import GeometryError
from fullyconv.geometry import Number
from fullyconv.inputs import channels_first, whole_numbers
from fullyconv.rules.rule import Blueprint, Map, Recipe, describe_size, needed
from fullyconv.units import in_bytes, in_units
from fullyconv.walk import need_graph, unique_names
from fullyconv.work import additions, is_understood, multiply_adds

Shape = tuple[int, ...]
Size = int | Sequence[int]


@dataclass(frozen=True)
class LayerCost:
    """What one call of a layer or operation costs.

    Args:
        name: Its name.
        kind: Its class.
        shape: Shape of its output, the batch counted: a denser map has fragments there. Empty for several outputs.
        multiply_adds: Number of multiply-adds.
        additions: Values that a pooling adds or compares.
        parameters: Values of its weights; zero where an earlier call has counted them.
        activation: Bytes of its outputs.
    """

    name: str
    kind: str
    shape: Shape
    multiply_adds: int
    additions: int
    parameters: int
    activation: int


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image. The module's documentation says what is counted.

    Args:
        size: Spatial size of the image in pixels.
        multiply_adds: Number of multiply-adds.
        additions: Values that poolings add or compare.
        parameters: Values of all weights.
        peak_activation: The most bytes of activations alive at once.
        layers: Each call of a layer or operation, in order.
        uncounted: Names of layers whose work is not understood, and is not in the sums.
    """

    size: Shape
    multiply_adds: int
    additions: int
    parameters: int
    peak_activation: int
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The sums in human units."""
        text = (
            f"{in_units(self.multiply_adds)} multiply-adds, {in_units(self.parameters)} parameters, "
            f"{in_bytes(self.peak_activation)} of activations for {describe_size(self.size)}"
        )
        return text + (f"; without {', '.join(self.uncounted)}" if self.uncounted else "")


@dataclass(frozen=True)
class StrideCost:
    """What a map of one stride costs, beside the other ways to have the same cells.

    Args:
        stride: Pixels from one cell to the next, per spatial axis; of the finest output, where they differ.
        cells: Number of cells, per spatial axis: of a head's map, those whose window lies inside the image.
        cost: What the network costs; None where this stride is refused.
        shift_and_stitch: Multiply-adds of the plain network on every shifted image (Long, Shelhamer and Darrell,
            CVPR 2015); None at the network's own stride.
        windows: Multiply-adds of the classifier on a window for each cell; None where cells are not windows.
        refused: Why the stride is refused, if it is.
    """

    stride: tuple[Number, ...]
    cells: Shape = ()
    cost: Cost | None = None
    shift_and_stitch: int | None = None
    windows: int | None = None
    refused: str = ""

    @property
    def speedup(self) -> float | None:
        """How many times fewer multiply-adds than cutting windows: the limit of what can be saved in time."""
        if self.cost is None or self.windows is None or not self.cost.multiply_adds:
            return None
        return self.windows / self.cost.multiply_adds


def cost(model: Any, size: Size | None = None) -> Cost:
    """What a network costs for one image of a given size. Nothing is run, and a plan is not built.

    Args:
        model: A Sequential or Functional model, a `FullyConv`, or a `Plan`.
        size: Spatial size of the image in pixels; by default the model's own, which is the window.

    Returns:
        A `Cost`.

    Raises:
        GeometryError: the model cannot read this size, or has none of its own and none is given.
        InputTooSmallError: the size is smaller than the window of a converted network.
        UnsupportedModelError: the model has no graph.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.cost(model).multiply_adds, fullyconv.cost(fullyconv.plan(model), size=9).multiply_adds
        (960, 3840)
    """
    return model.cost(size) if hasattr(model, "cost") else _of_model(model, size)


@dataclass(frozen=True)
class _Call:
    """One call: what is called, with what weights, and the tensors it reads and returns."""

    name: str
    operation: Any
    weights: Sequence[Shape]
    read: Sequence[Any]
    returned: Sequence[Any]

    def cost(self, again: bool) -> LayerCost:
        """What it costs; `again` where its weights have been counted."""
        done = (self.operation, self.read, self.returned[0])
        return LayerCost(
            name=self.name,
            kind=type(self.operation).__name__,
            shape=tuple(self.returned[0].shape) if len(self.returned) == 1 else (),
            multiply_adds=multiply_adds(*done),
            additions=additions(*done),
            parameters=0 if again else sum(map(math.prod, self.weights)),
            activation=sum(map(_bytes, self.returned)),
        )


def _summed(size: Shape, calls: Sequence[_Call], inputs: Sequence[Any], outputs: Sequence[Any]) -> Cost:
    """The cost of calls in order."""
    seen: set[int] = set()
    layers = []
    for call in calls:
        layers.append(call.cost(id(call.operation) in seen))
        seen.add(id(call.operation))
    return Cost(
        size=size,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        additions=sum(layer.additions for layer in layers),
        parameters=sum(layer.parameters for layer in layers),
        peak_activation=_peak(calls, inputs, outputs),
        layers=tuple(layers),
        uncounted=tuple(dict.fromkeys(call.name for call in calls if not is_understood(call.operation, call.weights))),
    )


def _peak(calls: Sequence[_Call], inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """The most bytes alive at once, where each tensor lives until the last call that reads it is done."""
    calls = _by_depth(calls)
    last = {id(x): i for i, call in enumerate(calls) for x in (*call.returned, *call.read)}
    last |= {id(x): len(calls) for x in outputs}
    alive = {id(x): _bytes(x) for x in inputs}
    peak = sum(alive.values())
    for i, call in enumerate(calls):
        alive |= {id(x): _bytes(x) for x in call.returned}
        peak = max(peak, sum(alive.values()))
        for x in (*call.read, *call.returned):
            if last[id(x)] == i:
                alive.pop(id(x), None)
    return peak


def _by_depth(calls: Sequence[_Call]) -> list[_Call]:
    """Calls in the order in which Keras runs them: those first that have the most calls behind them."""
    depths: dict[int, int] = {}
    found = []
    for call in reversed(calls):
        depth = max((depths.get(id(x), 0) for x in call.returned), default=0)
        found.append((-depth, call.name, call))
        for x in call.read:
            depths[id(x)] = max(depths.get(id(x), 0), depth + 1)
    found.reverse()
    return [call for _, _, call in sorted(found, key=lambda entry: entry[:2])]


def _bytes(x: Any) -> int:
    bits = re.search(r"\d+", x.dtype)
    return math.prod(x.shape) * (int(bits[0]) // 8 if bits else 1)


# ----------------------------------------------------------------------------------------------------- models and plans


def _of_model(model: Any, size: Size | None) -> Cost:
    """The cost of a Keras model."""
    need_graph(model)
    tensors = keras.tree.flatten(_keras.input_structure(model))
    extent = _extent(model, tensors, size)
    first = channels_first(model)
    inputs = [keras.KerasTensor((1, *_entering(t, extent, first)), t.dtype) for t in tensors]
    names, calls = unique_names(model), list[_Call]()

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        read = _tensors((args, kwargs))
        try:
            outputs = _keras.checked_spec(operation, args, kwargs)
        except ValueError as error:
            raise GeometryError(_misfit(model, tensors, first, extent, operation, read)) from error
        outputs = keras.tree.map_structure(_of_one_image, outputs)
        weights = [tuple(w.shape) for w in getattr(operation, "weights", ())]
        calls.append(_Call(names[id(operation)], operation, weights, read, keras.tree.flatten(outputs)))
        return outputs

    outputs = _keras.walk(model, inputs, visit)
    return _summed(extent, calls, inputs, keras.tree.flatten(outputs))


def _of_one_image(x: Any) -> Any:
    """The tensor, where an operation that was told no batch size returns it."""
    return keras.KerasTensor((1, *x.shape[1:]), x.dtype) if x.shape and x.shape[0] is None else x


def of_recipes(inputs: Sequence[Map], recipes: Iterable[Recipe], outputs: Sequence[Map], size: Shape) -> Cost:
    """The cost of what a plan describes.

    Args:
        inputs: What stands for the inputs.
        recipes: The calls, each after those it needs; those that no output needs are left out.
        outputs: What stands for the outputs.
        size: Spatial size of the image.
    """
    tensors = {id(x.recipe): _input(x, size) for x in inputs}
    given = list(tensors.values())
    made: dict[int, Any] = {}
    calls = []

    def tensor(x: Any) -> Any:
        if not isinstance(x, Recipe):
            return x
        return tensors[id(x.args[0])][x.args[1]] if id(x) not in tensors else tensors[id(x)]

    wanted = needed(outputs)
    for recipe in recipes:
        if id(recipe) in wanted and recipe.blueprint is not None:
            args, kwargs = keras.tree.map_structure(tensor, (recipe.args, dict(recipe.kwargs)))
            operation = made.setdefault(id(recipe.blueprint), _unbuilt(recipe.blueprint))
            result = tensors[id(recipe)] = _keras.output_spec(operation, args, kwargs)
            weights = _weights(recipe.blueprint)
            flat = keras.tree.flatten(result)
            calls.append(_Call(recipe.blueprint.name, operation, weights, _tensors((args, kwargs)), flat))
    return _summed(size, calls, given, [tensor(x.recipe) for x in outputs])


def _unbuilt(blueprint: Blueprint) -> Any:
    """What a blueprint describes, without weights; or its source, where that would do the same."""
    kind: Any = blueprint.kind
    source = blueprint.source
    if not issubclass(kind, keras.layers.Layer):
        return kind(**blueprint.config)
    needs_weights = kind.compute_output_shape is keras.layers.Layer.compute_output_shape
    if source is not None and type(source) is kind and (needs_weights or _alike(blueprint.config, source)):
        return source
    return kind.from_config(dict(blueprint.config))


def _alike(config: Mapping[str, Any], source: keras.layers.Layer) -> bool:
    return {**config, "name": None} == {**source.get_config(), "name": None}


def _weights(blueprint: Blueprint) -> list[Shape]:
    """Shapes of the weights that a blueprint's layer will have."""
    source = getattr(blueprint.source, "weights", ())
    if not blueprint.arrange:
        return [tuple(w.shape) for w in source]
    moves = [(tuple(w.shape), blueprint.arrange[w.name]) for w in source if w.name in blueprint.arrange]
    return [move.shape or (shape if move.take is None else (len(move.take), *shape[1:])) for shape, move in moves]


def _input(x: Map, size: Shape) -> Any:
    extent = size if x.axes else x.size
    shape = (x.channels, *extent) if x.channels_first else (*extent, x.channels)
    return keras.KerasTensor((1, *shape), x.dtype)


def _extent(model: Any, tensors: Sequence[Any], size: Size | None) -> Shape:
    """The image size that is meant."""
    image = next((t for t in tensors if len(t.shape) > 2), None)
    if image is None:
        return ()
    own = _spatial(image, channels_first(model))
    if size is None and None in own:
        raise GeometryError(
            f"{model.name!r} reads images of any size, so its cost depends on one.\n"
            f"Give it:  fullyconv.cost(model, size={(224,) * len(own)})"
        )
    return own if size is None else whole_numbers(size, len(own), "size")


def _spatial(tensor: Any, first: bool) -> Shape:
    shape = tuple(tensor.shape)
    return shape[2:] if first else shape[1:-1]


def _entering(tensor: Any, extent: Shape, first: bool) -> Shape:
    """Shape of an input at a size, the batch left out."""
    shape = tuple(tensor.shape)
    if len(shape) < 3:
        return shape[1:]
    return (shape[1], *extent) if first else (*extent, shape[-1])


def _misfit(model: Any, tensors: Sequence[Any], first: bool, extent: Shape, operation: Any, read: Sequence[Any]) -> str:
    own = describe_size(_spatial(next(t for t in tensors if len(t.shape) > 2), first)).replace("None", "any")
    shapes = " and ".join(str(tuple(x.shape[1:])) for x in read)
    return (
        f"{model.name!r} cannot read an image of {describe_size(extent)}: {operation.name!r} "
        f"({type(operation).__name__}) would get {shapes}.\n"
        f"Give a size it reads (its input is {own}), or its plan:  fullyconv.plan(model).cost({extent})"
    )


def _tensors(structure: Any) -> list[Any]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]
