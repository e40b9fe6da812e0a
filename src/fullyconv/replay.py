"""A fully convolutional network rebuilt for images of its window, where its head gives one vector: a classifier.

Every call of the network is made again on an input of the window's size. The head is the part behind which nothing but
single cells is computed. There a convolution over the whole map is a Dense layer on the flattened map, a pooling of it
is a global pooling, and layers over the channels work on vectors; what has no form on vectors stays on a map of one
cell.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.convert import FullyConv
from fullyconv.errors import UnsupportedModelError
from fullyconv.rules import RULES
from fullyconv.rules.conv import class_of_rank
from fullyconv.rules.order import turns
from fullyconv.rules.pointwise import along_channels, elementwise
from fullyconv.rules.rule import config_of, describe_size

Values = Mapping[str, Callable[[], np.ndarray]]
_ops, _layers = _keras.numpy_operations, keras.layers

# Layers of a head that do the same to a vector as to the channels of a cell.
_SAME = (
    *(_layers.Activation, _layers.ActivityRegularization, _layers.ELU, _layers.Identity, _layers.LeakyReLU),
    *(_layers.ReLU, _layers.AlphaDropout, _layers.Dropout, _layers.GaussianDropout, _layers.GaussianNoise),
    *(_layers.Add, _layers.Average, _layers.Dense, _layers.Maximum, _layers.Minimum, _layers.Multiply),
    _layers.Subtract,
    *(_ops.Add, _ops.Divide, _ops.Maximum, _ops.Minimum, _ops.Multiply, _ops.Power, _ops.Subtract, _ops.TrueDivide),
)
# Those that are told the axis of the channels.
_ALONG = (
    *(_layers.BatchNormalization, _layers.Concatenate, _layers.LayerNormalization, _layers.RMSNormalization),
    *(_layers.Softmax, _layers.UnitNormalization),
    *(_ops.Concatenate, _ops.Split),
)
_KINDS = {
    getattr(_layers, f"{kind}{rank}D"): kind
    for kind in ("Conv", "AveragePooling", "MaxPooling", "GlobalAveragePooling", "GlobalMaxPooling")
    for rank in (1, 2, 3)
}


def at_window(fcn: FullyConv) -> keras.Model:
    """The classifier that the network is at its window.

    Raises:
        UnsupportedModelError: it has several cells there, or its denser map hides the graph of the classifier.
    """
    _check_plain(fcn)
    replay = _Replay(fcn)
    structure = _keras.input_structure(fcn.model)
    inputs = [keras.Input(_at(t, fcn).shape[1:], dtype=t.dtype, name=t.name) for t in keras.tree.flatten(structure)]
    outputs = _keras.walk(fcn.model, inputs, replay.visit)
    formats = [_format(grid.channels_first) for grid in keras.tree.flatten(fcn.grids)]
    vectors = [replay.vector(x, form) for x, form in zip(keras.tree.flatten(outputs), formats, strict=True)]
    packed = keras.tree.pack_sequence_as(outputs, vectors)
    return keras.Model(keras.tree.pack_sequence_as(structure, inputs), packed, name=fcn.model.name)


def _check_plain(fcn: FullyConv) -> None:
    operations = [o for _, o in _keras.operations_of(fcn.model)]
    if any(isinstance(o, _ops.Split) and o.axis == 0 for o in operations):
        raise UnsupportedModelError(
            f"{fcn.model.name!r} was converted with a stride of its own, and its graph is that of the denser map.\n"
            "Give the classifier it was made from: fullyconv.to_classifier(fcn, like=classifier)."
        )


class _Replay:
    """Makes the calls of a network again, and the head's on vectors."""

    def __init__(self, fcn: FullyConv) -> None:
        self.rank, self.format = len(fcn.window), fcn.data_format
        self.head, self.formats = _head(fcn)
        self.taken = {o.name for _, o in _keras.operations_of(fcn.model)}
        self.built: dict[tuple[int, bool], Any] = {}
        self.flattened: dict[int, tuple[Any, Any]] = {}
        self.crops: dict[int, tuple[Any, Any, Any]] = {}
        self.gathered: dict[int, tuple[Any, Any]] = {}

    def visit(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs of one call."""
        kwargs = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
        self.format = self.formats[id(operation)]
        if id(operation) not in self.head:
            return self._again(operation, args, kwargs)
        out = self._on_vectors(operation, args, kwargs)
        if out is not None:
            return out
        args, kwargs = keras.tree.map_structure(self._one_cell, (args, kwargs))
        return self._again(operation, args, kwargs)

    def vector(self, x: Any, form: str | None = None) -> Any:
        """The values of a map, flattened; of a data format, or of that which the operation being made reads."""
        if not _is_tensor(x) or len(x.shape) == 2:
            return x
        if id(x) not in self.flattened:
            layer = _layers.Flatten(data_format=form or self.format, dtype=x.dtype, name=self._free("flatten"))
            self.flattened[id(x)] = (x, layer(x))
        return self.flattened[id(x)][1]

    def _on_vectors(self, operation: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The outputs of a call in the head on vectors; None where it has no such form."""
        kind, x = _KINDS.get(type(operation)), args[0] if args else None
        whole = self._gathered(operation, x)
        if whole is not None:
            return self.vector(whole)
        if kind == "Conv":
            return self._dense(operation, x)
        if kind is not None:
            return self._pooled(operation, x, kind)
        crop = isinstance(operation, _ops.Take) and _is_tensor(args[1])  # of one cell, which is that cell
        if crop or isinstance(operation, _layers.Permute | _layers.Reshape):
            return self.vector(x) if self._is_single(x) else None
        changes = _changes(operation)
        if changes is None or kwargs or not all(map(self._is_single, args)):
            return None
        return self._again(operation, keras.tree.map_structure(self.vector, args), {}, *changes)

    def _dense(self, layer: Any, x: Any) -> Any:
        """A Dense layer for a convolution over the whole map."""
        size = self._size(x)
        plain = layer.groups == 1 and all(d == 1 or k == 1 for d, k in zip(layer.dilation_rate, size, strict=True))
        padded = layer.padding != "valid" and set(size) != {1}
        if not plain or padded or tuple(layer.kernel_size) != size:
            return None
        arrays = _keras.arrays(layer)
        units = layer.filters
        values = {**arrays, "kernel": lambda: arrays["kernel"]().reshape((-1, units))}
        return self._new(layer, _layers.Dense, _dense_config(layer, self.rank), values, (self.vector(x),), {})

    def _pooled(self, layer: Any, x: Any, kind: str) -> Any:
        """A global pooling for one of the whole map."""
        if len(x.shape) == 2:
            return x
        whole = kind.startswith("Global") or tuple(layer.pool_size) == self._size(x)
        if not whole or getattr(layer, "padding", "valid") != "valid":
            return None
        config = {"name": layer.name, "dtype": config_of(layer)["dtype"], "data_format": self.format}
        made = class_of_rank(f"Global{kind.removeprefix('Global')}", self.rank)
        return self._new(layer, made, config, {}, (x,), {})

    def _size(self, x: Any) -> tuple[int, ...]:
        """The spatial size of a map; ones for a vector."""
        return _size(x.shape, self.format) or (1,) * self.rank

    def _is_single(self, x: Any) -> bool:
        """Whether an argument is a vector, a map of one cell, a number, or a list of the former."""
        if isinstance(x, list | tuple):
            return all(_is_tensor(t) and self._is_single(t) for t in x)
        return set(self._size(x)) == {1} if _is_tensor(x) else np.ndim(x) == 0

    def _one_cell(self, x: Any) -> Any:
        """A vector as a map of one cell."""
        if not _is_tensor(x) or len(x.shape) != 2:
            return x
        ones, channels = (1,) * self.rank, x.shape[-1]
        shape = (channels, *ones) if self.format == "channels_first" else (*ones, channels)
        return _layers.Reshape(shape, dtype=x.dtype, name=self._free("cell"))(x)

    def _again(self, operation: Any, args: Any, kwargs: Any, config: Any = None, values: Values | None = None) -> Any:
        """The call, of a new layer or operation with the same settings but for those in `config`."""
        if not isinstance(operation, _layers.Layer):
            made = type(operation)(**{**_keras.parameters(operation), **(config or {})}, name=operation.name)
            return self._noted(operation, args, made(*args, **kwargs))
        own = _keras.has_own_weights(operation)
        arrays = {**_keras.arrays(operation), **(values or {})} if own else {}
        settings = {**config_of(operation), **(config or {})}
        out = self._new(operation, type(operation), settings, arrays, args, kwargs, copied=not own)
        return self._noted(operation, args, out)

    def _noted(self, operation: Any, args: Any, out: Any) -> Any:
        """The output of a call; where it is a crop, or shifted crops side by side, it is remembered of what."""
        if isinstance(operation, _ops.GetItem) and isinstance(args[1], tuple | list):
            self.crops[id(out)] = (out, args[0], args[1])
        whole = self._gathered(operation, args[0] if args else None)
        if whole is not None:
            self.gathered[id(out)] = (out, whole)
        return out

    def _gathered(self, operation: Any, x: Any) -> Any:
        """The map all of whose positions along one axis or more are put side by side; None where they are not."""
        crops = [self.crops.get(id(t)) for t in x] if isinstance(operation, _layers.Concatenate) else []
        known = [(source, key) for _, source, key in filter(None, crops)]
        if not crops or len(known) < len(crops) or any(source is not known[0][0] for source, _ in known):
            return None
        source = known[0][0]
        for axis, n in enumerate(source.shape[1:], 1):
            if n == len(crops) and all(_shift(key, axis, n) == j for j, (_, key) in enumerate(known)):
                return self.gathered.get(id(source), (None, source))[1]
        return None

    def _new(
        self, source: Any, kind: Any, config: Any, values: Values, args: Any, kwargs: Any, copied: bool = False
    ) -> Any:
        """A call of the new layer for one of the network's, built when it is first called."""
        key = (id(source), kind is type(source))
        if key in self.built:
            return self.built[key](*args, **kwargs)
        self.built[key], outputs = _keras.build_layer(kind, config, values, args, kwargs)
        if copied:
            _keras.copy_weights(source, self.built[key])
        return outputs

    def _free(self, stem: str) -> str:
        name = next(n for n in (f"{stem}_{i}" if i else stem for i in range(10**6)) if n not in self.taken)
        self.taken.add(name)
        return name


def _changes(operation: Any) -> tuple[dict[str, Any], Values] | None:
    """What changes in the settings and arrays of a layer over channels that works on vectors; None for other layers."""
    rule = RULES.get(type(operation))
    if isinstance(operation, _SAME) or rule is elementwise:
        return {}, {}
    if isinstance(operation, _ALONG) or rule is along_channels:
        return {"axis": -1}, {}
    if isinstance(operation, _layers.Rescaling) and np.size(operation.scale) == np.size(operation.offset) == 1:
        return {}, {}
    if isinstance(operation, _layers.PReLU):
        alpha = _keras.arrays(operation)["alpha"]
        shared = [1] if np.prod(operation.alpha.shape) == 1 else None
        return {"shared_axes": shared}, {"alpha": lambda: alpha().ravel()}
    return None


def _dense_config(layer: Any, rank: int) -> dict[str, Any]:
    """The settings of a convolution as those of a Dense layer."""
    source = config_of(layer)
    names = ("name", "activation", "use_bias", "trainable", "dtype", "activity_regularizer")
    roles = [f"{w}_{role}" for w in ("kernel", "bias") for role in ("initializer", "regularizer", "constraint")]
    config = {name: source[name] for name in (*names, *roles) if name in source}
    config["kernel_constraint"] = _over_matrix(config["kernel_constraint"], rank)
    return {**config, "units": layer.filters}


def _over_matrix(constraint: Any, rank: int) -> Any:
    """A constraint on a convolution's kernel as one on a matrix: its axes but the last are the matrix's axis 0."""
    given = (constraint or {}).get("config", {}).get("axis")
    if given is None:
        return constraint
    axes = {int(axis % (rank + 2) == rank + 1) for axis in (given if isinstance(given, list | tuple) else [given])}
    constraint = copy.deepcopy(constraint)
    constraint["config"]["axis"] = sorted(axes) if len(axes) > 1 else axes.pop()
    return constraint


def _shift(key: Sequence[Any], axis: int, n: int) -> int | None:
    """The position that a key takes of `n` along one axis, and all along the others; None where it takes others."""
    taken = [range(n)[k] if i == axis and isinstance(k, slice) else k for i, k in enumerate(key)]
    rest = [k for i, k in enumerate(taken) if i != axis]
    single = axis < len(key) and isinstance(taken[axis], range) and len(taken[axis]) == 1
    return taken[axis][0] if single and all(k == slice(None) for k in rest) else None


def _is_tensor(x: Any) -> bool:
    return isinstance(x, keras.KerasTensor)


def _format(first: bool) -> str:
    return "channels_first" if first else "channels_last"


def _size(shape: Sequence[Any], data_format: str) -> tuple[Any, ...]:
    """The spatial sizes in a shape; none for a vector."""
    return tuple(shape[2:] if data_format == "channels_first" else shape[1:-1])


@dataclass(frozen=True)
class _Traced:
    """What stands for a tensor: its shape at the window, the order of its axes, and the call that it comes from."""

    spec: Any
    first: bool
    call: _Call | None = None


@dataclass(eq=False)
class _Call:
    """One call of the network: of what, whether it gives single cells only (or counts cells), and what reads them."""

    operation: Any
    single: bool
    readers: set[int] = field(default_factory=set)


def _head(fcn: FullyConv) -> tuple[set[int], dict[int, str]]:
    """Ids of the operations behind which nothing but single cells is computed, at the window; what each of all reads.

    Returns:
        The ids, and the data format of the maps that an operation reads, by its id.

    Raises:
        UnsupportedModelError: an output has more than one cell there.
    """
    calls: list[_Call] = []
    formats: dict[int, str] = {}

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
        specs = keras.tree.map_structure(lambda x: x.spec if isinstance(x, _Traced) else x, (args, kwargs))
        out = _keras.output_spec(operation, *specs)
        read = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, _Traced)]
        maps = [x.first for x in read if len(x.spec.shape) > 2] or [fcn.data_format == "channels_first"]
        formats[id(operation)], shapes = _format(maps[0]), keras.tree.flatten(out)
        first = maps[0] != turns(operation, len(shapes[0].shape))
        call = _Call(operation, all(len(t.shape) < 2 or _is_single(t, fcn, first) for t in shapes))
        for x in read:
            if x.call is not None:
                x.call.readers.add(id(operation))
        calls.append(call)
        return keras.tree.map_structure(lambda spec: _Traced(spec, first, call), out)

    inputs = keras.tree.flatten(_keras.input_structure(fcn.model))
    first = fcn.data_format == "channels_first"
    outputs = _keras.walk(fcn.model, [_Traced(_at(t, fcn), first) for t in inputs], visit)
    for x in keras.tree.flatten(outputs):
        _check_single(x.spec, fcn, x.first)
    return _closed(calls), formats


def _closed(calls: Sequence[_Call]) -> set[int]:
    """Ids of the operations all of whose calls give single cells, as do all that read them."""
    head = {id(call.operation) for call in calls}
    while True:
        out = {id(call.operation) for call in calls if not call.single or not call.readers <= head}
        if head.isdisjoint(out):
            return head
        head -= out


def _at(tensor: Any, fcn: FullyConv) -> Any:
    """An input at the window."""
    shape = tuple(tensor.shape)
    if len(shape) > 2:
        first = fcn.data_format == "channels_first"
        shape = (None, shape[1], *fcn.window) if first else (None, *fcn.window, shape[-1])
    return keras.KerasTensor(shape, tensor.dtype)


def _is_single(tensor: Any, fcn: FullyConv, first: bool) -> bool:
    """Whether a tensor is a map of one cell."""
    return len(tensor.shape) == len(fcn.window) + 2 and set(_size(tensor.shape, _format(first))) == {1}


def _check_single(tensor: Any, fcn: FullyConv, first: bool) -> None:
    if not _is_single(tensor, fcn, first):
        cells = describe_size(_size(tensor.shape, _format(first)))
        raise UnsupportedModelError(
            f"{fcn.model.name!r} has {cells} cells at its window, where a classifier has one answer.\n"
            f"Either the window {describe_size(fcn.window)} is larger than the classifier's, or the head's pooling was "
            "left out\n(pool='drop'), which the network does not say. Then give the classifier it was made from:\n"
            "fullyconv.to_classifier(fcn, like=classifier)."
        )
