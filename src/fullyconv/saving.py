"""What a saved network keeps of its preprocessing and rules, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class SavingWarning(UserWarning):
    """Says what a saved file does not keep, and what to do on loading it."""


def kept(preprocess: Any) -> Any:
    """A preprocessing as JSON holds it; None for a function.

    Example:
        >>> from fullyconv.saving import kept
        >>> kept("tf"), kept({"scale": np.array([1, 2])}), kept(abs)
        ('tf', {'scale': [1, 2]}, None)
    """
    if isinstance(preprocess, dict):
        return {name: np.asarray(value).tolist() for name, value in preprocess.items()}
    return None if callable(preprocess) else preprocess


def not_kept(target: Path, preprocess: Any, rules: Mapping[type, Any] | None) -> Iterator[str]:
    """What a file does not keep, and what to do: a sentence or two each.

    Args:
        target: The file.
        preprocess: How images are prepared for the network.
        rules: The rules of the user's own that it was converted with.
    """
    if callable(preprocess):
        name = getattr(preprocess, "__name__", type(preprocess).__name__)
        again = name if name.isidentifier() else "function"
        yield (
            f"'{target}' does not keep the preprocessing: {name!r} is a function, and the file holds values only.\n"
            f"Set it again after loading:  fcn = fullyconv.load(path); fcn.preprocess = {again}\n"
            "Or save it as numbers:  fcn.preprocess = {'scale': 1 / 255, 'offset': 0, 'bgr': False}, say."
        )
    if rules:
        names = [kind.__name__ for kind in rules]
        yield (
            f"'{target}' does not keep your own rules, for {', '.join(names)}: they are functions, and the file holds "
            f"values only.\n"
            f"Give them again on loading:  fullyconv.load(path, rules={{{', '.join(f'{n}: rule' for n in names)}}})"
        )
