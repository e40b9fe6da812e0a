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
from fullyconv.finite import faults_in, refuse
from fullyconv.inputs import whole_numbers
from fullyconv.leftovers import Leftovers, some
from fullyconv.matching import Misfit, matched
from fullyconv.rules.rule import Arrange, describe_size
from fullyconv.walk import need_graph
from fullyconv.weight_files import Weight
from fullyconv.weight_sources import Flattened, Source, arrays, source_of, weighted


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
    strict: bool = True,
) -> LoadedWeights:
    """Load a classifier's weights into a fully convolutional network that you wrote yourself.

    A layer is loaded from the one of its name, or from the one `names` gives it. The kernel of a Dense layer is
    reshaped to that of the convolution in its place, in the order in which the map was flattened. All mismatches are
    reported together, and then nothing is changed: sizes that happen to agree are no reason to load.

    Every layer with weights must meet one of the other side. What the network is not to have of the classifier, such as
    an auxiliary head, is left out by name, `names={"aux": None}`. Where the network has layers that no classifier has,
    such as those that make its map larger, `strict=False` loads the others, and what is returned lists the rest.

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
        strict: Whether it is an error that a layer of the network gets no weights, or that one of the classifier's is
            used nowhere; those that `names` leaves out do not count, nor do layers without weights.

    Returns:
        What was loaded, and the layers of either side that were not.

    Raises:
        WeightsError: something does not fit, is left over, or is NaN or infinite; nothing was loaded.
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
    fitting.check(strict)
    values = [(variable, np.array(move(read()))) for variable, read, move in moves]
    fitting.check_values({id(variable): value for variable, value in values})
    for variable, value in values:
        variable.assign(value)
    fitting.settle()
    return fitting.report()


class _Fitting:
    """Which layers meet, whether they fit, and what does not."""

    def __init__(self, fcn: keras.Model, source: Source, names: Mapping[str, str | None], window: Window) -> None:
        self.fcn, self.source, self.window = fcn, source, source.window or window
        self.targets = dict(weighted(fcn))
        self.names = names
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
            except Misfit as misfit:
                self.wrong.append(f"{_arrow(name, target)}: {misfit}")
        return found

    def check(self, strict: bool) -> None:
        """Raise where something does not fit, everything at once; and where something is left over, if that counts."""
        left = self._left()
        if strict and not self.wrong and left:
            raise WeightsError(
                f"{self.source.what} and {self.fcn.name!r} do not have the same layers; nothing was loaded.",
                left.lines(self.source.what, repr(self.fcn.name)),
                left.remedy(self.names, self._guess(left), bool(self.pairs)),
            )
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

    def check_values(self, values: Mapping[int, np.ndarray]) -> None:
        """Raise where arrays hold what cannot be right; each is given by the id of its variable."""
        lines = []
        for name, target in self.pairs:
            layer = self.targets[target]
            found = faults_in(layer, {v.name: values[id(v)] for v in layer.weights if id(v) in values})
            lines += [f"{_arrow(name, target)}: {', '.join(found)}"] if found else []
        if lines:
            refuse(f"{self.source.what} holds weights that cannot be right; nothing was loaded.", lines)

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
                f"{some(self.assumed)}: taken to read what Keras's Flatten makes of a map, row by row. "
                f"{why.rstrip('.')}; give the classifier in its place to be sure."
            )
        for part, layers in self.taken.items():
            yield (
                f"{some(layers)}: {self.source.what} does not name its arrays; the first of each was taken "
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
        return [f"only in the {where}: {some(names, 8)}" for where, names in both if names]

    def _left(self) -> Leftovers:
        """The layers that have no counterpart and should have one, with their arrays."""
        sources, targets = self._rest()
        return Leftovers(
            {n: in_words(self.source.layers[n]) for n in sources if self.names.get(n, n) is not None},
            {n: in_words(list(arrays(n, self.targets[n]))) for n in targets},
        )

    def _guess(self, left: Leftovers) -> dict[str, str]:
        """Names with which nothing is left over, each layer in the first that it fits; empty if there are none."""
        found: dict[str, str] = {}
        for name in left.weights:
            fits = (target for target in left.network if target not in found.values() and self._fits(name, target))
            target = next(fits, None)
            found |= {name: target} if target else {}
        trial = _Fitting(self.fcn, self.source, {**self.names, **found}, self.window)
        trial.moves()
        return {} if trial.wrong or trial._left() else found

    def _fits(self, name: str, target: str) -> bool:
        """Whether the arrays of a layer can go into another, as far as their sizes and the layers' classes say."""
        try:
            matched(self.source, name, target, self.targets[target])
        except Misfit:
            return False
        return True

    def _moves(self, name: str, target: str) -> Iterator[tuple[Any, Any, Arrange]]:
        layer = self.targets[target]
        arranged = matched(self.source, name, target, layer)
        self._compare(name, target, self.source.layers[name])
        variables = {v.name: v for v in layer.weights} if arranged[0][2].name else dict(enumerate(layer.weights))
        for i, (is_dense, have, want) in enumerate(arranged):
            move = self._kernel(name, target, want.shape) if is_dense else Arrange(None, want.shape)
            yield variables[want.name or i], have.read, move

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
            raise Misfit("a convolution with groups or dilation does not cover the map that was flattened")
        several, known = math.prod(size) > 1, self.source.flattened.get(name)
        if isinstance(known, str) and several:
            raise Misfit(f"what {name} was flattened from is not known: {known}")
        enters, stride = self.entering.into(layer) if self.entering else (None, ())
        move = known.read_by(enters, shape) if isinstance(known, Flattened) else Arrange(None, shape)
        if isinstance(known, Flattened) and move is None:
            covered = describe_size(known.size)
            raise Misfit(f"reads a flattened map of {covered}, and the kernel covers {describe_size(shape[:-1])}")
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
            raise Misfit(f"the window is too small: nothing is left at {self.reached.stopped} in front of it")
        if known is None:
            self._check_guess(name, reached, size)
        shape = reached.spec.shape
        enters = tuple(shape[2:] if layer.data_format == "channels_first" else shape[1:-1])
        if self.window is None or enters == size:
            return
        entering = f"a map of {describe_size(enters)} enters at the window"
        if not isinstance(known, Flattened):
            raise Misfit(f"{entering}, and the kernel covers {describe_size(size)}")
        if stride and known.stride and stride != known.stride:
            raise Misfit(
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
            raise Misfit(
                f"what {name} was flattened from is not known, since {', '.join(missing)} in front is not loaded; "
                "give the classifier in place of its weights"
            )
        if self.window is None and len(set(size)) > 1:
            raise Misfit(
                f"whether {name} was flattened from a map of {describe_size(size)} is not known; give the window, "
                "or the classifier in place of its weights"
            )


# What changes a layer's answer besides its arrays, and seldom on purpose.
_SETTINGS = ("strides", "dilation_rate", "epsilon")


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


def _arrow(name: str, target: str) -> str:
    return name if name == target else f"{name} -> {target}"


def _check_graph(model: Any) -> None:
    """Refuse what is not a model with a graph."""
    if isinstance(model, keras.Model) and _keras.graph_of(model) is None:
        raise UnsupportedModelError(
            f"{model.name!r} has no graph: its layers are called in Python, or its input has no shape yet.\n"
            "Build it with the functional API (keras.Model(inputs, outputs)), or start it with keras.Input."
        )
    need_graph(model)
