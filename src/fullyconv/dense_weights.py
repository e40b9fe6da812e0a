"""A classifier's weights loaded into a fully convolutional network that was written by hand.

Layers meet by name, their arrays by name and shape. A Dense kernel becomes that of a convolution only where the
convolution covers the map that the Dense layer's input was flattened from. All of it fits, or nothing is changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.answers import apart_at_window
from fullyconv.classifier_weights import in_words
from fullyconv.entering import Reached, Window, entering, rank, reached
from fullyconv.errors import UnsupportedModelError, WeightsError, WindowError
from fullyconv.inputs import whole_numbers
from fullyconv.rules.rule import Arrange, describe_size
from fullyconv.walk import need_graph
from fullyconv.weight_files import Weight
from fullyconv.weight_sources import CONVOLUTIONS, DENSE, Flattened, Source, arrays, source_of, weighted


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded, and what was not.

    Args:
        loaded: The layers that were loaded: the classifier's name and the network's.
        only_in_weights: The classifier's layers that have no counterpart in the network.
        only_in_model: The network's layers that have none in the classifier, and keep the weights they had.
        notes: What the user should know.
    """

    loaded: tuple[tuple[str, str], ...]
    only_in_weights: tuple[str, ...]
    only_in_model: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """The same in a few lines."""
        lines = [f"Loaded {len(self.loaded)} layers."]
        for where, names in (("weights", self.only_in_weights), ("network", self.only_in_model)):
            lines += [f"Only in the {where}, and not loaded: {', '.join(names)}."] if names else []
        return "\n".join([*lines, *self.notes])


def load_dense_weights(
    fcn: keras.Model,
    weights: keras.Model | str | Path,
    names: Mapping[str, str | None] | None = None,
    *,
    window: Window = None,
) -> LoadedWeights:
    """Load a classifier's weights into a fully convolutional network that you wrote yourself.

    A layer is loaded from the one of its name, or from the one `names` gives it. The kernel of a Dense layer is
    reshaped to that of the convolution in its place, in the order in which the map was flattened. All mismatches are
    reported together, and then nothing is changed: sizes that happen to agree are no reason to load.

    How the map was flattened is known from the classifier, given as a model or inside a file. A file of weights alone
    does not say it: there it is taken for Keras's `Flatten`, on a map of the size of the kernel, and a note says so.
    That is checked where it can be: the layers in front must have been loaded too, and a kernel that is not square
    needs the `window`. Where the window is known, the map that enters there must have the size of the kernel, or at
    least the stride of the classifier's (a network may pad more, as those of Long et al., CVPR 2015, do). Where all of
    a classifier was loaded, both answer two images of noise at the window; a note says how far apart they are, if they
    are.

    Args:
        fcn: The network, which is changed.
        weights: The classifier, or the path of its file: `.weights.h5`, `.keras`, or `.h5` of weights or a model.
        names: Names of the network's layers by those of the classifier, where they differ; None leaves a layer out.
        window: Spatial size in pixels of the images the classifier was trained on, where its input leaves it open.

    Returns:
        What was loaded, and the layers of either side that were not.

    Raises:
        WeightsError: something does not fit; nothing was loaded.
        ModelFileError: the file cannot be read.
        UnsupportedModelError: the network or the classifier is no model with a graph.
        WindowError: the window is not one whole number above 0, or one for each spatial axis, or contradicts the
            classifier's input.
        TypeError: `names` is no mapping.

    Example:
        >>> classifier = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5, name="fc")])
        >>> fcn = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(5, 8, name="score")])
        >>> print(fullyconv.load_dense_weights(fcn, classifier, {"fc": "score"}))
        Loaded 1 layers.
    """
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(
            f'`names` maps the name in the weights to that in the network, {{"fc1": "conv"}}, not {names!r}.'
        )
    _check_graph(fcn)
    if window is not None:
        window = whole_numbers(window, rank(fcn), "window", WindowError)
    fitting = _Fitting(fcn, source_of(weights, window), names or {}, window)
    moves = fitting.moves()
    fitting.check()
    values = [(variable, np.array(move(read()))) for variable, read, move in moves]
    for variable, value in values:
        variable.assign(value)
    fitting.settle()
    return fitting.report()


class _Misfit(Exception):
    """Why one layer cannot be loaded: one sentence."""


class _Fitting:
    """Which layers meet, whether they fit, and what does not."""

    def __init__(self, fcn: keras.Model, source: Source, names: Mapping[str, str | None], window: Window) -> None:
        self.fcn, self.source, self.window = fcn, source, source.window or window
        self.targets = dict(weighted(fcn))
        self.wrong = list(_misnamed(names, source, self.targets, fcn.name))
        self.turned = bool(self.wrong) and all(k in self.targets and v in source.layers for k, v in names.items())
        wanted = [(name, names.get(name, name)) for name in source.layers]
        self.pairs = [(name, target) for name, target in wanted if target is not None and target in self.targets]
        self.wrong += _asked_twice(self.pairs)
        self.reached = reached(fcn, self.window, {id(layer): name for name, layer in self.targets.items()})
        self.entering = entering(fcn, self.window) if source.window else None  # only a classifier's maps are known
        self.notes: list[str] = []
        self.assumed: list[str] = []
        self.taken: dict[str, list[str]] = {}

    def moves(self) -> list[tuple[Any, Any, Arrange]]:
        """For each variable that can be loaded: what reads its array, and how that is arranged."""
        found: list[tuple[Any, Any, Arrange]] = []
        for name, target in self.pairs:
            try:
                found += list(self._moves(name, target))
            except _Misfit as misfit:
                self.wrong.append(f"{_arrow(name, target)}: {misfit}")
        return found

    def check(self) -> None:
        """Raise where something does not fit, everything at once."""
        if not self.pairs and not self.wrong:
            raise WeightsError(
                f"{self.source.what} and {self.fcn.name!r} have no layer of the same name; nothing was loaded.",
                self._alone(),
                'Say which is which: names={"fc1": "conv_fc1"}, the name in the weights first.',
            )
        if self.wrong:
            raise WeightsError(
                f"{self.source.what} does not fit {self.fcn.name!r}; nothing was loaded.",
                [*self.wrong, *self._alone()],
                "Turn `names` around: the name in the weights comes first."
                if self.turned
                else "Change the network, or leave a layer of the weights out: names={name: None}.",
            )

    def settle(self) -> None:
        """Let layers use what they were given: no LoRA on top of the kernel, and no statistics of before."""
        for layer in (self.targets[target] for _, target in self.pairs):
            for variable in layer.weights:
                if variable.name.startswith("lora_"):
                    variable.assign(np.zeros(variable.shape))
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()

    def report(self) -> LoadedWeights:
        """What was loaded."""
        notes = (*self.notes, *self._guesses(), *self._answers())
        return LoadedWeights(tuple(self.pairs), *self._rest(), notes)

    def _answers(self) -> Iterator[str]:
        """Whether the network answers as the classifier does at the window, where all of it was loaded."""
        if self.source.model is not None and self.window is not None and not any(self._rest()):
            apart = apart_at_window(self.source.model, self.fcn, self.window)
            if apart is not None:
                yield (
                    f"At the window its answers differ from the classifier's, by {apart:.2g} of the largest: a layer "
                    "without weights, such as an activation or a pooling, is missing, is another, or stands elsewhere."
                )

    def _guesses(self) -> Iterator[str]:
        """What the arrays alone do not say, and how it was taken."""
        if self.assumed:
            why = self.source.unread or f"{self.source.what} holds weights alone, which do not say it"
            yield (
                f"{_some(self.assumed)}: taken to read what Keras's Flatten makes of a map, row by row. "
                f"{why.rstrip('.')}; give the classifier in its place to be sure."
            )
        for part, layers in self.taken.items():
            yield (
                f"{_some(layers)}: {self.source.what} does not name its arrays; the first of each was taken "
                f"for {part}, which is all that the network's layer has."
            )

    def _rest(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        sources, targets = ({pair[i] for pair in self.pairs} for i in (0, 1))
        return tuple(n for n in self.source.layers if n not in sources), tuple(
            n for n in self.targets if n not in targets
        )

    def _alone(self) -> list[str]:
        """The layers that have no counterpart, in words."""
        both = zip(("weights", "network"), self._rest(), strict=True)
        return [f"only in the {where}: {', '.join(names)}" for where, names in both if names]

    def _moves(self, name: str, target: str) -> Iterator[tuple[Any, Any, Arrange]]:
        stored, layer = self.source.layers[name], self.targets[target]
        wanted = list(arrays(target, layer))
        aligned = _aligned(stored, wanted)
        if aligned is None:
            raise _Misfit(_shapes(stored, wanted))
        dense = [isinstance(layer, CONVOLUTIONS) and len(have.shape) == 2 for have, _ in aligned]
        slopes = isinstance(layer, keras.layers.PReLU)  # of units, or of channels that all positions share
        alike = [
            h.shape == w.shape or (d and _same_sums(h, w)) or (slopes and _same_slopes(h, w))
            for d, (h, w) in zip(dense, aligned, strict=True)
        ]
        if not all(alike):
            raise _Misfit(_shapes(stored, wanted))
        self._check_kind(name, layer, DENSE if any(dense) else ())
        self._compare(name, target, stored)
        variables = {v.name: v for v in layer.weights} if wanted[0].name else dict(enumerate(layer.weights))
        for i, (is_dense, (have, want)) in enumerate(zip(dense, aligned, strict=True)):
            move = self._kernel(name, target, want.shape) if is_dense else Arrange(None, want.shape)
            yield variables[want.name or i], have.read, move

    def _check_kind(self, name: str, layer: Any, also: tuple[type, ...]) -> None:
        """Refuse arrays of a layer of another class, whose sizes only happen to agree."""
        known = self.source.objects.get(name)
        kind = type(known) if known is not None else self.source.layers[name][0].kind
        if kind is not None and not issubclass(kind, also) and _stock(kind) is not _stock(type(layer)):
            raise _Misfit(f"{kind.__name__} in the weights, {type(layer).__name__} in the network")

    def _compare(self, name: str, target: str, stored: Sequence[Weight]) -> None:
        """Say what else differs, or cannot be known."""
        layer, known = self.targets[target], self.source.objects.get(name)
        for setting in _SETTINGS:
            have, want = getattr(known, setting, None), getattr(layer, setting, None)
            if have is not None and want is not None and have != want:
                self.notes.append(f"{_arrow(name, target)}: {setting} {have} in the weights, {want} in the network.")
        given = [part for part in ("gamma", "beta") if getattr(layer, part, None) is not None]
        if len(given) == 1 and all(weight.name is None for weight in stored):
            self.taken.setdefault(given[0], []).append(target)

    def _kernel(self, name: str, target: str, shape: tuple[int, ...]) -> Arrange:
        """How a Dense kernel becomes that of the convolution, which must cover the flattened map."""
        layer, size = self.targets[target], shape[:-2]
        if layer.groups != 1 or any(d != 1 for d in layer.dilation_rate):
            raise _Misfit("a convolution with groups or dilation does not cover the map that was flattened")
        several, known = math.prod(size) > 1, self.source.flattened.get(name)
        if isinstance(known, str) and several:
            raise _Misfit(f"what {name} was flattened from is not known: {known}")
        enters, stride = self.entering.into(layer) if self.entering else (None, ())
        move = known.read_by(enters, shape) if isinstance(known, Flattened) else Arrange(None, shape)
        if isinstance(known, Flattened) and move is None:
            covered = describe_size(known.size)
            raise _Misfit(f"reads a flattened map of {covered}, and the kernel covers {describe_size(shape[:-1])}")
        if several:
            self._check_cover(name, target, size, stride)
        if layer.padding != "valid" and several:
            self.notes.append(
                f"{target} pads: of its cells at the window only the centre one is the classifier's answer. "
                'Use padding="valid".'
            )
        if known is None and several:
            self.assumed.append(name)
        return move or Arrange(None, shape)

    def _check_cover(self, name: str, target: str, size: tuple[int, ...], stride: tuple[Any, ...]) -> None:
        """Refuse a kernel of the right number of values that does not cover the map in front of it."""
        layer, known = self.targets[target], self.source.flattened.get(name)
        reached = self.reached.entering.get(id(layer))
        if reached is None:
            raise _Misfit(f"the window is too small: nothing is left at {self.reached.stopped} in front of it")
        if known is None:
            self._check_guess(name, reached, size)
        shape = reached.spec.shape
        enters = tuple(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])
        if self.window is None or enters == size:
            return
        entering = f"a map of {describe_size(enters)} enters at the window"
        if not isinstance(known, Flattened):
            raise _Misfit(f"{entering}, and the kernel covers {describe_size(size)}")
        if stride and known.stride and stride != known.stride:
            raise _Misfit(
                f"{entering}, {describe_size(stride)} pixels apart, where the classifier has {describe_size(size)}, "
                f"{describe_size(known.stride)} apart"
            )
        self.notes.append(
            f"{target}: {entering}, where the classifier has {describe_size(size)}. If the network pads, crops or "
            "resizes otherwise, its cells lie elsewhere."
        )

    def _check_guess(self, name: str, reached: Reached, size: tuple[int, ...]) -> None:
        """Refuse where nothing but the number of values says what the Dense layer has read."""
        missing = sorted(reached.layers - {t for _, t in self.pairs})
        if missing:
            raise _Misfit(
                f"what {name} was flattened from is not known, since {', '.join(missing)} in front is not loaded; "
                "give the classifier in place of its weights"
            )
        if self.window is None and len(set(size)) > 1:
            raise _Misfit(
                f"whether {name} was flattened from a map of {describe_size(size)} is not known; give the window, "
                "or the classifier in place of its weights"
            )


# What changes a layer's answer besides its arrays, and seldom on purpose.
_SETTINGS = ("strides", "dilation_rate", "epsilon")


def _stock(kind: type) -> type:
    """The class of Keras that a layer's class is made from; itself where that is only `Layer`."""
    found = next(c for c in kind.__mro__ if c.__module__.startswith("keras."))
    return kind if found is keras.layers.Layer else found


def _misnamed(names: Mapping[str, str | None], source: Source, targets: Mapping[str, Any], model: str) -> Iterator[str]:
    for name, target in names.items():
        if name not in source.layers:
            yield f"names: {source.what} has no layer {name!r} with weights"
        if target is not None and target not in targets:
            yield f"names: {model!r} has no layer {target!r} with weights"


def _asked_twice(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    for target in dict.fromkeys(target for _, target in pairs):
        askers = [name for name, t in pairs if t == target]
        if len(askers) > 1:
            yield f"names: {target!r} would be loaded from {' and from '.join(map(repr, askers))}"


def _some(names: Sequence[str], most: int = 3) -> str:
    """Names as text, the first few of them."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _arrow(name: str, target: str) -> str:
    return name if name == target else f"{name} -> {target}"


def _shapes(stored: Sequence[Weight], wanted: Sequence[Weight]) -> str:
    names = [w.name for w in wanted] if len(stored) == len(wanted) else []
    return f"{in_words(stored, names)} in the weights, {in_words(wanted)} in the network"


def _same_slopes(have: Weight, want: Weight) -> bool:
    """Whether slopes of units are those of channels, which come behind axes of one."""
    return want.shape == (1,) * (len(want.shape) - 1) + have.shape


def _same_sums(have: Weight, want: Weight) -> bool:
    """Whether a Dense kernel has a row for each value under the convolution's kernel, and its units."""
    return have.shape == (math.prod(want.shape[:-1]), want.shape[-1])


def _aligned(stored: Sequence[Weight], wanted: Sequence[Weight]) -> list[tuple[Weight, Weight]] | None:
    """The arrays that belong together, by name; in order where the file has no names, or none that Keras has."""
    have, want = {w.name: w for w in stored}, {w.name: w for w in wanted}
    if None not in have and None not in want and have.keys() == want.keys():
        return [(have[name], want[name]) for name in want]
    apart = have.keys().isdisjoint(want.keys() - {None})
    return list(zip(stored, wanted, strict=True)) if apart and len(stored) == len(wanted) else None


def _check_graph(model: Any) -> None:
    """Refuse what is not a model with a graph."""
    if isinstance(model, keras.Model) and _keras.graph_of(model) is None:
        raise UnsupportedModelError(
            f"{model.name!r} has no graph: its layers are called in Python, or its input has no shape yet.\n"
            "Build it with the functional API (keras.Model(inputs, outputs)), or start it with keras.Input."
        )
    need_graph(model)
