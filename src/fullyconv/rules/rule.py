"""What a rule is: `rule(operation, *inputs, site=site, **kwargs) -> Map`.

A rule says what one layer or operation of the classifier becomes when "one vector per window" becomes "one vector per
cell of a map". It sees the source operation and what stands for its inputs, and returns what stands for its output. It
builds nothing: a `Recipe` says which layers to build, on what, and how the weights move. Where it has no exact answer
it raises `Decline` with one sentence.

Most entries of the table are one of the kinds `kept` (the same layer), `windowed` (conv.py, pool.py), `rearranged`
(flatten.py) and `merged` (merge.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.geometry import Axis, Length, Number

# Values that a tensor of one window may have (4 GB of float32), and one that is flattened (1 GB of its positions).
VALUES, FLATTENED = 2**30, 2**27


class Decline(Exception):
    """A rule's refusal: one sentence on why, and one on what the user can do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class Arrange:
    """How one array of the source becomes one of the result: rows taken along the first axis, then reshaped."""

    take: np.ndarray | None = None
    shape: tuple[int, ...] | None = None

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The array of the result."""
        array = array if self.take is None else array[self.take]
        return array if self.shape is None else array.reshape(self.shape)

    def __eq__(self, other: object) -> bool:
        """Whether both move every array alike."""
        if not isinstance(other, Arrange) or self.shape != other.shape:
            return False
        if self.take is None or other.take is None:
            return self.take is other.take
        return np.array_equal(self.take, other.take)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Blueprint:
    """One layer or operation to create: its class, its config, and where its weights come from."""

    kind: type
    config: Mapping[str, Any]
    source: keras.layers.Layer | None = None
    arrange: Mapping[str, Arrange] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the result."""
        return self.config["name"]

    def same(self, other: Blueprint) -> bool:
        """Whether one created thing can serve for both."""
        mine, theirs = ({**b.config, "name": None} for b in (self, other))
        return self.kind is other.kind and mine == theirs and dict(self.arrange) == dict(other.arrange)


@dataclass(frozen=True, eq=False)
class Recipe:
    """One call in the result: a blueprint, and the arguments it is called with (recipes and constants).

    Without a blueprint it is one of the outputs of another call, or an input of the model.
    """

    blueprint: Blueprint | None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def part(self, i: int) -> Recipe:
        """The i-th output of a call that returns several."""
        return Recipe(None, (self, i))


@dataclass(frozen=True, eq=False)
class Map:
    """What stands for one tensor of the classifier: a map of the result, and how the tensor's values lie in it.

    Args:
        recipe: The call of the result that returns the map.
        shape: Shape of the classifier's tensor at the window, without the batch.
        dtype: Its dtype.
        size: Spatial size of the piece of map that holds the tensor's values: all ones for a vector.
        channels: Channels of the map.
        channels_first: Whether the map's channels come before its spatial axes.
        axes: Where the cells lie, one `Axis` per spatial axis; empty for a tensor that no position belongs to.
        index: None where the tensor is laid out as the map is. Else an array of the tensor's shape that says, for each
            of its values, the position in a piece of map of `(*size, channels)` in C order.
        reasons: What keeps the grid from being exact, each a layer's name and its cause.
        approximate: Whether one of them mixes more than the window.
        pools: Global poolings this vector comes from.
        apart: Whether it is one of the parts that fragments were split into.
        fragments: Shifted copies stacked in the batch, each an axis and their number, the last the outermost.
    """

    recipe: Recipe
    shape: tuple[int, ...]
    dtype: str
    size: tuple[int, ...]
    channels: int
    channels_first: bool
    axes: tuple[Axis, ...]
    index: np.ndarray | None = None
    reasons: tuple[str, ...] = ()
    approximate: bool = False
    pools: frozenset[int] = frozenset()
    fragments: tuple[tuple[int, int], ...] = ()
    apart: bool = False

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    @property
    def layout(self) -> tuple[int, ...]:
        """The shape of a tensor that is laid out as the map is."""
        return (self.channels, *self.size) if self.channels_first else (*self.size, self.channels)

    @property
    def data_format(self) -> str:
        """Keras's word for the order of the map's axes."""
        return "channels_first" if self.channels_first else "channels_last"

    @property
    def channel_axis(self) -> int:
        """The map's channel axis, the batch counted: 1 or -1."""
        return 1 if self.channels_first else -1

    @property
    def is_map(self) -> bool:
        """Whether the tensor is laid out as the map is."""
        return self.index is None

    @property
    def is_vector(self) -> bool:
        """Whether the tensor has one value per channel, in order."""
        ones = math.prod(self.size) == 1
        return ones and (self.index is None or np.array_equal(self.index.ravel(), np.arange(self.channels)))

    @property
    def positions(self) -> np.ndarray:
        """For each value of the tensor, its position in the piece of map."""
        if self.index is not None:
            return self.index
        values = math.prod(self.layout)
        if values > FLATTENED:
            raise Decline(
                f"rearranges {values:,} values, and the limit is {FLATTENED:,}",
                "convert the part before it with `until`",
            )
        plain = np.arange(values).reshape((*self.size, self.channels))
        return np.moveaxis(plain, -1, 0) if self.channels_first else plain

    @property
    def spatial(self) -> tuple[int, ...]:
        """The map's spatial axes, the batch counted."""
        first = 2 if self.channels_first else 1
        return tuple(range(first, first + self.rank))

    def over_channels(self, axis: int) -> bool:
        """Whether an axis of the tensor (the batch counted) runs over the channels, and over nothing else."""
        axis = axis % (len(self.shape) + 1)
        if self.is_map:
            return axis == self.channel_axis % (self.rank + 2)
        return self.is_vector and axis > 0 and self.shape[axis - 1] == self.channels

    def with_positions(self, positions: np.ndarray) -> Map:
        """The same map under another arrangement of the tensor's values."""
        plain = replace(self, index=None, shape=self.layout)
        same = positions.shape == plain.shape and np.array_equal(positions, plain.positions)
        return plain if same else replace(self, index=positions, shape=positions.shape)

    def then(self, recipe: Recipe, **changes: Any) -> Map:
        """What stands for the output of a call on this map."""
        return replace(self, recipe=recipe, **changes)


def needed(outputs: Sequence[Map]) -> set[int]:
    """Ids of the recipes that the outputs depend on."""
    found: set[int] = set()
    stack = [x.recipe for x in outputs]
    while stack:
        recipe = stack.pop()
        if id(recipe) not in found:
            found.add(id(recipe))
            stack += [x for x in keras.tree.flatten((recipe.args, dict(recipe.kwargs))) if isinstance(x, Recipe)]
    return found


@dataclass(frozen=True, eq=False)
class Places:
    """What stands for numbers along one axis of a map, known only when the model runs (see places.py).

    Args:
        recipe: The call that returns them.
        of: The map.
        axis: Which of its spatial axes.
        before: What was subtracted from each number.
        ratio: What it was divided by, if it was.
        length: How many there are, where it is not the map's length.
        interleaves: Whether they pick from fragments in turn.
    """

    recipe: Recipe
    of: Map
    axis: int
    before: int = 0
    ratio: int | None = None
    length: Length | None = None
    interleaves: bool = False


@dataclass
class Site:
    """Where a rule is applied: the place, the options, and the means to name and share what is built."""

    name: str
    key: int
    pool: str
    context: str
    head: str
    contexts: frozenset[int]
    dense: tuple[int, ...] | None
    lattice: tuple[Any, ...] | None
    shape: tuple[int, ...]
    dtype: str
    rank: int
    rules: Mapping[type, Any]
    blueprints: dict[Any, list[Blueprint]]
    taken: set[str]
    notes: list[str]
    recipes: list[Recipe]

    def layer(
        self,
        kind: type,
        config: Mapping[str, Any],
        *inputs: Any,
        source: Any = None,
        arrange: Any = None,
        suffix: str = "",
    ) -> Recipe:
        """A call of a new layer on maps or recipes.

        Args:
            kind: Class of the layer.
            config: Its config, the name left out.
            *inputs: Maps or recipes; a list for a layer that takes one.
            source: The layer whose weights move.
            arrange: How each of them moves, by the new layer's names; by default all of them, unchanged.
            suffix: Appended to the source's name, for layers that have no counterpart there.
        """
        if source is not None and arrange is None:
            arrange = {name: Arrange() for name in _keras.arrays(source)} if _keras.has_own_weights(source) else {}
        return self._call(self._shared(kind, config, source, arrange or {}, suffix), inputs, {})

    def operation(self, kind: type, config: Mapping[str, Any], *inputs: Any, suffix: str = "", **kwargs: Any) -> Recipe:
        """A call of a new operation on maps, recipes or constants."""
        return self._call(self._shared(kind, config, None, {}, suffix, fresh=True), inputs, kwargs)

    def note(self, text: str) -> None:
        """Say something in the report."""
        if text not in self.notes:
            self.notes.append(text)

    def _call(self, blueprint: Blueprint, inputs: Any, kwargs: Mapping[str, Any]) -> Recipe:
        recipe = Recipe(blueprint, _recipes(inputs), kwargs)
        self.recipes.append(recipe)
        return recipe

    def _shared(
        self,
        kind: type,
        config: Mapping[str, Any],
        source: keras.layers.Layer | None,
        arrange: Mapping[str, Arrange],
        suffix: str,
        fresh: bool = False,
    ) -> Blueprint:
        known = self.blueprints.setdefault((self.name, suffix), [])
        new = Blueprint(kind, {**config, "name": self._free(suffix, known)}, source, arrange)
        for old in known:
            if old.source is not None and new.source is not None and not old.same(new):
                raise Decline(
                    "is used more than once, on maps that need different kernels",
                    "give each use a layer of its own, and train or copy its weights",
                )
            if not fresh and old.same(new):
                return old
        self.taken.add(new.name)
        known.append(new)
        return new

    def _free(self, suffix: str, known: list[Blueprint]) -> str:
        if not suffix and not known:
            return self.name
        stem = f"{self.name}_{suffix}" if suffix else self.name
        numbers = (f"{stem}_{i}" if i else stem for i in range(10**6))
        return next(name for name in numbers if name not in self.taken)


Rule = Callable[..., Map | Places | list[Map]]
Pads = tuple[tuple[int, int], ...]


def _recipes(inputs: Any) -> Any:
    return keras.tree.map_structure(lambda x: x.recipe if isinstance(x, (Map, Places)) else x, tuple(inputs))


def config_of(layer: keras.layers.Layer) -> dict[str, Any]:
    """A config of the layer that can be changed; without LoRA, which is folded into the kernel."""
    if type(layer) is keras.layers.Identity:  # Keras gives no config of one that was made with a dtype policy
        return {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy.name}
    try:
        config = dict(layer.get_config())
    except NotImplementedError:
        raise Decline(
            "has no `get_config` from which Keras could build it again", "give its class one, as saving it needs too"
        ) from None
    if getattr(layer, "lora_enabled", False):
        for name in ("lora_rank", "lora_alpha"):
            config.pop(name, None)
    return config


def describe_size(size: tuple[Number, ...]) -> str:
    """A size as text, such as 7 x 7."""
    return " x ".join(str(n) for n in size)


def describe_axes(axes: Sequence[int]) -> str:
    """Axes as text, such as axes 1 and 2."""
    *before, last = map(str, axes)
    return f"axes {', '.join(before)} and {last}" if before else f"axis {last}"


def kept(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """The same layer, on the map: for everything that treats each value, or each channel, alike.

    given     (N, h*w*c) or (N, h, w, c)
    result    (N, H, W, c)
    """
    return x.then(site.layer(type(layer), config_of(layer), x, source=layer), dtype=site.dtype)


def dropped(layer: keras.layers.Layer, x: Map, *, site: Site, **_: Any) -> Map:
    """Nothing: the layer is the identity at inference."""
    site.note(f"{site.name} ({type(layer).__name__}) acts only in training and was left out.")
    return x


def axes_of(axis: Any) -> tuple[int, ...]:
    """An axis argument as a tuple."""
    return tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)


def slid(x: Map, kernel: tuple[int, ...], strides: tuple[int, ...], pads: Pads) -> tuple[Axis, ...]:
    """The axes after a kernel has slid over the map."""
    if not x.axes:
        return ()
    steps = zip(x.axes, kernel, strides, pads, strict=True)
    return tuple(axis.slide(k, s, left, right) for axis, k, s, (left, right) in steps)
