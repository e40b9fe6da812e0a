"""Names of classes: read from a file, and found by what a person typed.

read_labels(path)                    one name a line, or JSON: a list, or {"0": "tench"}, or {"0": ["n0144", "tench"]}
find_class("egyptian", labels, n)    by index, exact name, name in any case, or a part that only one name has
fitting(labels, n)                   the names of n classes, or an error
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fullyconv.errors import LabelError
from fullyconv.files import check_regular

_LARGEST = 16  # MB of a file of labels; that of ImageNet's 21,841 classes has less than one
_LONGEST = 100  # characters of a name that are shown, and compared where the nearest is looked for
_MOST = 25_000  # names that are looked through for the nearest


def read_labels(path: str | Path) -> list[str]:
    """The names of the classes in a file, in the order of the network's outputs.

    Args:
        path: A text file with one name a line, or JSON: a list of names, or an object from the index to the name (or,
            as Keras's own file for ImageNet has it, to a list that ends with the name).

    Raises:
        LabelError: It cannot be read, is larger than 16 MB, holds no names, or leaves out an index.
    """
    where = repr(str(path))
    check_regular(Path(path), LabelError, "a file of labels")
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST * 10**6 + 1)
        if len(data) > _LARGEST * 10**6:
            raise LabelError(f"{where} is larger than {_LARGEST} MB; a file of labels has one name a line.")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(f"{where} is not text in UTF-8; a file of labels has one name a line.") from None
    except OSError as error:
        raise LabelError(f"{where} cannot be read: {error.strerror or error}.") from None
    labels = _parse(text, where)
    if not labels:
        raise LabelError(f"{where} holds no names; a file of labels has one name a line.")
    return labels


def _parse(text: str, where: str) -> list[str]:
    if text.lstrip()[:1] not in ("[", "{"):
        return [line.strip() for line in text.strip().splitlines()]
    try:
        return _from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise LabelError(
            f"{where} is not a list of names: JSON must be a list, or an object with every index from 0 on, in quotes."
        ) from None


def _from_json(value: Any) -> list[str]:
    items = [value[str(i)] for i in range(len(value))] if isinstance(value, dict) else value
    names = [item[-1] if isinstance(item, list) else item for item in items]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name must be text")
    "".join(names).encode()  # an error where JSON has half a character
    return names


def find_class(wanted: int | str, labels: Sequence[str] | None, count: int) -> int:
    """The index of a class, from its index or its name.

    A name counts if it is exact, else if it is exact but for upper and lower case, else if exactly one name has it as a
    part. Digits are an index unless a class is named so.

    Args:
        wanted: Index or name.
        labels: The names, or `None` where there are none.
        count: How many classes there are.

    Raises:
        LabelError: No class, or more than one, fits. The message lists the nearest names.

    Example:
        >>> find_class("ESPRESSO", ["cup", "espresso"], 2)
        1
    """
    if not isinstance(wanted, str):
        return _checked_index(int(wanted), count)
    named = list(labels or ())
    if wanted not in named and wanted.strip().lstrip("-").isdecimal():
        return _checked_index(int(wanted), count)
    if not named:
        raise LabelError(
            f"The model has no names for its classes, so {wanted!r} is none of them; give labels, or an index from 0 "
            f"to {count - 1}."
        )
    return _by_name(wanted, named)


def fitting(labels: Sequence[str] | None, count: int) -> tuple[str, ...] | None:
    """The names of the classes; one sigmoid unit may have two names, of which the second is meant.

    Args:
        labels: The names, or `None` where there are none.
        count: How many classes there are.

    Raises:
        LabelError: There are more names or fewer.

    Example:
        >>> fitting(["cat", "dog"], 2), fitting(["no", "yes"], 1), fitting(None, 5)
        (('cat', 'dog'), ('yes',), None)
    """
    if labels is None:
        return None
    if count == 1 and len(labels) == 2:
        return (str(labels[1]),)
    if len(labels) != count:
        raise LabelError(
            f"There are {len(labels)} labels for {count} classes; give one for each, in the model's order."
        )
    return tuple(map(str, labels))


def _checked_index(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise LabelError(f"There is no class {index}; the model has {count}, numbered from 0 to {count - 1}.")
    return index


def _by_name(wanted: str, labels: list[str]) -> int:
    lower = [label.casefold() for label in labels]
    text = wanted.strip().casefold()
    for fits in (
        [i for i, label in enumerate(labels) if label == wanted],
        [i for i, label in enumerate(lower) if label == text],
        [i for i, label in enumerate(lower) if text and text in label],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise LabelError(_ambiguous(wanted, fits, labels))
    near = _nearest(text, lower)
    hint = f"the nearest names are {', '.join(_shown(labels[i]) for i in near)}" if near else "no name is near to it"
    raise LabelError(f"There is no class {_shown(wanted)}; {hint}.")


def _nearest(text: str, names: list[str]) -> list[int]:
    """The indices of up to three names that are like a text, by their beginnings."""
    first = {name[:_LONGEST]: i for i, name in reversed(list(enumerate(names[:_MOST])))}
    return [first[name] for name in difflib.get_close_matches(text[:_LONGEST], first, 3, 0.4)]


def _shown(name: str) -> str:
    """A name in quotes; of a very long one, the beginning."""
    return repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…")


def _ambiguous(wanted: str, fits: list[int], labels: list[str]) -> str:
    shown = ", ".join(f"{_shown(labels[i])} ({i})" for i in fits[:5])
    more = f" and {len(fits) - 5} more" if len(fits) > 5 else ""
    return f"{_shown(wanted)} fits {len(fits)} classes: {shown}{more}; give a whole name, or an index."
