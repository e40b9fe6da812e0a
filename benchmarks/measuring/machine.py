"""The machine and the versions that figures were measured with."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import psutil

from fullyconv._openvino_core import core

PACKAGES = (
    *("fullyconv", "jax", "keras", "keras-hub", "monai", "numpy", "onnxruntime", "openvino", "tensorflow-cpu"),
    "torch",
)


def machine() -> str:
    """The machine in words: processor, cores, memory."""
    cpu = str(core().get_property("CPU", "FULL_DEVICE_NAME"))
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB of memory, shared with other work"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter here and are installed."""
    installed = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions() if d.name}
    return {"python": platform.python_version()} | {p: installed[p] for p in PACKAGES if p in installed}
