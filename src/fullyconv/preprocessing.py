"""What happens to pixels before a network sees them: Keras's modes, a scale and an offset, or a function.

mode        what it computes from pixels x on the scale 0..255
"tf"        x / 127.5 - 1
"torch"     (x / 255 - mean) / std, with ImageNet's means and deviations of red, green and blue
"caffe"     blue, green, red, minus ImageNet's mean of each
"unit"      x / 255
"none"      x
a dict      x * scale + offset, after reversing the channels if bgr: {"scale": 1 / 128, "offset": -127 / 128}
a function  whatever it returns
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fullyconv.errors import ImageError

Mode = str | dict[str, Any] | Callable[[np.ndarray], Any] | None

_MEAN = np.array([0.485, 0.456, 0.406])
_STD = np.array([0.229, 0.224, 0.225])
_CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68])
_MODES: dict[str, dict[str, Any]] = {
    "tf": {"scale": 1 / 127.5, "offset": -1.0},
    "torch": {"scale": 1 / (255 * _STD), "offset": -_MEAN / _STD},
    "caffe": {"bgr": True, "offset": -_CAFFE_MEAN_BGR},
    "unit": {"scale": 1 / 255},
    "none": {},
}
_FORMULAS = {
    "tf": "x / 127.5 - 1",
    "torch": "(x / 255 - mean) / std of ImageNet",
    "caffe": "blue, green, red minus ImageNet's means",
    "unit": "x / 255",
    "none": "x as it is, 0 to 255",
}
_KEYS = ("scale", "offset", "bgr")
# Names in keras.applications, and the mode of their preprocess_input.
_APPLICATIONS = {
    r"VGG\d+|ResNet\d+": "caffe",
    r"DenseNet\d+": "torch",
    r"ResNet\d+V2|MobileNet(V2)?|Inception(ResNetV2|V3)|Xception|NASNet\w+": "tf",
    r"EfficientNet\w+|ConvNeXt\w+|MobileNetV3\w+": "none",
}


def preprocess(x: np.ndarray, mode: Mode = None, data_format: str = "channels_last") -> np.ndarray:
    """Pixels as the network was trained on them, in float32.

    Args:
        x: pixels on the scale 0..255, of any leading shape.
        mode: `"tf"`, `"torch"`, `"caffe"`, `"unit"`, `"none"` or `None`; a dict with any of `scale`, `offset` (one
            number, or one a channel) and `bgr`, meaning `x * scale + offset` after the channels are reversed; or a
            function of `x`.
        data_format: where the channels are: `"channels_last"`, or `"channels_first"` for the third axis from the end.

    Raises:
        ImageError: there is no such mode, or it does not fit the number of channels.

    Example:
    >>> preprocess(np.array([[[0, 127.5, 255]]]), "tf").tolist()
    [[[-1.0, 0.0, 1.0]]]
    >>> preprocess(np.array([[[255]]]), {"scale": 1 / 128, "offset": -127 / 128}).tolist()
    [[[1.0]]]
    """
    recipe = check_mode(mode)
    if callable(recipe):
        return np.asarray(recipe(x), np.float32)
    axis = -1 if data_format == "channels_last" else -3
    last = np.moveaxis(np.asarray(x), axis, -1)
    last = last[..., ::-1] if recipe.get("bgr") else last
    scale, offset = (_factor(recipe, key, last.shape[-1], mode) for key in ("scale", "offset"))
    prepared = np.multiply(last, scale, dtype=np.float32, casting="unsafe")
    prepared += offset
    return np.ascontiguousarray(np.moveaxis(prepared, -1, axis))


def of_application(name: str) -> str | None:
    """The mode in which a model of `keras.applications` was trained; `None` where it is not known.

    >>> of_application("VGG16"), of_application("MobileNetV2"), of_application("my_net")
    ('caffe', 'tf', None)
    """
    fits = (mode for pattern, mode in _APPLICATIONS.items() if re.fullmatch(pattern, name, re.IGNORECASE))
    return next(fits, None)


def describe(mode: Mode) -> str:
    """What `preprocess` does in this mode, in a few words.

    >>> describe("tf")
    "x / 127.5 - 1 ('tf')"
    >>> describe({"scale": 2.0, "bgr": True})
    'blue, green, red: x * 2.0 + 0.0'
    """
    recipe = check_mode(mode)
    if callable(recipe):
        return f"the function {getattr(recipe, '__name__', type(recipe).__name__)}"
    if not isinstance(mode, dict):
        name = str(mode or "none")
        return f"{_FORMULAS[name]} ('{name}')"
    order = "blue, green, red: " if mode.get("bgr") else ""
    text = f"{order}x * {mode.get('scale', 1.0)} + {mode.get('offset', 0.0)}"
    return text.replace("+ -", "- ")


def check_mode(mode: Mode) -> dict[str, Any] | Callable[[np.ndarray], Any]:
    """The function, or the dict of scale, offset and bgr, that a mode stands for; ImageError where it is none."""
    if mode is None or callable(mode):
        return mode or {}
    if isinstance(mode, str) and mode in _MODES:
        return _MODES[mode]
    if isinstance(mode, dict) and set(mode) <= set(_KEYS):
        return mode
    wrong = sorted(set(map(str, mode)) - set(_KEYS)) if isinstance(mode, dict) else repr(mode)
    raise ImageError(
        f"There is no preprocessing {wrong}; use one of {', '.join(map(repr, _MODES))}, a dict with 'scale', 'offset' "
        f"and 'bgr', or a function."
    )


def _factor(recipe: dict[str, Any], key: str, channels: int, mode: Mode) -> np.ndarray:
    values = np.asarray(recipe.get(key, 1.0 if key == "scale" else 0.0), np.float32)
    if values.ndim > 1 or values.size not in (1, channels):
        given = f"preprocessing {mode!r}" if isinstance(mode, str) else f"{key} of the preprocessing"
        remedy = "use 'unit' or 'tf'" if isinstance(mode, str) else "give one number, or one for each channel"
        raise ImageError(f"The {given} is for {values.size} channels, and the picture has {channels}; {remedy}.")
    return values
