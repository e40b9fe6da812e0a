"""Carry a plan out, layer by layer, moving the weights; what the result can do, and how it is saved and loaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from fullyconv import _keras, _saved
from fullyconv.cost import Cost, Size, cost
from fullyconv.engine import Compiled, compile
from fullyconv.errors import GeometryError, InputTooSmallError, ModelFileError, OutputError, WindowError
from fullyconv.facts import SavingWarning, kept, not_kept, read_facts, write_facts
from fullyconv.files import written_whole
from fullyconv.finite import check_weights
from fullyconv.geometry import Grid
from fullyconv.inputs import image_size, whole_numbers, window_of
from fullyconv.model_files import read_model
from fullyconv.plan import Plan, plan
from fullyconv.rules.rule import Arrange, Blueprint, Map, Recipe, describe_size, needed


def convert(model: keras.Model | Plan, **options: Any) -> FullyConv:
    """A fully convolutional network that gives the classifier's answer at every position of an image of any size.

    At the window it equals the classifier. What holds elsewhere is what its grids say. The classifier is left as it
    is, and shares nothing with the result.

    Args:
        model: A classifier, or a `Plan` of one.
        **options: Those of `fullyconv.plan`.

    Returns:
        A `FullyConv`, whose `model` is a plain `keras.Model`.

    Raises:
        UnsupportedLayerError: layers have no rule; all of them are named.
        UnsupportedModelError: the model has no graph, or reads no image.
        WindowError: the window is missing, or contradicts the model.
        WeightsError: weights are NaN, infinite or complex, or a variance is not above 0; their layers are named.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)])
        >>> fullyconv.convert(model).model.output_shape
        (None, None, None, 5)
    """
    made = model if isinstance(model, Plan) else plan(model, **options)
    if made is model and options:
        raise TypeError(f"A plan has its options already: give {sorted(options)} to fullyconv.plan instead.")
    part = made.options["until"] is not None
    if not part:
        check_weights(made.model)
    network = _Builder(made).model()
    if part:  # the layers behind it may hold anything
        check_weights(network)
    return FullyConv(network, made.grids, plan=made)


class _Builder:
    """Builds what a plan describes, each layer once and each call in order."""

    def __init__(self, made: Plan) -> None:
        self.plan = made
        self.built: dict[int, Any] = {}
        self.tensors: dict[int, Any] = {}

    def model(self) -> keras.Model:
        """The model of the plan."""
        inputs = self._inputs()
        wanted = needed(self.plan.outputs)
        for recipe in self.plan.recipes:
            if id(recipe) in wanted:
                self.tensors[id(recipe)] = self._call(recipe)
        outputs = [self._tensor(x.recipe) for x in self.plan.outputs]
        structure = keras.tree.pack_sequence_as(self.plan.structure, outputs)
        return keras.Model(inputs, structure, name=self.plan.model.name)

    def _inputs(self) -> Any:
        structure = _keras.input_structure(self.plan.model)
        tensors = [self._input(t, x) for t, x in zip(keras.tree.flatten(structure), self.plan.inputs, strict=True)]
        return keras.tree.pack_sequence_as(structure, tensors)

    def _input(self, source: Any, x: Map) -> Any:
        sizes = (None,) * x.rank
        shape = (x.channels, *sizes) if x.channels_first else (*sizes, x.channels)
        tensor = keras.Input(shape if x.axes else (x.channels,), dtype=source.dtype, name=source.name)
        self.tensors[id(x.recipe)] = tensor
        if not x.axes:
            ones = (x.channels, *x.size) if x.channels_first else (*x.size, x.channels)
            self.tensors[id(x.recipe)] = keras.layers.Reshape(ones, name=f"{source.name}_everywhere")(tensor)
        return tensor

    def _tensor(self, recipe: Recipe) -> Any:
        if id(recipe) not in self.tensors and recipe.blueprint is None:
            whole, i = recipe.args
            return self.tensors[id(whole)][i]
        return self.tensors[id(recipe)]

    def _call(self, recipe: Recipe) -> Any:
        blueprint = cast("Blueprint", recipe.blueprint)
        args, kwargs = keras.tree.map_structure(
            lambda x: self._tensor(x) if isinstance(x, Recipe) else x, (recipe.args, dict(recipe.kwargs))
        )
        if id(blueprint) in self.built:
            return self.built[id(blueprint)](*args, **kwargs)
        built, outputs = _build(blueprint, args, kwargs)
        self.built[id(blueprint)] = built
        return outputs


def _build(blueprint: Blueprint, args: Any, kwargs: Any) -> tuple[Any, Any]:
    if not issubclass(blueprint.kind, keras.layers.Layer):
        operation = blueprint.kind(**blueprint.config)
        return operation, operation(*args, **kwargs)
    fetch = _keras.arrays(blueprint.source) if blueprint.arrange else {}
    values = {name: partial(_moved, move, fetch, name) for name, move in blueprint.arrange.items()}
    layer, outputs = _keras.build_layer(blueprint.kind, blueprint.config, values, args, kwargs)
    if blueprint.source is not None and not blueprint.arrange:
        _keras.copy_weights(blueprint.source, layer)
    return layer, outputs


def _moved(move: Arrange, fetch: Mapping[str, Callable[[], np.ndarray]], name: str) -> np.ndarray:
    return move(fetch[name]())


class FullyConv:
    """A fully convolutional network and where its cells lie.

    Args:
        model: The network, a plain `keras.Model` whose spatial sizes are None.
        grids: The grid of each output, in the outputs' structure.
        plan: The plan it was made by, if it was.
        labels: Names of its classes.
        preprocess: How images are prepared for it.
        options: The options it was converted with; by default the plan's.
    """

    def __init__(
        self,
        model: keras.Model,
        grids: Any,
        plan: Plan | None = None,
        labels: Sequence[str] | None = None,
        preprocess: Any = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = dict(options or (plan.options if plan is not None else {}))
        self.model = model
        self.grids = grids
        self.plan = plan
        self.labels = list(labels) if labels is not None else None
        self.preprocess = preprocess
        self._compiled: Compiled | None = None

    @property
    def grid(self) -> Grid:
        """The grid of the only output.

        Raises:
            GeometryError: there are several outputs.
        """
        grids = keras.tree.flatten(self.grids)
        if len(grids) > 1:
            raise GeometryError(
                f"{self.model.name!r} has {len(grids)} outputs, each with a grid of its own.\nTake one from `.grids`."
            )
        return grids[0]

    @property
    def exactness(self) -> str:
        """The weakest exactness of its outputs: `"exact"`, `"native"` or `"approximate"`."""
        order = ("exact", "native", "approximate")
        return max((grid.exactness for grid in keras.tree.flatten(self.grids)), key=order.index)

    @property
    def window(self) -> tuple[int, ...]:
        """Spatial size of the classifier's input, which is the smallest input."""
        return keras.tree.flatten(self.grids)[0].window

    @property
    def data_format(self) -> str:
        """The order of the axes of its images: `"channels_last"` or `"channels_first"`.

        That of an output is what its grid says.
        """
        image = next(t for t in self.model.inputs if len(t.shape) > 2)
        return "channels_first" if image.shape[1] is not None else "channels_last"

    def cost(self, size: Size | None = None) -> Cost:
        """What it costs for one image; as `Plan.cost`.

        Args:
            size: Spatial size of the image in pixels; by default the window.

        Raises:
            InputTooSmallError: it is smaller than the window.
            GeometryError: it is not one whole number above 0, or one for each spatial axis.
        """
        return cost(self.model, image_size(size, self.window))

    def predict(self, x: Any) -> Any:
        """The maps of a batch of images, through the engine.

        Args:
            x: Images, `(batch, *spatial, channels)` or channels first as the model has them, in its input structure.

        Returns:
            NumPy arrays `(batch, *cells, units)`, in the outputs' structure; `(batch, units, *cells)` where the grid of
            an output says `channels_first`.

        Raises:
            InputTooSmallError: an image is smaller than the window.
            GeometryError: an image has another rank or number of channels.
        """
        self.check(x)
        if self._compiled is None:
            self._compiled = compile(self.model)
        return self._compiled(x)

    __call__ = predict

    def check(self, x: Any) -> None:
        """Refuse images that the network cannot read: another number of arrays, another rank, channels, too small.

        Args:
            x: Images, as `predict` takes them.

        Raises:
            InputTooSmallError: an image is smaller than the window.
            GeometryError: anything else does not fit.
        """
        first = self.data_format == "channels_first"
        arrays = keras.tree.flatten(x)
        if len(arrays) != len(self.model.inputs):
            raise GeometryError(
                f"{len(arrays)} arrays were given, and {self.model.name!r} has {len(self.model.inputs)} "
                f"input{'s' * (len(self.model.inputs) > 1)}.\n"
                f"Give one array for each input; several images of one size go into one array:  np.stack(images)"
            )
        for array, tensor in zip(arrays, self.model.inputs, strict=True):
            shape = np.shape(array)
            channel = 1 if first else -1
            if len(shape) != len(tensor.shape) or shape[channel] != tensor.shape[channel]:
                raise GeometryError(
                    f"The input has the shape {shape}, but {self.model.name!r} reads {tensor.shape}.\n"
                    f"Give a batch of images with the channels {'first' if first else 'last'}."
                )
            size = shape[2:] if first else shape[1:-1]
            if any(n < w for n, w in zip(size, self.window, strict=False)):
                raise InputTooSmallError(size, self.window)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as a `.keras` file, which stock Keras opens too; grids, labels and preprocessing travel in it.

        A file that is there is replaced, once the new one is whole. Functions do
        not travel: a `SavingWarning` names a preprocessing, or rules of your own, to be given again on loading.

        Raises:
            OutputError: the path does not end in `.keras`, or cannot be written.
        """
        target = Path(path)
        if target.suffix != ".keras":
            raise OutputError(
                f"Cannot save to {target}: the file must end in .keras, which keeps graphs of operations."
            )
        with written_whole(target) as draft:
            _saved.check_room(self.model, target)
            self.model.save(draft)
            write_facts(draft, self._facts())
        for sentence in not_kept(target, self.preprocess, self.options.get("rules")):
            warnings.warn(sentence, SavingWarning, stacklevel=2)

    def _facts(self) -> dict[str, Any]:
        reasons = [[grid.exactness, grid.reasons] for grid in keras.tree.flatten(self.grids)]
        return {
            "window": self.window,
            "grids": reasons,
            "labels": self.labels,
            "preprocess": kept(self.preprocess),
            "options": {name: value for name, value in self.options.items() if name != "rules"},
        }

    def __repr__(self) -> str:
        """Its name, window and exactness."""
        return f"<FullyConv {self.model.name!r}, window {self.window}, {self.exactness}>"


def load(
    path: str | os.PathLike[str],
    window: int | Sequence[int] | None = None,
    *,
    rules: Mapping[type, Any] | None = None,
    **options: Any,
) -> FullyConv:
    """A saved fully convolutional network, its grids worked out again from its graph.

    Args:
        path: A `.keras` file, saved by `FullyConv.save` or, after fine-tuning, by Keras.
        window: Spatial size of the classifier's input; needed where Keras saved the file, which drops it.
        rules: Rules of your own, which it was converted with.
        **options: Those of `keras.models.load_model`.

    Returns:
        A `FullyConv`.

    Raises:
        ModelFileError: there is no such file, it holds no model, or a classifier that was not converted.
        WindowError: the window is neither in the file nor given.
        WeightsError: weights are NaN, infinite or complex, or a variance is not above 0; their layers are named.
    """
    model = read_model(Path(path), **options)
    facts = read_facts(Path(path))
    if not facts:
        _check_open(path, model)
    window = _agreed(path, window, facts.get("window"))
    if window is None:
        raise WindowError(
            f"{Path(path).name} does not say which window its network was made for: Keras saved it, which drops that, "
            f"or it was never converted.\n"
            f"Give the size it was trained on:  fullyconv.load(path, window=224)"
        )
    made = plan(model, window=window, pool="global", context="global", rules=rules)
    check_weights(model)
    grids = _with_reasons(made.grids, facts.get("grids") or ())
    known = {name: facts.get(name) for name in ("labels", "preprocess", "options")}
    if rules:
        known["options"] = {**(known["options"] or {}), "rules": rules}
    return FullyConv(model, grids, **known)


def _check_open(path: str | os.PathLike[str], model: keras.Model) -> None:
    """Refuse a model that reads images of one size alone, as no converted network does."""
    shapes = [tensor.shape[1:] for tensor in model.inputs if len(tensor.shape) > 2]
    if shapes and not any(None in shape for shape in shapes):
        raise ModelFileError(
            f"{Path(path).name} is a classifier already, not a converted network: it reads images of "
            f"{describe_size(window_of(model))} alone.\n"
            f"Give a network that was converted:  fullyconv.convert(model).save(path)"
        )


def _agreed(path: str | os.PathLike[str], given: Any, known: Sequence[int] | None) -> Any:
    """The window that is given, or that the file knows: they must be the same."""
    if given is None or known is None:
        return known if given is None else given
    sizes = whole_numbers(given, len(known), "window", WindowError)
    if sizes != tuple(known):
        raise WindowError(
            f"{Path(path).name} was made for a window of {describe_size(tuple(known))}, not {describe_size(sizes)}.\n"
            f"Leave `window` out: the file knows it."
        )
    return given


def _with_reasons(grids: Any, saved: Sequence[Any]) -> Any:
    """Grids worked out from a graph, with the reasons that name the classifier's own layers where they were saved."""
    flat = keras.tree.flatten(grids)
    for i, (grid, (exactness, reasons)) in enumerate(zip(flat, saved, strict=False)):
        flat[i] = replace(grid, reasons=tuple(reasons)) if grid.exactness == exactness else grid
    return keras.tree.pack_sequence_as(grids, flat)
