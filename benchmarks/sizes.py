"""Curves: speed-up against image size, time against cells, memory against image size.

    python benchmarks/sizes.py [--only ROW ...] [--rounds 5] [--again]

Each point is a process of its own. Writes results/sizes.json and, from it, docs/speed.md;
`python docs/figures.py speed` draws it.
"""

from __future__ import annotations

from typing import Any

from measuring.running import options_of, run
from measuring.speed_page import write

SIZES = {
    "VGG16": (224, 288, 352, 416, 512, 640, 800, 1024),
    "EfficientNetLite0": (224, 320, 416, 512, 768, 1024, 1536, 2048),
}
ROWS = {f"{net} {size}": {"KERAS_BACKEND": "openvino"} for net, sizes in SIZES.items() for size in sizes}


def main() -> None:
    """Measure what is asked for, and write the page."""
    run(__file__, options_of(__doc__.splitlines()[0]), ROWS, measure, write)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One point."""
    from measuring.growth import at_size  # noqa: PLC0415  it imports Keras

    net, size = name.split()
    return at_size(net, int(size), rounds)


if __name__ == "__main__":
    main()
