"""What is left over where a classifier's layers and a network's meet, and what to do about it, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

_MOST = 3  # how many layers of either side are listed
_PAIRS = 20  # how many names are given


@dataclass(frozen=True)
class Leftovers:
    """The layers with weights that have no counterpart.

    Args:
        weights: Those of the classifier or its file: their arrays in words, by their names.
        network: Those of the network.
    """

    weights: Mapping[str, str]
    network: Mapping[str, str]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.weights or self.network)

    def lines(self, weights: str, network: str) -> list[str]:
        """The layers of either side, the first few of them, with their arrays.

        Args:
            weights: What the classifier is called.
            network: What the network is called.
        """
        return [
            *_listed(self.network, f"of {network} would get no weights"),
            *_listed(self.weights, f"of {weights} would not be used"),
        ]

    def remedy(self, given: Mapping[str, str | None], guess: Mapping[str, str], met: bool) -> str:
        """What to do.

        Args:
            given: The names that were given.
            guess: Names with which nothing would be left over; may be empty.
            met: Whether any layer of one side is one of the other: else there is nothing to load.
        """
        load = "load the others with strict=False, and look at what it returns."
        if not self.weights:
            return f"If that is right, {load}"
        if not self.network:
            them = "it" if len(self.weights) == 1 else "them"
            names = _mapping({**given, **dict.fromkeys(self.weights)})
            return f"If that is right, leave {them} out by name: names={names}."
        if guess:
            names = _mapping({**given, **guess})
            return f"If they are the same layers, say which is which: names={names}." + (
                f" Otherwise {load}" if met else ""
            )
        which = (
            "If some are the same layers, say which is which: names={name in the weights: name in the network}; None "
            "leaves one out."
        )
        return which + (f" Otherwise {load}" if met else "")


def _listed(layers: Mapping[str, str], what: str) -> Iterator[str]:
    if layers:
        yield f"{len(layers)} layer{'s' * (len(layers) > 1)} {what}:"
        yield from (f"  {name}: {arrays}" for name, arrays in islice(layers.items(), _MOST))
    if len(layers) > _MOST:
        yield f"  and {len(layers) - _MOST} more"


def _mapping(names: Mapping[str, str | None]) -> str:
    """A mapping, to be pasted where it is not long."""
    pairs = [f"{json.dumps(name)}: {json.dumps(target) if target else None}" for name, target in names.items()]
    return "{" + ", ".join(pairs[:_PAIRS] + ["..."] * (len(pairs) > _PAIRS)) + "}"


def some(names: Sequence[str], most: int = _MOST) -> str:
    """Names as text, the first few of them."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
