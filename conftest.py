"""The names that the examples in docstrings use."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "openvino")
NAMES = {"fullyconv": "fullyconv", "keras": "keras", "layers": "keras.layers", "np": "numpy"}


@pytest.fixture(autouse=True, scope="session")
def _names_in_examples(doctest_namespace: dict[str, Any]) -> None:
    """Gives them to every example; they are imported here, once the run has looked for its backend."""
    doctest_namespace.update({name: import_module(module) for name, module in NAMES.items()})
