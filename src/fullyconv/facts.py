"""What travels with a converted network in its file: its window, reasons, names of classes, pixels and options.

It stands in the member `metadata.json`, which Keras writes and does not read, under the name of this package: beside a
member of its own, as version 0.1.0 wrote it (`fullyconv.json`), Keras would unpack the whole file at each load.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from fullyconv.errors import ImageError, ModelFileError
from fullyconv.model_limits import opened_archive, parsed, read_member
from fullyconv.preprocessing import check_mode

METADATA = "metadata.json"
KEY = "fullyconv"
MEMBER = "fullyconv.json"  # of version 0.1.0


class SavingWarning(UserWarning):
    """Says what a saved file does not keep, and what to do on loading it."""


def kept(preprocess: Any) -> Any:
    """A preprocessing as JSON holds it; None for a function.

    Example:
        >>> from fullyconv.facts import kept
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
        named = isinstance(preprocess, FunctionType) and preprocess.__name__.isidentifier()
        again = preprocess.__name__ if named else "..."
        what = f"{again!r} is a function" if named else f"it is Python code ({type(preprocess).__name__})"
        yield (
            f"'{target}' does not keep the preprocessing: {what}, and the file holds values only.\n"
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


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts into a `.keras` file that Keras has written."""
    with zipfile.ZipFile(path, "a") as archive:
        known = archive.getinfo(METADATA)
        text = json.dumps({**json.loads(archive.read(known)), KEY: facts})
        archive.filelist.remove(known)  # its few bytes stay in the file, named by nothing
        del archive.NameToInfo[METADATA]
        archive.writestr(METADATA, text)


def read_facts(path: Path) -> dict[str, Any]:
    """What a file says of the converted network in it; nothing where it holds none.

    Raises:
        ModelFileError: the file is damaged, or says something that cannot be.
    """
    if not os.path.isfile(path) or not zipfile.is_zipfile(path):  # noqa: PTH113  says no to a name that is too long
        return {}
    with opened_archive(path) as archive:
        facts = _stored(path, archive)
    if not isinstance(facts, dict):
        raise ModelFileError(_wrong(path, "facts", "an object", facts))
    for name, (fits, what) in _KNOWN.items():
        if not fits(facts.get(name)):
            raise ModelFileError(_wrong(path, name, what, facts[name]))
    return facts


def _stored(path: Path, archive: zipfile.ZipFile) -> Any:
    """The facts in an archive, which may be anything."""
    names = archive.namelist()
    known = parsed(path, METADATA, read_member(path, archive, METADATA)) if METADATA in names else {}
    if isinstance(known, dict) and KEY in known:
        return known[KEY]
    return parsed(path, MEMBER, read_member(path, archive, MEMBER)) if MEMBER in names else {}


def _wrong(path: Path, name: str, what: str, found: Any) -> str:
    shown = ascii(found)
    return (
        f"'{path}' cannot be used: the {name} that fullyconv saved in it must be {what}, and "
        f"{shown if len(shown) <= 60 else shown[:60] + '...'} is not.\n"
        "Convert the classifier again:  fullyconv.convert(model).save(path)"
    )


def _is_window(value: Any) -> bool:
    return value is None or (_is_list(value, _is_size) and 1 <= len(value) <= 3)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_grid(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_text(value[0]) and _is_list(value[1], _is_text)


def _is_preprocessing(value: Any) -> bool:
    try:
        check_mode(value)
    except ImageError:
        return False
    numbers = [value.get(key, 1) for key in ("scale", "offset")] if isinstance(value, dict) else []
    return all(_is_number(n) or (_is_list(n, _is_number) and n) for n in numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 and math.isfinite(value)


def _is_options(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and all(value.get(name) is None or fits(value[name]) for name, fits in _OPTIONS.items())
        and _is_list(value.get("skip", []), _is_text)
    )


def _is_step(value: Any) -> bool:
    return _is_size(value) or (_is_list(value, _is_size) and 1 <= len(value) <= 3)


# The options of a conversion; those that are choices are as `plan` has them.
_OPTIONS: dict[str, Callable[[Any], bool]] = {
    "window": _is_step,
    "stride": _is_step,
    "until": _is_text,
    "pool": ("window", "drop", "global").__contains__,
    "context": ("window", "global").__contains__,
    "head": ("convolution", "dense").__contains__,
}
# What is read from a file: whether a value can be, and what it must be in words.
_KNOWN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "window": (_is_window, "one to three whole numbers above 0"),
    "grids": (lambda value: value is None or _is_list(value, _is_grid), "a list of exactness and reasons"),
    "labels": (lambda value: value is None or _is_list(value, _is_text), "a list of names"),
    "preprocess": (_is_preprocessing, "a mode's name, or an object of scale, offset and bgr"),
    "options": (_is_options, "an object of the options of a conversion"),
}
