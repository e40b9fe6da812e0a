"""How a network scales the pixels that it is given itself, and what to say of it where they are prepared.

Read off the graph, so that a classifier, what it was converted to, and a file that Keras saved say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from fullyconv import _keras
from fullyconv.inputs import image_inputs
from fullyconv.preprocessing import Mode, check_mode, describe
from fullyconv.rules import RULES
from fullyconv.rules.conv import cropping, pad_operation, padding, upsampling
from fullyconv.rules.flatten import flatten, rearranged, reshape, squeeze
from fullyconv.rules.merge import concatenate, concatenate_operation
from fullyconv.rules.pointwise import as_tensor, dropout
from fullyconv.rules.pool import average_pooling, max_pooling
from fullyconv.rules.rule import dropped

_NAMED = 3  # how many layers a message names
_NEARLY = 2.0  # of 255: a range this near to that of pixels is that of pixels
_NARROW = 64.0  # no network is trained on a wider range, unless 0 is inside it
_SMALL = 4.0  # what becomes 0, where it is not pixels that are scaled but values of 0 to 1, or -1 to 1

Kind = Literal["pixels", "usual", "large", "odd"]


@dataclass(frozen=True)
class Range:
    """What pixels from 0 to 255 become.

    Args:
        scale: What they are multiplied by; that of the middle channel where it differs between channels.
        offset: What is added then.
    """

    scale: float = 1.0
    offset: float = 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        ends = self.offset, self.offset + 255 * self.scale
        return min(ends), max(ends)

    @property
    def kind(self) -> Kind:
        """Whether they still are pixels, or usual for networks, or would be for values of 0 to 1; or odd."""
        low, high = self.ends
        if abs(low) <= _NEARLY and abs(high - 255) <= _NEARLY:
            return "pixels"
        around = low < -_NEARLY and high > _NEARLY
        if high - low <= _NARROW or (high - low <= 256 and around):
            return "usual"
        return "large" if abs(self.offset) <= _SMALL * abs(self.scale) else "odd"


@dataclass(frozen=True)
class Scaling:
    """How a network scales pixels itself.

    Args:
        names: The layers and operations that do it, in their order.
        range: What pixels from 0 to 255 become.
    """

    names: tuple[str, ...]
    range: Range

    @property
    def of_pixels(self) -> bool:
        """Whether it is made for pixels from 0 to 255, and not for values that were scaled before."""
        return self.range.kind == "usual"

    def __str__(self) -> str:
        """The names, the first of them: 'rescaling', 'normalization'."""
        rest = len(self.names) - _NAMED
        return ", ".join(map(repr, self.names[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def scaling_of(model: Any) -> Scaling | None:
    """How a network scales the pixels that it is given; None where it does not, or not all of them alike.

    Looked for in front of what mixes pixels or bends their values (a convolution, a Dense layer, an activation, a
    normalisation that was trained): Rescaling, Normalization, and arithmetic with constants, as `preprocess_input`
    does. Augmentation, padding, cropping, pooling and another order of the values do not matter.

    Args:
        model: A classifier or a converted network.

    Example:
        >>> from fullyconv.scaling import scaling_of
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(4, 3)])
        >>> scaling_of(model).range.ends
        (-1.0, 1.0)
    """
    if _keras.graph_of(model) is None:
        return None
    ends: list[Any] = []

    def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
        step = _keras.rule_for(operation, _STEPS)
        given = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, _Pixels)]
        out = step(operation, *args, *kwargs.values()) if given and step else _OTHER
        if out is _OTHER and not isinstance(operation, _OF_SHAPES):
            ends.extend(given)
        return keras.tree.map_structure(lambda _: out, operation.output)

    entering = [_Pixels() if image else _OTHER for image in image_inputs(model)]
    ends += [x for x in keras.tree.flatten(_keras.walk(model, entering, visit)) if isinstance(x, _Pixels)]
    kinds = {x.range.kind for x in ends}
    if len(kinds) != 1 or kinds <= {"pixels", "odd"}:
        return None
    return Scaling(_names(ends), ends[0].range)


def preparation(model: Any, mode: Mode, from_model: bool = False) -> tuple[str, ...]:
    """What happens to the pixels of a picture, in sentences; where they are scaled twice, the last one warns.

    Args:
        model: The network.
        mode: How pixels are prepared; see `fullyconv.preprocessing`.
        from_model: Whether that is what the network's file says.
    """
    check_mode(mode)
    if mode is not None:
        said = f"Preprocessing: {describe(mode)}{', as the model says' if from_model else ''}."
        warning = twice(model, mode)
        return (said, warning) if warning else (said,)
    return (_unprepared(scaling_of(model)),)


def _unprepared(scaling: Scaling | None) -> str:
    """What to say where no preprocessing was given."""
    if scaling is None:
        return (
            "No preprocessing was given, and the model names none: the pixels went in as they are, 0 to 255. If it was "
            "trained on another range, this map is wrong: give it, such as preprocess='tf'."
        )
    if scaling.of_pixels:
        return f"The model scales pixels itself ({scaling}): they went in as they are, 0 to 255."
    low, high = scaling.range.ends
    return (
        f"No preprocessing was given: the pixels went in as they are, 0 to 255. The model scales what it is given "
        f"itself ({scaling}), here to values from {low:.4g} to {high:.4g}: it seems to be trained on a smaller range. "
        f"If so, this map is wrong: give preprocess='unit' for 0 to 1, or preprocess='tf' for -1 to 1."
    )


def twice(model: Any, mode: Mode) -> str | None:
    """A warning where a network scales pixels itself and is given a preprocessing that scales them too."""
    recipe = check_mode(mode)
    if not callable(recipe) and _range_of(recipe).kind == "pixels":
        return None
    scaling = scaling_of(model)
    if scaling is None or not scaling.of_pixels:
        return None
    if callable(recipe):
        return (
            f"The model scales pixels itself ({scaling}). If {describe(mode)} scales them too, they are scaled twice "
            f"and the answers are wrong: then leave the preprocessing out, with preprocess='none'."
        )
    return (
        f"The model scales pixels itself ({scaling}), so they are scaled twice. Unless it was trained that way, the "
        f"answers are wrong: leave the preprocessing out, with preprocess='none'."
    )


def _range_of(recipe: Mapping[str, Any]) -> Range:
    """What a preprocessing makes of pixels from 0 to 255."""
    return _Pixels((), *(np.asarray(recipe.get(n, least), float) for n, least in (("scale", 1), ("offset", 0)))).range


@dataclass(frozen=True, eq=False)
class _Pixels:
    """What stands for a tensor of pixels, on whatever scale.

    Args:
        names: What has scaled them.
        scale: One number, or an array that combines with the tensor.
        offset: The same.
    """

    names: tuple[str, ...] = ()
    scale: Any = 1.0
    offset: Any = 0.0

    @property
    def range(self) -> Range:
        """What pixels from 0 to 255 have become, in the middle channel."""
        return Range(float(np.median(self.scale)), float(np.median(self.offset)))

    def scaled(self, operation: Any, scale: Any = 1.0, offset: Any = 0.0) -> _Pixels:
        """The same, multiplied by a scale and then moved by an offset."""
        name = operation.name
        if not isinstance(operation, keras.layers.Layer):
            name = re.sub(r"_\d+$", "", name)  # Keras counts operations through the whole process
        names = tuple(dict.fromkeys((*self.names, name)))
        return _Pixels(names, self.scale * scale, self.offset * scale + offset)


_OTHER = object()  # what stands for every other tensor


def _names(several: Iterable[_Pixels]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for x in several for name in x.names))


def _kept(_: Any, x: Any, *__: Any) -> Any:
    """The same pixels, some of them, or those of several tensors, in another order: one number stands for all."""
    given = keras.tree.flatten(x)
    if not all(isinstance(each, _Pixels) for each in given) or len({each.range.kind for each in given}) > 1:
        return _OTHER
    scales, offsets = ([getattr(each.range, part) for each in given] for part in ("scale", "offset"))
    return _Pixels(_names(given), np.median(scales), np.median(offsets))


def _rescaling(layer: keras.layers.Rescaling, x: _Pixels, *_: Any) -> _Pixels:
    return x.scaled(layer, np.asarray(layer.scale), np.asarray(layer.offset))


def _normalization(layer: keras.layers.Normalization, x: _Pixels, *_: Any) -> Any:
    if layer.mean is None:
        return _OTHER
    mean, variance = (keras.ops.convert_to_numpy(v).astype("float64") for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return x.scaled(layer, deviation, mean) if layer.invert else x.scaled(layer, 1 / deviation, -mean / deviation)


def _activation(layer: keras.layers.Activation, x: _Pixels, *_: Any) -> Any:
    return x if layer.activation is keras.activations.linear else _OTHER


def _negative(operation: Any, x: _Pixels) -> _Pixels:
    return x.scaled(operation, -1.0)


def _arithmetic(right: _Act, left: _Act) -> Callable[..., Any]:
    """What an operation on two values does to pixels: a scale and an offset, by the constant on either side."""

    def step(operation: Any, x: Any, y: Any) -> Any:
        pixels, constant, act = (x, y, right) if isinstance(x, _Pixels) else (y, x, left)
        if constant is _OTHER or isinstance(constant, _Pixels):
            return _OTHER
        found = act(np.asarray(keras.ops.convert_to_numpy(constant), "float64"))
        return _OTHER if found is None else pixels.scaled(operation, *found)

    return step


_Act = Callable[[Any], tuple[Any, Any] | None]
_divide = _arithmetic(lambda c: (1 / c, 0.0) if np.all(c) else None, lambda _: None)
_numpy, _core = _keras.numpy_operations, _keras.core_operations
# Of a tensor these read the shape alone.
_OF_SHAPES = (_numpy.OnesLike, _numpy.ZerosLike, _numpy.FullLike)
_KEEPING = (
    *(dropped, dropout, as_tensor, padding, pad_operation, cropping, upsampling, average_pooling, max_pooling),
    *(concatenate, concatenate_operation, flatten, rearranged, reshape, squeeze),
)
_STEPS: Mapping[type, Callable[..., Any]] = {
    **{kind: _kept for kind, rule in RULES.items() if rule in _KEEPING},
    **dict.fromkeys((keras.layers.Identity, keras.layers.ActivityRegularization, _keras.StochasticDepth), _kept),
    **dict.fromkeys((keras.layers.Resizing, keras.layers.CenterCrop, keras.layers.RandomCrop), _kept),
    **dict.fromkeys((_core.Cast, _core.StopGradient, _numpy.Clip, _numpy.Flip, _numpy.GetItem, _numpy.Take), _kept),
    **dict.fromkeys((_numpy.Stack, _numpy.Split, _numpy.Repeat, _numpy.Tile, _numpy.BroadcastTo), _kept),
    keras.layers.Activation: _activation,
    keras.layers.Normalization: _normalization,
    keras.layers.Rescaling: _rescaling,
    _numpy.Add: _arithmetic(lambda c: (1.0, c), lambda c: (1.0, c)),
    _numpy.Divide: _divide,
    _numpy.Multiply: _arithmetic(lambda c: (c, 0.0), lambda c: (c, 0.0)),
    _numpy.Negative: _negative,
    _numpy.Subtract: _arithmetic(lambda c: (1.0, -c), lambda c: (-1.0, c)),
    _numpy.TrueDivide: _divide,
}
