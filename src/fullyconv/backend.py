"""Which backend Keras is going to use, and whether it is there: asked without importing Keras.

Importing Keras to find out would write its settings file, naming TensorFlow, before failing on a machine that has no
TensorFlow. So this module reads what Keras would read: the variable KERAS_BACKEND, then `keras.json`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from fullyconv.errors import BackendError

# Keras's name of a backend: what is imported for it, what installs it.
PACKAGES = {
    "jax": ("jax", "fullyconv[jax]"),
    "openvino": ("openvino", "fullyconv"),
    "tensorflow": ("tensorflow", "fullyconv[tensorflow]"),
    "torch": ("torch", "fullyconv[torch]"),
}
VARIABLE = "KERAS_BACKEND"


def chosen() -> str | None:
    """The backend the variable KERAS_BACKEND names; None where it is unset or empty."""
    return os.environ.get(VARIABLE) or None


def configured() -> str:
    """The backend Keras falls back on: the one its settings file names, else TensorFlow."""
    try:
        settings = json.loads(settings_file().read_text())
    except (OSError, ValueError):
        return "tensorflow"
    return str(settings.get("backend", "tensorflow")) if isinstance(settings, dict) else "tensorflow"


def settings_are_readable() -> bool:
    """Whether Keras's settings file is there and holds a JSON object."""
    try:
        return isinstance(json.loads(settings_file().read_text()), dict)
    except (OSError, ValueError):
        return False


def is_installed(name: str) -> bool:
    """Whether the package behind a backend of this name can be imported."""
    return name in PACKAGES and importlib.util.find_spec(PACKAGES[name][0]) is not None


def require() -> None:
    """Return if Keras will find its backend.

    Raises:
        BackendError: where it will not, with what to install or which variable to set.
    """
    if "keras" in sys.modules or is_installed(chosen() or configured()):
        return
    raise BackendError(_missing(chosen() or configured()))


def settings_file() -> Path:
    """The place of Keras's settings, found as Keras finds it."""
    if "KERAS_HOME" in os.environ:
        folder = Path(os.environ["KERAS_HOME"])
    else:
        home = Path.home()
        folder = (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108
    return (folder / "keras.json").expanduser()


def _missing(name: str) -> str:
    """The message for a backend that is not there."""
    named = "its settings name it" if settings_file().exists() else "its default"
    source = f"{VARIABLE} names it" if chosen() else f"{named}, and {VARIABLE} is not set"
    others = [other for other in PACKAGES if is_installed(other)]
    fixes = [f"pip install '{PACKAGES[name][1]}'"] if name in PACKAGES else []
    fixes += [f"set {VARIABLE} to {', '.join(others)}"] if others else []
    fix = " or ".join(fixes) or "pip install fullyconv"
    problem = "is not installed" if name in PACKAGES else "is not one of the four fullyconv works with"
    return f"Keras is to use the backend '{name}' ({source}), which {problem}: {fix}."
