"""Large numbers as people read them: 15.5 G things, 59.2 MiB."""

from __future__ import annotations

import math
from collections.abc import Sequence


def in_units(number: float) -> str:
    """A number of things with three digits, such as 15.5 G.

    Example:
        >>> from fullyconv.units import in_units
        >>> in_units(15_470_264_320), in_units(1_000_000), in_units(950)
        ('15.5 G', '1.00 M', '950')
    """
    return _scaled(number, 1000, ("", " k", " M", " G", " T", " P", " E"))


def in_bytes(number: float) -> str:
    """A number of bytes with three digits, such as 59.2 MiB.

    Example:
        >>> from fullyconv.units import in_bytes
        >>> in_bytes(25_690_112), in_bytes(12)
        ('24.5 MiB', '12 B')
    """
    return _scaled(number, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"))


def _scaled(number: float, step: int, units: Sequence[str]) -> str:
    value, i = float(number), 0
    while float(f"{value:.3g}") >= 1000 and i < len(units) - 1:
        value, i = value / step, i + 1
    if i == 0:
        return f"{number:.0f}{units[0]}"
    digits = 2 - math.floor(math.log10(float(f"{value:.3g}")))
    return f"{value:.{digits}f}{units[i]}"
