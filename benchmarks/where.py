"""Where the time of a map goes: the share of each kind of operation, as OpenVINO counts it.

    python benchmarks/where.py [--rounds 7] [--again]

Writes results/where.json and, from it, docs/speed.md.
"""

from __future__ import annotations

from typing import Any

from measuring.running import options_of, run
from measuring.speed_page import write

SIZES = {
    "VGG16": 512,
    "AlexNet": 500,
    "ResNet50": 1024,
    "MobileNetV2": 1024,
    "EfficientNetB0": 1024,
    "EfficientNetLite0": 1024,
    "chess": 400,
}
ROWS = {f"{net} {size}": {"KERAS_BACKEND": "openvino"} for net, size in SIZES.items()}


def main() -> None:
    """Measure what is asked for, and write the page."""
    run(__file__, options_of(__doc__.splitlines()[0]), ROWS, measure, write)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One row."""
    from measuring.profiles import profile  # noqa: PLC0415  it imports Keras

    net, size = name.split()
    return profile(net, int(size), rounds)


if __name__ == "__main__":
    main()
