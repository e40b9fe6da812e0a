"""Processes that wait to be timed: one for each Keras backend or peer, so that they can take turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring.store import environment

BENCHMARKS = Path(__file__).parents[1]
NETWORKS = BENCHMARKS.parent / "build" / "benchmarks"


class WorkerError(RuntimeError):
    """A worker ended; the message is the last line that it said."""


class Worker:
    """A process that has prepared something and returns the seconds of doing it once, each time it is called.

    Args:
        backend: Keras's backend in it.
        kind: What it does: a name in `measuring.contestants.CONTESTANTS`.
        folder: Where the network, the image and the maps are.
        **task: What else it has to know.

    Attributes:
        facts: What it says of what it prepared.

    Raises:
        WorkerError: it failed.
    """

    def __init__(self, backend: str, kind: str, folder: Path, **task: Any) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "measuring.worker", json.dumps({"kind": kind, "folder": str(folder), **task})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment({"KERAS_BACKEND": backend, "PYTHONPATH": str(BENCHMARKS), "TF_CPP_MIN_LOG_LEVEL": "3"}),
        )
        self.facts = self._reply()

    def __call__(self) -> float:
        """Seconds of doing it once."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._reply())

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def _reply(self) -> Any:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._said.seek(0)
        last = (self._said.read().strip().splitlines() or ["nothing was said"])[-1]
        raise WorkerError(f"exit status {status}: {last}")


def prepared(name: str, size: int) -> Path:
    """A folder with a network, `model.keras`, and an image for it, `image.npy`, which is kept for the next row.

    Args:
        name: The network's name.
        size: Edge of the image in pixels.
    """
    folder = NETWORKS / f"{name}-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "image.npy").exists():  # what is written last
        with Worker("openvino", "prepare", folder, name=name, size=size):
            pass
    return folder
