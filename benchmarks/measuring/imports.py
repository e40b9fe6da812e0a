"""What importing the package takes, in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from measuring.judging import judged
from measuring.store import environment
from measuring.timing import LEAST_ROUNDS, spread

TIMED = """
import json, time
start = time.perf_counter()
import keras
keras_there = time.perf_counter()
import fullyconv
there = time.perf_counter()
fullyconv.convert, fullyconv.compile
ready = time.perf_counter()
for name in fullyconv.__all__:
    getattr(fullyconv, name)
print(json.dumps([keras_there - start, there - keras_there, ready - keras_there, time.perf_counter() - keras_there]))
"""


def imports(rounds: int) -> dict[str, Any]:
    """Seconds of importing the package where Keras is imported: up to `convert`, which is judged, and all of it."""
    taken = [_once() for _ in range(max(LEAST_ROUNDS, rounds))]
    kinds = ("keras", "package", "convert", "every public name")
    seconds = {kind: spread([t[i] for t in taken]) for i, kind in enumerate(kinds)}
    return {"seconds": seconds, "unit": "s", **judged(seconds["convert"], most=0.1)}


def _once() -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", TIMED], env=environment({}), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])
