"""OpenVINO's core, of which a process has one.

Each `ov.Core` gives the thread it is made in a stack for signals, and when it goes puts back the one from before, which
is freed memory where that core went first: the next signal with a handler then ends the process (OpenVINO 2026.4). So
every graph here is compiled by one core, which stays; and so is every graph that Keras compiles, which otherwise makes
a core for each.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def core() -> Any:
    """The `openvino.Core` of this process; it lives as long as the process."""
    import openvino as ov  # noqa: PLC0415  other backends run without OpenVINO, and it may be broken

    return ov.Core()


def lend_to_keras() -> None:
    """Have Keras's openvino backend, which runs in this process, compile with this core too."""
    import openvino as ov  # noqa: PLC0415  as above
    from keras.src.backend.openvino import core as keras_core  # noqa: PLC0415

    ov.compile_model = keras_core.compile_model = compile_model


def compile_model(model: Any, device_name: str | None = "AUTO", config: dict[str, Any] | None = None) -> Any:
    """What `openvino.compile_model` returns, compiled by the core of this process.

    Args:
        model: A graph, or the path of one.
        device_name: Where it is to run.
        config: Properties of this graph.
    """
    return core().compile_model(model, device_name, config or {})
