"""Signals: the handler runs whatever OpenVINO did before, and a command that is stopped leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

AFTER_GRAPHS = """
import gc, os, signal, threading
import numpy as np, keras
from fullyconv import _keras
from fullyconv.engine import compile

x = np.zeros((1, 8, 8, 3), "float32")

def by_engine():
    run = compile(keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)]))
    run(x)
    return run

def by_keras():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)])
    model.predict(x, verbose=0)
    return model

made = [make() for make in (by_keras, by_engine, by_keras, by_engine)]
worker = threading.Thread(target=lambda: made.append(by_engine()))
worker.start()
worker.join()
while made:  # in the order they were made
    made.pop(0)
    gc.collect()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_signal_is_handled_after_graphs_were_dropped():
    done = python(AFTER_GRAPHS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")
