"""The target table: each figure as a ratio of things that take turns, beside its target.

    python benchmarks/targets.py [--only ROW ...] [--rounds 7] [--again] [--guard]
    python benchmarks/targets.py --list

Each row is a process of its own, or several that take turns; rows that are there are kept. Writes results/targets.json
and, from it, docs/speed.md. The rows of denser maps are those of `benchmarks/stride.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measuring.running import options_of, run
from measuring.speed_page import write

Row = dict[str, Any]

MAPS = {"VGG16": 512, "ResNet50": 1024, "MobileNetV2": 1024, "EfficientNetB0": 1024}
WINDOWS = {"VGG16": 512, "AlexNet": 500, "ResNet50": 512, "EfficientNetLite0": 1024, "chess": 400}
AT_THE_WINDOW = ("VGG16", "AlexNet", "ResNet50", "MobileNetV2", "EfficientNetLite0")
BY_PREDICT = [
    f"predict {backend} {name}" for backend in ("jax", "torch", "tensorflow") for name in ("VGG16", "ResNet50")
]
NAMES = [
    *(f"window {name}" for name in AT_THE_WINDOW),
    *BY_PREDICT,
    *(f"own {name} {size}" for name, size in MAPS.items()),
    *(f"windows {name} {size}" for name, size in WINDOWS.items()),
    *(f"backends {name} {size}" for name, size in MAPS.items()),
    *("conversion VGG16", "memory VGG16", "import"),
]
ROWS = {name: {"KERAS_BACKEND": name.split()[1] if name.startswith("predict") else "openvino"} for name in NAMES}


def main() -> None:
    """Measure what is asked for, and write the page."""
    run(__file__, options_of(__doc__.splitlines()[0]), ROWS, measure, write)


def measure(name: str, rounds: int) -> Row:
    """One row."""
    kind, *words = name.split()
    return KINDS[kind](*(int(word) if word.isdigit() else word for word in words), rounds)


def _figure(name: str) -> Callable[..., Row]:
    def measured(*args: Any) -> Row:
        from measuring import figures  # noqa: PLC0415  it imports Keras, which the other kinds do not

        return getattr(figures, name)(*args)

    return measured


def _predict(_: str, name: str, rounds: int) -> Row:
    return _figure("at_the_window")(name, rounds)


def _backends(name: str, size: int, rounds: int) -> Row:
    from measuring.duels import backends  # noqa: PLC0415

    return backends(name, size, rounds)


def _imports(rounds: int) -> Row:
    from measuring.imports import imports  # noqa: PLC0415

    return imports(rounds)


KINDS: dict[str, Callable[..., Row]] = {
    "window": _figure("at_the_window"),
    "predict": _predict,
    "own": _figure("own_interface"),
    "windows": _figure("over_windows"),
    "backends": _backends,
    "conversion": _figure("conversion"),
    "memory": _figure("conversion_memory"),
    "import": _imports,
}


if __name__ == "__main__":
    main()
