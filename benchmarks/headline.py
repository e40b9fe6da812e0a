"""The FCN paper's headline again: AlexNet over 500 x 500 pixels, a map of 10 x 10, beside 100 windows of 227 x 227.

    python benchmarks/headline.py [--rounds 7] [--again]

Long, Shelhamer and Darrell (2015) give 1.2 ms for a window and 22 ms for the map on a GPU of that time, and 2.4 and
37 ms backward: "more than 5 times faster" than windows. Forward is measured on this package's engine and on jax,
backward on jax. Writes results/headline.json and, from it, docs/speed.md.
"""

from __future__ import annotations

from typing import Any

from measuring.running import options_of, run
from measuring.speed_page import write

ROWS = {
    "forward, this package": {"KERAS_BACKEND": "openvino"},
    "forward, jax": {"KERAS_BACKEND": "jax"},
    "forward and backward, jax": {"KERAS_BACKEND": "jax"},
}


def main() -> None:
    """Measure what is asked for, and write the page."""
    run(__file__, options_of(__doc__.splitlines()[0]), ROWS, measure, write)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One row."""
    from measuring.alexnets import FIGURES  # noqa: PLC0415  it imports Keras

    return FIGURES[name](rounds)


if __name__ == "__main__":
    main()
