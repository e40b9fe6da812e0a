"""Pictures that travel inside the page: the photograph once, and the heat map of each class, as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fullyconv.colours import colour_table
from fullyconv.drawing import as_pillow
from fullyconv.render import CellAxis, Scale, interpolate

_PHOTO, _HEAT = 1200, 480  # longest sides, in pixels


def photograph(image: np.ndarray) -> str:
    """A photograph `(height, width, channels)`, 0..255, as a PNG or a JPEG, whichever is smaller."""
    picture = as_pillow(image)
    picture.thumbnail((_PHOTO, _PHOTO), Image.Resampling.LANCZOS)
    picture = picture.convert("RGB")
    return min(_address(picture, "png", optimize=True), _address(picture, "jpeg", quality=88), key=len)


def heat(values: np.ndarray, axes: Sequence[CellAxis], size: Sequence[int], scale: Scale) -> str:
    """The values of one class in colours, as a PNG of the pixels that have cells, and nothing around them.

    Args:
        values: Values `(rows, columns)`.
        axes: Where the cells are.
        size: Size of the photograph.
        scale: What the ends of the colours stand for.
    """
    boxes = [axis.covered(n) for axis, n in zip(axes, size, strict=True)]
    step = max(high - low for low, high in boxes) / _HEAT
    rows, columns = (np.arange(max(1, round((high - low) / step))) * step + low + step / 2 for low, high in boxes)
    share = scale.position(interpolate(values, axes, rows, columns))
    picture = Image.fromarray(np.rint(share * 255).astype(np.uint8))
    picture.putpalette(colour_table().tobytes())
    return _address(picture, "png", optimize=True)


def _address(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
