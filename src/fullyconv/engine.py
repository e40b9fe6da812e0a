"""Run any Keras model, at any batch and any image size, on the fastest kept engine installed.

On Keras's openvino backend the model is traced to an OpenVINO graph, lowered to channels-first, and compiled in
the precision asked for. On every other backend Keras's own `predict` runs it: to have OpenVINO there, save the
model and run it in a process with KERAS_BACKEND=openvino, as the commands do (design/heads.md says why).
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

import keras
import ml_dtypes
import numpy as np

from fullyconv.errors import FullyConvError, GeometryError, UnsupportedModelError
from fullyconv.model_files import cause_of

__all__ = ["Compiled", "Runnable", "compile"]

PRECISIONS = ("f32", "bf16")
PREDICT_PIXELS = 16 * 224 * 224  # positions a batch of Keras's own `predict`

Shape = tuple[int, ...]


class Runnable(Protocol):
    """What `compile` needs: every built `keras.Model` has it, and so may any other object.

    `inputs` lists the symbolic inputs (shape with the batch in front, dtype, name); `input` is the same in the
    structure the object is called with. Calling it on backend tensors in that structure computes the inference
    outputs. An optional `weights` lists its `keras.Variable`s, so that changed weights are noticed.
    """

    inputs: list[keras.KerasTensor]
    input: Any

    def __call__(self, x: Any) -> Any:
        """The outputs, as backend tensors in any structure."""
        ...


def compile(model: Runnable, precision: str = "f32", *, cache_dir: str | Path | None = None) -> Compiled:
    """A callable that runs `model` on NumPy arrays of any batch and any size the model takes.

    Outputs equal the model's own up to rounding in `precision`. Weights assigned after this call are noticed at
    the next one; layers that are added, removed or replaced are not (see `Compiled.refresh`).

    Args:
        model: A built Keras model, or a `Runnable`.
        precision: `"f32"`, or `"bf16"` for the fast mode (about 5e-3 of the largest output off).
        cache_dir: Folder in which OpenVINO keeps compiled graphs between processes; None keeps none.

    Raises:
        ValueError: For a precision that is unknown, or that the running Keras backend does not have.
        UnsupportedModelError: For a model without symbolic inputs.

    Example:
        >>> model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(8, 3)])
        >>> run = compile(model)
        >>> run(np.zeros((1, 20, 30, 3), "float32")).shape
        (1, 18, 28, 8)
    """
    _check_precision(precision)
    _check_model(model)
    return Compiled(model, precision, cache_dir)


def openvino_graph(model: Runnable, outputs: Sequence[str]) -> Any:
    """The `openvino.Model` that runs `model` at any batch and any size, its inputs named as the model's.

    Only on Keras's openvino backend.

    Args:
        model: A built Keras model, or a `Runnable`.
        outputs: Names for its outputs.

    Raises:
        UnsupportedModelError: For a model without symbolic inputs.
    """
    _check_model(model)
    from fullyconv._openvino import lower, named, trace  # noqa: PLC0415  other backends run without OpenVINO

    sizes = [(-1, *(-1 if n is None else n for n in t.shape[1:])) for t in model.inputs]
    graph, _ = trace(_caller(model), model.inputs, _structure(model), sizes)
    return named(lower(graph), [t.name for t in model.inputs], outputs)


class Compiled:
    """A model ready to run: call it on arrays in the model's input structure, get arrays in its output structure.

    The first shapes get a graph each, compiled at their first call; after that one graph of unknown sizes serves
    the new ones. It keeps something of each size, so after 64 of them it is compiled anew: 500 sizes of MobileNetV2
    add 0.16 GB to a process, and without that would add 0.63 GB (benchmarks/many_sizes.py). Calls from several
    threads are safe; they wait for each other.

    Attributes:
        compile_seconds: Time the last call spent tracing and compiling; 0 for a shape already compiled, and on
            backends where Keras compiles inside its first `predict`.
        run_seconds: Time the last call spent computing.
    """

    compile_seconds: float
    run_seconds: float

    def __init__(self, model: Runnable, precision: str, cache_dir: str | Path | None) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._runner = _runner(model, precision, cache_dir)
        self._weights = _Weights(model)
        self.compile_seconds = self.run_seconds = 0.0

    def __call__(self, x: Any) -> Any:
        """The model's outputs on `x`, as NumPy arrays.

        Args:
            x: Array, list, tuple or dict of arrays in the model's input structure; cast to its input dtypes.

        Raises:
            GeometryError: For arrays whose number, rank or fixed sizes the model does not take.
            UnsupportedModelError: For a model that Keras cannot compute.
        """
        arrays = _arrays(self._model, x)
        with self._lock, _explained(self._model):
            if self._weights.changed():
                self._refresh()
            start = time.perf_counter()
            ready = self._runner.prepare([a.shape for a in arrays])
            prepared = time.perf_counter()
            result = keras.tree.map_structure(_as_numpy, ready(arrays))
            self.compile_seconds, self.run_seconds = prepared - start, time.perf_counter() - prepared
        return result

    def refresh(self) -> None:
        """Drop every compiled graph; needed only after the model's layers, not its weights, were changed."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        self._runner.clear()
        self._weights = _Weights(self._model)


class _Weights:
    """Notices assignment: Keras's openvino backend gives a variable a new tensor each time."""

    def __init__(self, model: Runnable) -> None:
        self._held = [(v, v.value) for v in getattr(model, "weights", ())] if _on_openvino() else []

    def changed(self) -> bool:
        return any(variable.value is not value for variable, value in self._held)


class _Runner(Protocol):
    def prepare(self, shapes: list[Shape]) -> Callable[[list[np.ndarray]], Any]: ...

    def clear(self) -> None: ...


def _runner(model: Runnable, precision: str, cache_dir: str | Path | None) -> _Runner:
    if not _on_openvino():
        return _KerasRunner(model)
    from fullyconv._openvino import OpenVINORunner  # noqa: PLC0415  other backends run without OpenVINO

    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if cache_dir is not None:
        config["CACHE_DIR"] = str(cache_dir)
    weight_bytes = 4 * sum(int(np.prod(v.shape)) for v in getattr(model, "weights", ()))
    return OpenVINORunner(_caller(model), model.inputs, _structure(model), weight_bytes, config)


class _KerasRunner:
    """Keras's own `predict` for models, a plain call without gradients for anything else."""

    def __init__(self, model: Runnable) -> None:
        self._model: Any = model

    def clear(self) -> None:
        """Forget what was compiled."""
        self.__dict__.pop("_jitted", None)

    def prepare(self, shapes: list[Shape]) -> Callable[[list[np.ndarray]], Any]:  # noqa: ARG002
        """What runs arrays of these shapes."""
        return self._predict if isinstance(self._model, keras.Model) else self._call

    def _predict(self, arrays: list[np.ndarray]) -> Any:
        positions = max(int(np.prod(a.shape[1:-1])) for a in arrays)
        batch = max(1, min(32, PREDICT_PIXELS // positions))
        return self._model.predict(self._pack(arrays), batch_size=batch, verbose=0)

    def _call(self, arrays: list[np.ndarray]) -> Any:
        if keras.backend.backend() == "jax":
            return self._jitted([variable.value for variable in self._weights], arrays)
        with _no_gradients():
            return self._model(self._pack([keras.ops.convert_to_tensor(a) for a in arrays]))

    @functools.cached_property
    def _jitted(self) -> Callable[..., Any]:
        """All of it compiled at once: JAX would else compile each operation for itself, at every size anew."""
        import jax  # noqa: PLC0415  # present on this backend

        def outputs(values: Sequence[Any], arrays: list[Any]) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(self._weights, values, strict=True))):
                return self._model(self._pack(arrays))

        return cast("Callable[..., Any]", jax.jit(outputs))

    @property
    def _weights(self) -> list[Any]:
        return list(getattr(self._model, "weights", ()))

    def _pack(self, flat: list[Any]) -> Any:
        return keras.tree.pack_sequence_as(_structure(self._model), flat)


def _no_gradients() -> AbstractContextManager[Any]:
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch  # noqa: PLC0415  present on this backend only

    return torch.no_grad()


def _caller(model: Runnable) -> Callable[[Any], Any]:
    """The model's call, told that it is not training where it can be told."""
    if isinstance(model, keras.Model) and "training" in inspect.signature(model.call).parameters:
        return lambda x: model(x, training=False)
    return model


def _on_openvino() -> bool:
    return keras.backend.backend() == "openvino"


@contextmanager
def _explained(model: Runnable) -> Iterator[None]:
    """Say of which model Keras, or what runs below it, says that it cannot be computed."""
    try:
        yield
    except (FullyConvError, AssertionError, MemoryError, NameError):
        raise
    except Exception as error:  # of whatever kind
        raise UnsupportedModelError(
            f"{getattr(model, 'name', 'model')!r} cannot be computed by Keras on {keras.backend.backend()}: "
            f"{cause_of(error)}\nSee whether the classifier itself answers there:  model.predict(images)"
        ) from error


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        known = " or ".join(repr(p) for p in PRECISIONS)
        raise ValueError(f"precision={precision!r} is unknown: use {known}.")
    if precision == "bf16" and not _on_openvino():
        raise ValueError(
            f"precision='bf16' needs Keras's openvino backend and {keras.backend.backend()} is running: set "
            "KERAS_BACKEND=openvino, or use precision='f32' with a model of dtype policy 'mixed_bfloat16'."
        )


def _check_model(model: Any) -> None:
    if not (_has(model, "inputs") and (isinstance(model, keras.Sequential) or _has(model, "input"))):
        raise UnsupportedModelError(
            f"{getattr(model, 'name', type(model).__name__)!r} has no symbolic inputs, so it cannot be compiled.\n"
            "  Its call cannot be traced without knowing what it takes.\n"
            "  Build it as a Functional model, or give a Sequential model a keras.Input as its first layer."
        )


def _structure(model: Runnable) -> Any:
    """The inputs as the model is called with them; a Sequential model has one, and does not tell."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _has(model: Any, name: str) -> bool:
    try:
        return bool(getattr(model, name, None) is not None)
    except (AttributeError, ValueError):  # how Keras says "not built yet"
        return False


def _arrays(model: Runnable, x: Any) -> list[np.ndarray]:
    """The arrays of `x` in the order of `model.inputs`, checked and cast."""
    flat = [x] if _is_single(model) and not isinstance(x, (list, tuple, dict)) else _flat(model, x)
    if len(flat) != len(model.inputs):
        raise GeometryError(f"The model takes {len(model.inputs)} arrays and got {len(flat)}.")
    return [_array(a, t) for a, t in zip(flat, model.inputs, strict=True)]


def _is_single(model: Runnable) -> bool:
    return len(model.inputs) == 1


def _flat(model: Runnable, x: Any) -> list[Any]:
    names = _structure(model)
    if isinstance(x, dict) and isinstance(names, dict):
        missing = sorted(set(names) - set(x))
        if missing:
            raise GeometryError(f"The model's input {missing[0]!r} is missing: it takes {sorted(names)}.")
        x = {name: x[name] for name in names}
    return keras.tree.flatten(x)


def _array(x: Any, like: keras.KerasTensor) -> np.ndarray:
    array = np.asarray(x)
    fits = array.ndim == len(like.shape) and all(
        n in (None, m) for m, n in zip(array.shape[1:], like.shape[1:], strict=True)
    )
    if not fits or 0 in array.shape:
        raise GeometryError(
            f"Input {like.name!r} takes arrays of shape {_words(like.shape)} and got {_words(array.shape)}."
        )
    return array.astype(like.dtype if like.dtype != "bfloat16" else ml_dtypes.bfloat16, copy=False)


def _words(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"


def _as_numpy(x: Any) -> np.ndarray:
    array = keras.ops.convert_to_numpy(x)
    return array.astype("float32") if array.dtype == ml_dtypes.bfloat16 else array
