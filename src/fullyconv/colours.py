"""The colours of heat maps.

They run through OKLab (Björn Ottosson, 2020) at a steady pace: equal steps of the value are equal steps for the eye,
and brighter always means more, so that it reads in grey, and without telling red from green, too.
"""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def colour_table() -> np.ndarray:
    """256 colours from dark violet over red and orange to light yellow, evenly spaced in OKLab: `(256, 3)`, uint8."""
    fine = _path(np.linspace(0, 1, 4096))
    walked = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    even = np.interp(np.linspace(0, walked[-1], 256), walked, np.linspace(0, 1, 4096))
    return np.rint(255 * _oklab_to_srgb(_path(even))).astype(np.uint8)


def _path(t: np.ndarray) -> np.ndarray:
    """OKLab colours along the map: lightness rises, the hue turns from violet over red to yellow."""
    lightness = 0.24 + 0.70 * t
    hue = np.radians(292 + 172 * t)
    chroma = 0.115 + 0.085 * np.sin(np.pi * t**0.9) - 0.01 * t
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], -1)


def _oklab_to_srgb(lab: np.ndarray) -> np.ndarray:
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    linear = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
