"""Whether a network's numbers can be right: its weights and constants are finite and real, its variances above 0.

Some backends hide what is not: OpenVINO's ReLU makes 0 of NaN, so that a network of nothing but NaN answers, and agrees
with its conversion to the last digit. Weights are looked at where they lie, a piece at a time: no copy is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np

from fullyconv import _keras
from fullyconv.errors import WeightsError
from fullyconv.walk import unique_names

_PIECE = 2**18  # values looked at together, which stay in the processor's cache
_SHOWN = 10
_DIVIDING = (_keras.numpy_operations.Divide, _keras.numpy_operations.TrueDivide)
_RETRAIN = (
    "What such a network answers means nothing: the training diverged, or the file is damaged.\n"
    "Use a checkpoint from before that."
)
_REBUILD = "Build the layer with other numbers."


def check_weights(model: keras.Model) -> None:
    """Refuse a model with weights or constants that cannot be right.

    Raises:
        WeightsError: some are NaN, infinite or complex, or a variance is not above 0; the first layers are named.
    """
    weights, constants = _all_faults(model)
    layers = list(dict.fromkeys((*weights, *constants)))
    if layers:
        lines = [f"{name!r}: {', '.join((*weights.get(name, ()), *constants.get(name, ())))}" for name in layers]
        remedies = [remedy for remedy, found in ((_RETRAIN, weights), (_REBUILD, constants)) if found]
        many = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
        verb = "holds" if len(layers) == 1 else "hold"
        refuse(f"{many} of {model.name!r} {verb} numbers that cannot be right:", lines, "\n".join(remedies))


def refuse(what: str, lines: Sequence[str], remedy: str = _RETRAIN) -> None:
    """Raise the error for weights that cannot be right, the first lines shown.

    Raises:
        WeightsError: always.
    """
    rest = len(lines) - _SHOWN
    more = [f"and {rest} more"] if rest > 0 else []
    raise WeightsError(what, [*lines[:_SHOWN], *more], remedy)


def faults_in(layer: keras.Layer, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """What is wrong with arrays that a layer is to get, by the names of its weights."""
    found = [text for name, array in arrays.items() if (text := fault(name, pieces_of(array)))]
    return found or list(_of_variance(layer, arrays.get("moving_variance", arrays.get("variance"))))


def fault(name: str, pieces: Iterable[np.ndarray]) -> str | None:
    """What is wrong with the values of a weight, in words; None where nothing is.

    Args:
        name: What to call the weight.
        pieces: Its values, in any number of arrays.
    """
    nan = infinite = 0
    for piece in pieces:
        if piece.dtype.kind == "c":
            return f"{name} is complex"
        if not _has_fraction(piece.dtype.name):
            return None
        if not np.isfinite(piece).all():
            nan += int(np.isnan(piece).sum())
            infinite += int(np.isinf(piece).sum())
    found = [f"{nan:,} NaN"] if nan else []
    found += [f"{infinite:,} infinite value{'s' * (infinite > 1)}"] if infinite else []
    return f"{name} has {' and '.join(found)}" if found else None


def pieces_of(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array as pieces that `fault` takes; views of it where its memory is in order."""
    flat = array.reshape(-1)
    yield from (flat[i : i + _PIECE] for i in range(0, flat.size, _PIECE))


Faults = dict[str, list[str]]


def _all_faults(model: keras.Model) -> tuple[Faults, Faults]:
    """What is wrong with the weights of each layer, and with the constants of each layer or operation, by its name."""
    weights: Faults = {}
    constants: Faults = {}
    names, seen = unique_names(model), set[int]()
    for _, operation in _keras.operations_of(model):
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        name = names[id(operation)]
        _note(weights, name, _of_weights(getattr(operation, "weights", ()), seen))
        if name not in weights:
            _note(weights, name, _of_variance(operation, _variance(operation)))
        _note(constants, name, _of_constants(operation))
    for variable in model.weights:  # those of layers that call layers of their own
        _note(weights, variable.path.rpartition("/")[0] or model.name, _of_weights([variable], seen))
    return weights, constants


def _note(faults: Faults, name: str, found: Iterable[str]) -> None:
    for text in found:
        faults.setdefault(name, []).append(text)


def _of_weights(variables: Iterable[keras.Variable], seen: set[int]) -> Iterator[str]:
    for variable in variables:
        if id(variable) not in seen:
            seen.add(id(variable))
            text = fault(variable.name, _pieces(variable)) if _has_fraction(variable.dtype) else None
            if text is not None:
                yield text


def _has_fraction(dtype: str) -> bool:
    """Whether values of a type can be wrong: whole numbers and truth values cannot."""
    return dtype.startswith(("float", "bfloat", "complex"))


def _of_variance(layer: Any, variance: np.ndarray | None) -> Iterator[str]:
    """A variance whose root, or the inverse of that, is not a number."""
    if variance is not None and isinstance(layer, keras.layers.BatchNormalization):
        low = int((variance.astype("float32") + np.float32(layer.epsilon) <= 0).sum())
        if low:
            yield f"moving_variance + epsilon is not above 0 in {_places(low)}"
    elif variance is not None and isinstance(layer, keras.layers.Normalization):
        low = int((variance < 0).sum())
        if low:
            yield f"variance is below 0 in {_places(low)}"


def _variance(layer: Any) -> np.ndarray | None:
    """The variance that a layer divides by, if it has one."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return _values(layer.moving_variance)
    if not isinstance(layer, keras.layers.Normalization):
        return None
    return _values(layer.adapt_variance) if layer.input_variance is None else _numbers(layer.input_variance)


def _places(count: int) -> str:
    return f"{count:,} place{'s' * (count > 1)}"


def _of_constants(operation: Any) -> Iterator[str]:
    """Numbers that a layer or operation was made with, and that make NaN of everything."""
    for name, value in vars(operation).items():
        if isinstance(value, float) and value != value:  # noqa: PLR0124  NaN, faster than NumPy says so
            yield f"{name.strip('_')} is NaN"
    if isinstance(operation, keras.layers.Normalization):
        given = {"mean": operation.input_mean, "variance": operation.input_variance}
    elif isinstance(operation, keras.layers.Rescaling):
        given = {"scale": operation.scale, "offset": operation.offset}
    else:
        given = {}
        yield from () if isinstance(operation, keras.layers.Layer) else _of_arguments(operation)
    for name, value in given.items():
        text = fault(name, [_numbers(value)])
        if text is not None and text != f"{name} is NaN":
            yield text


def _of_arguments(operation: Any) -> Iterator[str]:
    """Constants that an operation was called with: infinite ones may be meant."""
    for node in operation._inbound_nodes:
        args = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        values = [_numbers(x) for x in args if not isinstance(x, keras.KerasTensor)]
        if any(x.dtype.kind == "f" and np.isnan(x).any() for x in values):
            yield "a constant is NaN"
        divisor = _numbers(node.arguments.args[1]) if len(node.arguments.args) > 1 else _numbers(None)
        if isinstance(operation, _DIVIDING) and divisor.size and (divisor == 0).any():
            yield "divides by 0"


def _numbers(value: Any) -> np.ndarray:
    """A constant as an array; an empty one where it is not made of numbers."""
    if isinstance(value, (int, float, complex, list, tuple, np.ndarray, np.generic)):
        array = np.asarray(value)
        return array if array.dtype.kind in "fiuc" else np.zeros(0)
    if keras.ops.is_tensor(value):
        return np.asarray(keras.ops.convert_to_numpy(value))
    return np.zeros(0)


def _values(variable: keras.Variable) -> np.ndarray:
    return np.concatenate([np.asarray(piece) for piece in _pieces(variable)])


def _pieces(variable: keras.Variable) -> Iterator[np.ndarray]:
    """A variable's values in pieces, none of them a copy of the whole where the backend lets its memory be read."""
    backend, value = keras.backend.backend(), variable.value
    if backend == "torch":
        flat = value.detach().reshape(-1)
        parts = (flat[i : i + _PIECE] for i in range(0, flat.shape[0], _PIECE))
        yield from (keras.ops.convert_to_numpy(part) for part in parts)
    elif backend == "openvino":
        yield from pieces_of(_of_openvino(value))
    elif backend == "tensorflow" and variable.dtype != "bfloat16":
        yield from pieces_of(np.asarray(memoryview(value.read_value())))
    else:
        yield from pieces_of(_keras.value_of(variable))


def _of_openvino(value: Any) -> np.ndarray:
    """The memory of a constant; for a constant that is repeated, of the one."""
    node = value.output.get_node()
    if node.get_type_name() == "Broadcast":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return np.asarray(keras.ops.convert_to_numpy(value))
    return node.data.view(ml_dtypes.bfloat16) if value.dtype == "bfloat16" else node.data
