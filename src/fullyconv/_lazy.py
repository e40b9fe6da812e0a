"""How the package's public names are fetched: each from its module, when it is first used.

Importing Keras takes a second or two and fixes its backend for the life of the process, and the command line has to
choose the backend before that happens. So `import fullyconv` imports no Keras; the first use of a public name does.
Whether Keras will find its backend is asked at once all the same, except by the command, which is about to choose.

Some of the names (`plan`, `convert`, ...) are names of modules too. Python binds a submodule to its package when it is
first imported, and would so replace the function by the module; a package of the class below does not let it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from fullyconv import backend

# What `sys.argv[0]` is while the package is imported for `fullyconv ...` or for `python -m fullyconv ...`.
# Where something else has one of these names, a missing backend is reported at the first use, not at the import.
COMMANDS = {"fullyconv", "fullyconv.exe", "-m", "__main__.py"}


class LazyPackage(ModuleType):
    """A package whose public names are imported from their modules at first use, and stay what they are."""

    _homes: Mapping[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        """Import a public name and keep it."""
        if name not in self._homes:
            msg = f"module {self.__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        if self._homes[name] != "errors":
            backend.require()
        value = getattr(importlib.import_module(f"{self.__name__}.{self._homes[name]}"), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, unless it would put a module in the place of a public name."""
        if name not in self._homes or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """The names there are, fetched or not."""
        return sorted({*self.__dict__, *self._homes})


def make_lazy(package: str, modules: Mapping[str, tuple[str, ...]]) -> None:
    """Turn a package that is being imported into a lazy one.

    Args:
        package: Its name.
        modules: The public names that each of its modules holds.

    Raises:
        BackendError: where Keras will not find its backend, unless this process is the command line.
    """
    if not sys.argv or Path(sys.argv[0]).name not in COMMANDS:
        backend.require()
    module = sys.modules[package]
    module.__class__ = LazyPackage
    module.__dict__["_homes"] = {name: home for home, names in modules.items() for name in names}
