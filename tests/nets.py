"""Networks to convert, their preparation, and an oracle that shares no code with the package it tests.

The oracle cuts every window out of the image, runs the classifier on all of them and compares. `prepare` gives a net
weights with which a broken trunk cannot pass (contract C1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import fullyconv

BACKEND = keras.backend.backend()
FORMATS = ("channels_last", "channels_first")

NO_CHANNELS_FIRST = "TensorFlow has no channels_first convolution or pooling on CPUs"
UNEVEN_AVERAGE = "Keras's torch backend pads unevenly padded averages by repeating the edge and counts it in the mean"
CROPPED_STRIDE = (
    "outside XLA TensorFlow 2.21 crops 3-D maps where a same stride is longer than the kernel by two or more"
)
NO_ADAPTIVE = "on TensorFlow AdaptiveMaxPooling2D(1) crashes the process and AdaptiveAveragePooling2D fails in predict"


def cannot_run(data_format: str) -> bool:
    """Whether this backend has no convolution of that data format; the reason is NO_CHANNELS_FIRST."""
    return BACKEND == "tensorflow" and data_format == "channels_first"


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What counts as equal: `relative` to max |logit|, and `of_spread`, the difference between two images."""

    relative: float
    of_spread: float


# The one place where tolerances live. float32: contract C1. Mixed precision computes in 16 bits: the contract names
# 1.6e-4 as measured between two batch sizes of the same float16 model; bfloat16 has 8 times the rounding error.
TOLERANCES = {
    "float32": Tolerance(1e-5, 1e-3),
    "mixed_float16": Tolerance(3e-3, 3e-2),
    "mixed_bfloat16": Tolerance(2.4e-2, 2.4e-1),
}


# --------------------------------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------------------------------
def texture(rng: np.random.Generator, sizes: Sequence[int], channels: int) -> np.ndarray:
    """One image with structure at every scale, so that its windows differ even after global pooling."""
    total = np.zeros((*sizes, channels))
    for period in (1, 3, 8, 24):
        coarse = rng.normal(size=(*(-(-n // period) for n in sizes), channels))
        for axis, n in enumerate(sizes):
            coarse = np.repeat(coarse, period, axis)[(slice(None),) * axis + (slice(0, n),)]
        total += coarse
    return (total / 2).astype("float32")


def images(sizes: Sequence[int], channels: int, count: int = 1, seed: int = 0, data_format: str = "channels_last"):
    """A batch of images that differ in texture, brightness and contrast."""
    rng = np.random.default_rng([seed, 11])
    batch = np.stack([texture(rng, sizes, channels) * rng.uniform(0.5, 2) + rng.normal() for _ in range(count)])
    return from_last(batch, data_format).astype("float32")


def from_last(array: np.ndarray, data_format: str) -> np.ndarray:
    """An array with channels last, moved to where `data_format` wants them."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if data_format == "channels_first" else array


def to_last(array: np.ndarray, data_format: str) -> np.ndarray:
    """The inverse of `from_last`."""
    return np.moveaxis(array, 1, -1) if data_format == "channels_first" else array


def inputs_for(model: keras.Model, count: int, seed: int, data_format: str = "channels_last") -> Any:
    """A batch for every input of a model of fixed size, in the structure the model takes."""

    def one(x: Any, index: int) -> np.ndarray:
        if len(x.shape) == 2:
            return np.random.default_rng([seed, index]).normal(size=(count, x.shape[1])).astype("float32")
        shape = to_last(np.empty((0, *x.shape[1:])), data_format).shape
        return images(shape[1:-1], shape[-1], count, seed + index, data_format)

    flat = [one(x, index) for index, x in enumerate(model.inputs)]
    return flat[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, flat)


# --------------------------------------------------------------------------------------------------------------------
# Preparation (contract C1)
# --------------------------------------------------------------------------------------------------------------------
# What every channel is lifted by, in standard deviations, before its activation. A deep net whose channels are all
# centred at the kink of a ReLU is chaotic: it blows a last digit of the image up a hundredfold (measured on ResNet50,
# MobileNetV2, EfficientNetB0), so that no two ways of computing it agree to contract C1.
LIFT = 1.0

# A kernel is scaled so that its outputs have unit spread, but outputs that vary by less than this share of their size
# are taken to vary by so much. Means over a whole map hardly differ between images: blown up to unit spread they would
# carry their rounding along. A map of one cell is what a context has squeezed out, and each of a deep net's dozens of
# contexts would add to that (measured on EfficientNetB4: jax and torch 1e-4 of the largest logit apart).
LEAST_SPREAD = 0.3
LEAST_SPREAD_OF_A_GATE = 1.0


def prepare(
    model: keras.Model, seed: int = 0, data_format: str = "channels_last", count: int = 6, kept: Sequence[Any] = ()
) -> keras.Model:
    """Weights with which a broken trunk shows: returned is the same model, changed in place.

    The graph is walked once, an operation at a time, on a batch. Kernels are scaled so that what they give has unit
    spread, biases centre each channel and are then jittered, BatchNormalization gets the statistics of what enters
    it, jittered. Two images must then differ by at least a tenth of max |logit|. Models inside it that are `kept` were
    prepared before.
    """
    rng = np.random.default_rng([seed, 7])
    _walk(model, inputs_for(model, count, seed + 100, data_format), rng, set(map(id, kept)))
    spread_and_scale(model, data_format, seed)
    return model


def prepare_at(model: keras.Model, window: Sequence[int], seed: int = 0) -> keras.Model:
    """`prepare` for a model of unknown size (channels last), on images of the size it is said to be trained on."""
    rng = np.random.default_rng([seed, 7])
    _walk(model, images(window, model.inputs[0].shape[-1], 6, seed + 100), rng, set())
    return model


def spread_and_scale(model: keras.Model, data_format: str = "channels_last", seed: int = 0) -> tuple[float, float]:
    """The difference between two images and max |logit|; refuses a net in which the first is under a tenth."""
    pair = inputs_for(model, 2, seed + 500, data_format)
    outputs = keras.tree.flatten(run(model, pair))
    for y in outputs:
        assert np.abs(y[0] - y[1]).max() >= 0.1 * np.abs(y).max(), "two images hardly differ: this net proves nothing"
    return min(np.abs(y[0] - y[1]).max() for y in outputs), max(np.abs(y).max() for y in outputs)


def _walk(model: keras.Model, x: Any, rng: np.random.Generator, done: set[int]) -> Any:
    def visit(operation: Any) -> Callable[..., Any]:
        if not _has_graph(operation):
            return lambda *args, **kwargs: _visit(operation, args, kwargs, rng, done)
        if id(operation) in done:
            return lambda *args, **kwargs: tensor(run(operation, to_numpy(args[0])))
        return lambda *args, **kwargs: _walk(operation, args[0], rng, done)

    return _through(model, x, visit)


def _has_graph(operation: Any) -> bool:
    """Whether it is a model whose graph can be walked; the `call` of a subclassed one is Python."""
    return isinstance(operation, keras.Sequential) or hasattr(operation, "_run_through_graph")


def _through(model: keras.Model, x: Any, visit: Callable[[Any], Callable[..., Any]]) -> Any:
    """Walks the graph of a model."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph._run_through_graph(keras.tree.map_structure(tensor, x), visit)


def _own_type(outputs: Any) -> Any:
    """Tensors that were computed, and forget how."""
    return keras.tree.map_structure(lambda y: tensor(to_numpy(y, keep=True)), outputs)


# Left as graphs on OpenVINO until a kernel reads them: to compute each on its own would take most of the time.
_UNCOMPUTED = (layers.Activation, layers.BatchNormalization, layers.Dropout, layers.ReLU, layers.ZeroPadding2D)


def _visit(operation: Any, args: Any, kwargs: Any, rng: np.random.Generator, done: set[int]) -> Any:
    outputs = None
    if isinstance(operation, keras.Layer) and list(operation._flatten_layers(include_self=False)):
        with _prepared_inside(operation, rng, done):
            return _own_type(operation(*args, **kwargs))
    if getattr(operation, "weights", None) and id(operation) not in done:
        done.add(id(operation))
        outputs = _set_weights(operation, args, kwargs, rng)
    if outputs is not None:
        return outputs
    outputs = operation(*args, **kwargs)
    return outputs if type(operation) in _UNCOMPUTED else _own_type(outputs)


@contextlib.contextmanager
def _prepared_inside(layer: keras.Layer, rng: np.random.Generator, done: set[int]) -> Iterator[None]:
    """While it lasts, the layers that a layer holds are given their weights when they are called."""
    inner = [x for x in layer._flatten_layers(include_self=False) if not list(x._flatten_layers(include_self=False))]

    def waiting(x: keras.Layer) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            vars(x).pop("call", None)
            return _visit(x, args, kwargs, rng, done)

        return call

    for x in inner:
        x.call = waiting(x)
    try:
        yield
    finally:
        for x in inner:
            vars(x).pop("call", None)


def _set_weights(layer: keras.Layer, args: Any, kwargs: Any, rng: np.random.Generator) -> Any:
    """Sets the weights of a layer; gives its outputs where they are known by then."""
    if isinstance(layer, layers.Normalization):
        return None
    named = {v.name: v for v in layer.weights}
    for name, value in named.items():
        _set_simple(name, value, rng)
    if isinstance(layer, layers.BatchNormalization):
        _calibrate(layer, to_numpy(args[0]), rng)
    elif any("kernel" in name for name in named):
        return _scale(layer, named, args, kwargs, rng)
    return None


def _set_simple(name: str, value: Any, rng: np.random.Generator) -> None:
    if name in ("gamma", "scale"):
        value.assign(np.exp(0.3 * rng.normal(size=value.shape)).astype("float32"))
    elif name in ("beta", "bias"):
        value.assign((LIFT + 0.3 * rng.normal(size=value.shape)).astype("float32"))
    elif name == "alpha":
        value.assign(rng.uniform(0.1, 0.5, size=value.shape).astype("float32"))


def _calibrate(layer: layers.BatchNormalization, x: np.ndarray, rng: np.random.Generator) -> None:
    axis = layer.axis % x.ndim
    others = tuple(i for i in range(x.ndim) if i != axis)
    mean, variance = x.mean(others), x.var(others)
    variance = variance + 0.1 * variance.mean() + 1e-4  # a channel that is constant in this batch must not explode
    layer.moving_mean.assign(mean + 0.2 * np.sqrt(variance) * rng.normal(size=mean.shape))
    layer.moving_variance.assign(variance * np.exp(0.3 * rng.normal(size=mean.shape)))


def _scale(layer: keras.Layer, named: dict[str, Any], args: Any, kwargs: Any, rng: np.random.Generator) -> Any:
    activation, bias = getattr(layer, "activation", None), named.get("bias")
    if activation is not None:
        layer.activation = keras.activations.linear
    if bias is not None:
        bias.assign(np.zeros(bias.shape, "float32"))
    whole = to_numpy(layer(*args, **kwargs))
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    y = np.moveaxis(whole, axis, -1).reshape(-1, whole.shape[axis])
    sizes = np.delete(args[0].shape, [0, axis])
    least = LEAST_SPREAD_OF_A_GATE if sizes.size and (sizes == 1).all() else LEAST_SPREAD
    factor = 1 / max(float((y - y.mean(0)).std()), least * float(np.sqrt((y**2).mean())), 1e-6)
    last = [v for name, v in named.items() if "kernel" in name][-1]
    last.assign(np.asarray(to_numpy(last) * factor, "float32"))
    whole = whole * np.float32(factor)
    if bias is not None and bias.shape == y.shape[1:]:
        lift = 0.0 if isinstance(layer, (layers.Dense, layers.EinsumDense)) else LIFT
        bias.assign((lift + 0.3 * rng.normal(size=bias.shape) - y.mean(0) * factor).astype("float32"))
        whole = np.moveaxis(np.moveaxis(whole, axis, -1) + to_numpy(bias), -1, axis)
    if activation is not None:
        layer.activation = activation
    if layer.compute_dtype != "float32" or (bias is not None and bias.shape != y.shape[1:]):
        return None
    outputs = tensor(np.ascontiguousarray(whole))
    return outputs if activation is None else activation(outputs)


# --------------------------------------------------------------------------------------------------------------------
# Running a model in float32, without the package
# --------------------------------------------------------------------------------------------------------------------
def to_numpy(x: Any, keep: bool = False) -> np.ndarray:
    """A backend's tensor as NumPy, in float32 unless its own type is to be kept."""
    array = np.asarray(ops.convert_to_numpy(x))
    return array if keep or array.dtype.kind in "iub" else array.astype("float32")


def tensor(x: Any) -> Any:
    """An array as the backend's tensor. With its dtype said, JAX compiles nothing for it."""
    return ops.convert_to_tensor(x, dtype=keras.backend.standardize_dtype(x.dtype))


def run(model: Any, x: Any) -> Any:
    """What a model gives, in float32: on OpenVINO by asking for it, elsewhere by calling the model."""
    return Runner(model)(x)


def _has_rank_three(model: Any) -> bool:
    """Whether OpenVINO 2026.4 may fuse the operations of this model wrongly.

    Where a tensor of rank 3 is reduced, or leaves a convolution, and one weight a channel follows, its CPU plugin gives
    wrong numbers: seen with Conv1D, BatchNormalization and GlobalAveragePooling1D, on the plain graph that Keras makes.
    """
    return any(len(t.shape) == 3 for o in _operations_of(model) for n in o._inbound_nodes for t in n.outputs)


def _operations_of(model: Any) -> list[Any]:
    """The operations of a model and of those inside it; of a layer, itself."""
    if not _has_graph(model):
        return [model]
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return [o for inner in graph._operations for o in _operations_of(inner)]


def _step_by_step(model: Any, x: Any) -> Any:
    """The outputs of a model whose operations are run one at a time, so that nothing can be fused."""

    def visit(operation: Any) -> Callable[..., Any]:
        if _has_graph(operation):
            return lambda *args, **kwargs: _through(operation, args[0], visit)
        return lambda *args, **kwargs: _own_type(operation(*args, **kwargs))

    outputs = _through(model, x, visit) if isinstance(model, keras.Model) else model(ops.convert_to_tensor(x))
    return keras.tree.map_structure(to_numpy, outputs)


class Runner:
    """A model called again and again; on OpenVINO it is compiled once, with sizes left open if they are to change."""

    def __init__(self, model: Any, dynamic: bool = False) -> None:
        self.model, self.dynamic, self.compiled = model, dynamic, None

    def __call__(self, x: Any) -> Any:
        if isinstance(self.model, keras.Model) and not isinstance(self.model, keras.Sequential):
            x = keras.tree.pack_sequence_as(self.model._inputs_struct, keras.tree.flatten(x))
        if BACKEND == "openvino":
            return _step_by_step(self.model, x) if _has_rank_three(self.model) else self._openvino(x)
        if BACKEND == "torch":
            import torch

            with torch.no_grad():
                return keras.tree.map_structure(to_numpy, self.model(x, training=False))
        if BACKEND == "jax" and isinstance(self.model, keras.Model):
            return self._jax(x)
        return keras.tree.map_structure(to_numpy, self.model(x, training=False))

    def _jax(self, x: Any) -> Any:
        """The model compiled as a whole: called as it is, each of its operations is compiled for each shape."""
        import jax

        held = [[v.value for v in vs] for vs in (self.model.trainable_variables, self.model.non_trainable_variables)]
        if self.compiled is None:
            self.compiled = jax.jit(lambda *given: self.model.stateless_call(*given, training=False)[0])
        return keras.tree.map_structure(to_numpy, self.compiled(*held, x))

    def _openvino(self, x: Any) -> Any:
        flat = [np.ascontiguousarray(a) for a in keras.tree.flatten(x)]
        if self.compiled is None:
            self.compiled, self.structure = self._compile(x, flat)
        results = [np.array(y).astype("float32") for y in self.compiled(flat).to_tuple()]
        return keras.tree.pack_sequence_as(self.structure, results)

    def _compile(self, x: Any, flat: list[np.ndarray]) -> tuple[Any, Any]:
        import openvino as ov
        import openvino.opset16 as opset
        from keras.src.backend.openvino.core import OPENVINO_DTYPES, OpenVINOKerasTensor

        shapes = [self._shape(a.shape, s.shape) for a, s in zip(flat, self._symbols(flat), strict=True)]
        parameters = [opset.parameter(s, OPENVINO_DTYPES[str(a.dtype)]) for a, s in zip(flat, shapes, strict=True)]
        entered = keras.tree.pack_sequence_as(x, [OpenVINOKerasTensor(p.output(0)) for p in parameters])
        outputs = self.model(entered, training=False)
        graph = ov.Model([opset.result(y.output) for y in keras.tree.flatten(outputs)], parameters)
        return ov.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}), outputs

    def _symbols(self, flat: list[np.ndarray]) -> list[Any]:
        return self.model.inputs if isinstance(self.model, keras.Model) else flat

    def _shape(self, given: tuple[int, ...], symbolic: tuple[int | None, ...]) -> list[int]:
        return [-1 if self.dynamic and s is None else n for n, s in zip(given, symbolic, strict=True)]


# --------------------------------------------------------------------------------------------------------------------
# The oracle
# --------------------------------------------------------------------------------------------------------------------
def corners(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """The corner of every window of the lattice inside an image."""
    return itertools.product(*(range(0, n - w + 1, s) for n, w, s in zip(size, window, stride, strict=True)))


def windows(image: np.ndarray, window: Sequence[int], stride: Sequence[int], data_format: str) -> np.ndarray:
    """Every window of one image (no batch axis), in a batch."""
    image = to_last(image[None], data_format)[0]
    cut = [
        image[tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))]
        for corner in corners(image.shape[:-1], window, stride)
    ]
    return from_last(np.stack(cut), data_format)


def answers(model: Any, image: np.ndarray, window: Sequence[int], stride: Sequence[int], data_format: str) -> Any:
    """The classifier on every window: (rows, columns, ..., outputs), one array an output."""
    sizes = to_last(image[None], data_format).shape[1:-1]
    counts = [(n - w) // s + 1 for n, w, s in zip(sizes, window, stride, strict=True)]
    given = run(model, windows(image, window, stride, data_format))
    return keras.tree.map_structure(lambda y: y.reshape(*counts, -1), given)


def window_of(model: keras.Model, data_format: str = "channels_last") -> tuple[int, ...]:
    """The spatial sizes of a model's first input."""
    shape = model.inputs[0].shape[1:]
    return tuple(shape[1:] if data_format == "channels_first" else shape[:-1])


def equal(expected: np.ndarray, actual: np.ndarray, spread: float, policy: str = "float32") -> None:
    """Asserts contract C1's equality."""
    tolerance = TOLERANCES[policy]
    assert expected.shape == actual.shape
    assert np.isfinite(actual).all()
    error, scale = np.abs(expected - actual).max(), np.abs(expected).max()
    assert error <= tolerance.relative * scale, f"off by {error / scale:.1e} of max |logit|"
    assert error <= tolerance.of_spread * spread, f"off by {error / spread:.1e} of the difference of two images"


def check_native(
    model: keras.Model, fcn: Any, data_format: str = "channels_last", policy: str = "float32", deep: bool = False
) -> None:
    """Asserts C1: at the window one cell, equal to the classifier, for every output, in the source's structure.

    The map through the engine is held against the classifier outside it. In a deep net the rounding of two engines
    alone may exceed C1; there each side is held against its like: through the engine, and outside it.
    """
    pair = inputs_for(model, 2, 500, data_format)
    expected = run(model, pair)
    if not deep:
        return _check_native(expected, fcn.predict(pair), data_format, policy)
    _check_native(expected, run(fcn.model, pair), data_format, policy)
    return _check_native(fullyconv.compile(model)(pair), fcn.predict(pair), data_format, policy)


def check_native_in_the_engine(model: keras.Model, fcn: Any) -> None:
    """Asserts C1 as it is put: both through the engine. Two graphs are compiled where `check_native` takes four."""
    pair = inputs_for(model, 2, 500)
    _check_native(fullyconv.compile(model)(pair), fcn.predict(pair), "channels_last", "float32")


def _check_native(expected: Any, actual: Any, data_format: str, policy: str) -> None:
    keras.tree.assert_same_structure(expected, actual)
    for want, have in zip(keras.tree.flatten(expected), keras.tree.flatten(actual), strict=True):
        want = want.reshape(2, -1)
        spread = float(np.abs(want[0] - want[1]).max())
        assert spread >= 0.1 * np.abs(want).max(), "two images hardly differ: this net proves nothing"
        have = to_last(have, data_format)
        assert have.shape == (2, *(1,) * (have.ndim - 2), want.shape[1])
        equal(want, have.reshape(2, -1), spread, policy)


def check_windows(
    model: keras.Model,
    fcn: Any,
    data_format: str = "channels_last",
    extra: Sequence[int] | int = 5,
    policy: str = "float32",
) -> int:
    """Asserts C2 and C4 for an exact net: every window of an image of `window + extra`; gives the cells compared."""
    window = window_of(model, data_format)
    extra = (extra,) * len(window) if isinstance(extra, int) else extra
    size = tuple(w + e for w, e in zip(window, extra, strict=True))
    channels = model.inputs[0].shape[1 if data_format == "channels_first" else -1]
    image = images(size, channels, 1, 901, data_format)
    grids, maps = keras.tree.flatten(fcn.grids), keras.tree.flatten(fcn.predict(image))
    compared = 0
    for index, (grid, have) in enumerate(zip(grids, maps, strict=True)):
        want = keras.tree.flatten(answers(model, image[0], window, grid.stride, data_format))[index]
        have = to_last(have, data_format)[0]
        assert tuple(grid.cells(size)) == have.shape[:-1]
        assert tuple(grid.windows_inside(size)) == want.shape[:-1]
        have = have[tuple(slice(0, n) for n in want.shape[:-1])]
        flat = want.reshape(-1, want.shape[-1])
        spread = float(np.ptp(flat, axis=0).max())
        assert spread >= 0.02 * np.abs(flat).max(), "the windows hardly differ: this net proves nothing"
        equal(want, have, spread, policy)
        compared += len(flat)
    assert compared > len(maps), "only the first window was compared"
    return compared


def along(size: Sequence[int], axis: int, n: int) -> tuple[int, ...]:
    """A size with one axis replaced."""
    return (*size[:axis], n, *size[axis + 1 :])


@dataclasses.dataclass
class Compared:
    """Cells that were compared, and the largest difference among them as a share of max |logit|."""

    cells: int = 0
    error: float = 0.0

    def add(self, expected: np.ndarray, actual: np.ndarray, whole: np.ndarray, axis: int) -> None:
        """Two maps of the same cells, the second from another image."""
        if expected.size:
            self.cells += expected.shape[axis]
            self.error = max(self.error, map_error(expected, actual, whole))


def check_sizes(
    model: keras.Model, fcn: Any, data_format: str = "channels_last", every: int = 1, axes: Any = None
) -> int:
    """Asserts C3 along each axis, the other axes staying at the window; gives the number of cells compared.

    Sizes go from field + S to field + 3 S in steps of `every`; see `compare_sizes`.
    """
    compared = Compared()
    for axis, stride in enumerate(keras.tree.flatten(fcn.grids)[0].stride):
        if axes is None or axis in axes:
            compare_sizes(fcn, [*range(0, 2 * stride, every), 2 * stride], compared, axis, data_format)
    assert compared.error <= TOLERANCES["float32"].relative, f"cells differ by {compared.error:.1e} of max |logit|"
    assert compared.cells > 0, "no cell was compared"
    return compared.cells


def compare_sizes(
    fcn: Any, beyond: Sequence[int], compared: Compared, axis: int = 0, data_format: str = "channels_last"
) -> None:
    """Compares cells at sizes of field + S + each of `beyond` along one axis, the other axes staying at the window.

    A cell whose receptive field ends inside an image must be the same in every image that begins with that one, and in
    the image shifted by the stride. The model is the plain one, without the engine's checks.
    """
    grid = keras.tree.flatten(fcn.grids)[0]
    channels = fcn.model.inputs[0].shape[1 if data_format == "channels_first" else -1]
    stride, (low, high) = grid.stride[axis], grid.receptive_field[axis]
    first = max(int(high - low) + stride, grid.window[axis])
    runner = Runner(fcn.model, dynamic=True)
    image = images(along(grid.window, axis, first + max(beyond) + 2 * stride + 1), channels, 1, 902, data_format)
    whole = _first_map(runner, image, data_format)
    for n in (first + extra for extra in beyond):
        part = from_last(np.take(to_last(image, data_format), range(n), 1 + axis), data_format)
        _compare_start(whole, _first_map(runner, part, data_format), grid, axis, n, compared)
    shifted = from_last(np.delete(to_last(image, data_format), range(stride), 1 + axis), data_format)
    size = to_last(shifted, data_format).shape[1 + axis]
    _compare_shift(whole, _first_map(runner, shifted, data_format), grid, axis, size, compared)


def _first_map(runner: Runner, image: np.ndarray, data_format: str) -> np.ndarray:
    return to_last(keras.tree.flatten(runner(image))[0], data_format)[0]


def _fields(grid: Any, axis: int, cells: np.ndarray) -> list[tuple[int, int]]:
    """The receptive field of every cell along one axis."""
    origin = (0,) * (cells.ndim - 1)
    return [grid.cell_to_box(along(origin, axis, i), field=True)[axis] for i in range(cells.shape[axis])]


def _compare_start(whole: np.ndarray, part: np.ndarray, grid: Any, axis: int, n: int, compared: Compared) -> None:
    assert part.shape[axis] == grid.cells(along(grid.window, axis, n))[axis]
    inside = [i for i, (_, end) in enumerate(_fields(grid, axis, part)) if end <= n]
    compared.add(whole.take(inside, axis), part.take(inside, axis), whole, axis)


def _compare_shift(whole: np.ndarray, shifted: np.ndarray, grid: Any, axis: int, n: int, compared: Compared) -> None:
    low, high = grid.receptive_field[axis]  # without the shift of a context's cells near the start
    inside = [
        i for i in range(shifted.shape[axis]) if low + i * grid.stride[axis] >= 0 and high + i * grid.stride[axis] <= n
    ]
    compared.add(whole.take([i + 1 for i in inside], axis), shifted.take(inside, axis), whole, axis)


def map_error(expected: np.ndarray, actual: np.ndarray, whole: np.ndarray) -> float:
    """The largest difference of cells of two maps, as a share of the whole map's largest value."""
    flat = whole.reshape(-1, whole.shape[-1])
    assert np.ptp(flat, axis=0).max() > 0.02 * np.abs(whole).max(), "the cells of this map hardly differ"
    assert expected.shape == actual.shape
    return float(np.abs(expected - actual).max() / np.abs(whole).max())


def equal_maps(expected: np.ndarray, actual: np.ndarray, whole: np.ndarray, policy: str = "float32") -> None:
    """Asserts that cells of two maps are equal, against the spread of the whole map."""
    error = map_error(expected, actual, whole)
    assert error <= TOLERANCES[policy].relative, f"cells differ by {error:.1e} of max |logit|"


# --------------------------------------------------------------------------------------------------------------------
# Small networks
# --------------------------------------------------------------------------------------------------------------------
class Kit:
    """Layers of one rank and data format: `Kit(2, "channels_last").conv(8, 3)`."""

    def __init__(self, rank: int = 2, data_format: str = "channels_last") -> None:
        self.rank, self.data_format = rank, data_format
        self.axis = 1 if data_format == "channels_first" else -1

    def input(self, window: Sequence[int] | None = None, channels: int = 3) -> keras.KerasTensor:
        """A classifier's input; without a window, one of small odd and even sizes."""
        window = self.window if window is None else tuple(window)
        shape = (channels, *window) if self.axis == 1 else (*window, channels)
        return keras.Input(shape)

    @property
    def window(self) -> tuple[int, ...]:
        """The window used when none is asked for: not square."""
        return {1: (37,), 2: (22, 19), 3: (14, 11, 12)}[self.rank]

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial axes of a map of this kit."""
        return tuple(range(2, self.rank + 2)) if self.axis == 1 else tuple(range(1, self.rank + 1))

    def layer(self, kind: str, /, *args: Any, **kwargs: Any) -> keras.Layer:
        """A layer whose class name has the rank in it: `layer("MaxPooling", 2)`."""
        return getattr(layers, f"{kind}{self.rank}D")(*args, data_format=self.data_format, **kwargs)

    def conv(self, filters: int, size: Any, **kwargs: Any) -> keras.Layer:
        """A convolution, `relu` unless said."""
        return self.layer("Conv", filters, size, **{"activation": "relu", **kwargs})

    def depthwise(self, size: Any, **kwargs: Any) -> keras.Layer:
        """A depthwise convolution (ranks 1 and 2)."""
        return self.layer("DepthwiseConv", size, **kwargs)

    def separable(self, filters: int, size: Any, **kwargs: Any) -> keras.Layer:
        """A separable convolution (ranks 1 and 2)."""
        return self.layer("SeparableConv", filters, size, **{"activation": "relu", **kwargs})

    def max(self, size: Any = 2, **kwargs: Any) -> keras.Layer:
        """A max pooling."""
        return self.layer("MaxPooling", size, **kwargs)

    def average(self, size: Any = 2, **kwargs: Any) -> keras.Layer:
        """An average pooling."""
        return self.layer("AveragePooling", size, **kwargs)

    def norm(self, **kwargs: Any) -> keras.Layer:
        """A batch normalization over the channels."""
        return layers.BatchNormalization(axis=self.axis, **kwargs)

    def flatten(self) -> keras.Layer:
        """A Flatten that knows the data format, as a user must write it."""
        return layers.Flatten(data_format=self.data_format)

    def gap(self, **kwargs: Any) -> keras.Layer:
        """A global average pooling."""
        return self.layer("GlobalAveragePooling", **kwargs)

    def gmp(self, **kwargs: Any) -> keras.Layer:
        """A global max pooling."""
        return self.layer("GlobalMaxPooling", **kwargs)


def _valid(k: Kit, x: Any) -> Any:
    x = k.average(2)(k.conv(6, 3)(x))
    return k.max(2)(k.conv(8, 2)(x))


def _strided(k: Kit, x: Any) -> Any:
    x = k.norm()(k.conv(6, 3, strides=2, use_bias=False)(x))
    return k.conv(8, 3)(layers.ReLU(6.0)(x))


def _overlapping(k: Kit, x: Any) -> Any:
    x = k.max(3, strides=2)(k.conv(6, 3)(x))
    return k.average(3, strides=1)(k.conv(8, 1)(x))


def _same(k: Kit, x: Any) -> Any:
    x = k.max(2)(k.conv(6, 3, padding="same")(x))
    return k.conv(8, 3, padding="same")(x)


def _strided_same(k: Kit, x: Any) -> Any:
    x = k.norm()(k.conv(6, 3, strides=2, padding="same")(x))
    return k.conv(8, 4, strides=2, padding="same")(x)


def _padded(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3, strides=2)(k.layer("ZeroPadding", 1)(x))
    return k.max(3, strides=2)(k.layer("ZeroPadding", 1)(x))


def _dilated(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3, dilation_rate=2)(x)
    return k.max(2)(k.conv(8, 2, padding="same", dilation_rate=2)(x))


def _max_same(k: Kit, x: Any) -> Any:
    x = k.max(3, strides=2, padding="same")(k.conv(6, 3)(x))
    return k.max(2, strides=2, padding="same")(k.conv(8, 2)(x))


def _average_same(k: Kit, x: Any) -> Any:
    x = k.average(3, strides=2, padding="same")(k.conv(6, 3)(x))
    return k.average(2, strides=2, padding="same")(k.conv(8, 2)(x))


def _residual(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3, padding="same")(x)
    shortcut = k.norm()(k.conv(8, 1, strides=2, padding="same", activation=None)(x))
    y = k.conv(8, 3, strides=2, padding="same")(x)
    y = k.norm()(k.conv(8, 3, padding="same", activation=None)(y))
    return layers.ReLU()(layers.Add()([shortcut, y]))


def _residual_valid(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3)(x)
    y = k.conv(6, 3, activation="tanh")(x)
    return layers.Add()([y, k.layer("Cropping", 1)(x)])


def _inception(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3, strides=2, padding="same")(x)
    pooled = k.conv(3, 1)(k.average(3, strides=1, padding="same")(x))
    return layers.Concatenate(axis=k.axis)([k.conv(4, 1)(x), k.conv(4, 5, padding="same")(x), pooled])


def _separable(k: Kit, x: Any) -> Any:
    x = k.norm()(k.separable(6, 3, strides=2, padding="same")(x))
    return k.conv(8, 1)(k.depthwise(4, strides=2, padding="same", depth_multiplier=2)(x))


def _separable_valid(k: Kit, x: Any) -> Any:
    x = k.norm()(k.separable(6, 3)(x))
    return k.max(2)(k.depthwise(3, activation="relu")(x))


def _grouped(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3)(x)
    return k.max(2)(k.conv(8, 3, groups=2)(x))


def _excite(k: Kit, x: Any) -> Any:
    x = k.conv(6, 3, strides=2, padding="same")(x)
    y = k.conv(3, 1)(k.gap(keepdims=True)(x))
    return layers.Multiply()([x, k.conv(6, 1, activation="sigmoid")(y)])


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A trunk, what its conversion must call itself, and the ranks and formats it exists in."""

    build: Callable[[Kit, Any], Any]
    exactness: str
    ranks: tuple[int, ...] = (1, 2, 3)
    formats: tuple[str, ...] = FORMATS


TRUNKS = {
    "valid": Trunk(_valid, "exact"),
    "strided": Trunk(_strided, "exact"),
    "overlapping": Trunk(_overlapping, "exact"),
    "residual_valid": Trunk(_residual_valid, "exact", (2, 3)),
    "separable_valid": Trunk(_separable_valid, "exact", (1, 2)),
    "grouped": Trunk(_grouped, "exact", (1, 2)),
    "same": Trunk(_same, "native"),
    "strided_same": Trunk(_strided_same, "native"),
    "padded": Trunk(_padded, "native"),
    "dilated": Trunk(_dilated, "native"),
    "max_same": Trunk(_max_same, "native"),
    "average_same": Trunk(_average_same, "native"),
    "residual": Trunk(_residual, "native"),
    "inception": Trunk(_inception, "native"),
    "separable": Trunk(_separable, "native", (1, 2)),
    "excite": Trunk(_excite, "approximate"),
}


def classifier(trunk: str, rank: int = 2, data_format: str = "channels_last", head: str = "flatten", **kwargs: Any):
    """A prepared classifier of 5 logits: a trunk of TRUNKS and a head, `flatten`, `average` or `max`."""
    keras.utils.set_random_seed(3)
    k = Kit(rank, data_format)
    x = k.input(**kwargs)
    y = TRUNKS[trunk].build(k, x)
    y = {"flatten": k.flatten, "average": k.gap, "max": k.gmp}[head]()(y)
    y = layers.Dense(5)(layers.Dense(7, activation="relu")(y))
    return prepare(keras.Model(x, y, name=trunk), data_format=data_format)
