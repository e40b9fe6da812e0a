"""Signals: the handler runs whatever OpenVINO did before, and a command that is stopped leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fullyconv
from fullyconv.cli.process import Stopped, stoppable
from test_cli import small

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


# Each command is told to stop while it reads, computes or writes: the function that does so sends the signal itself.
STOPPED = """
import json, os, pathlib, signal, sys, tempfile
from unittest import mock
import keras
from typer.testing import CliRunner
from fullyconv import demo, doctor, engine, files, model_files, outputs
from fullyconv.cli import app

POINTS = {
    "begin": (demo, "run"),
    "diagnose": (doctor, "diagnose"),
    "read": (model_files, "open_model"),
    "run": (engine.Compiled, "__call__"),
    "write": (files, "_put"),
}

def listing():
    return sorted((str(path), path.stat().st_mtime_ns) for path in pathlib.Path().rglob("*"))

def stopped(command, point, number):
    owner, name = POINTS[point]
    work, sent = getattr(owner, name), []

    def stop(*arguments, **options):
        result = work(*arguments, **options) if point == "read" else None
        sent.append(number)
        os.kill(os.getpid(), number)
        return result if point == "read" else work(*arguments, **options)

    with mock.patch.object(owner, name, stop):
        done = CliRunner().invoke(app, command.split())
    return {"sent": len(sent), "code": done.exit_code, "stderr": done.stderr}

for line in sys.stdin:
    before = listing()
    found = stopped(*json.loads(line))
    handlers = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is not signal.SIG_DFL
    print(json.dumps(found | {"same": listing() == before, "handlers": handlers}), flush=True)
"""

COMMANDS = {
    "plan small.keras": ["read"],
    "convert small.keras -o new.keras": ["read", "run", "write"],
    "verify small.keras fcn.keras -o new.png": ["read", "run", "write"],
    "heatmap fcn.keras photo.png -o new.png --map new.zarr --detections new.csv": ["run", "write"],
    "report small.keras photo.png -o new.html": ["run", "write"],
    "export fcn.keras -o new.xml": ["run", "write"],
    "geometry small.keras --image photo.png -o new.png": ["read", "write"],
    "classifier fcn.keras -o new.keras": ["run", "write"],
    "heatmap fcn.keras *.png -o new/folder --map new/{name}/m.npz": ["write"],
    "heatmap fcn.keras photo.png --map old.zarr --overwrite": ["write"],
    "demo -o new": ["begin"],
    "doctor": ["diagnose"],
}

WHILE_CLEANING = """
import os, signal, sys, tempfile
from fullyconv import files
from fullyconv.cli import main

clean, number = tempfile.TemporaryDirectory.cleanup, int(sys.argv.pop())

def cleanup(folder):
    os.kill(os.getpid(), signal.SIGTERM)  # the impatient send more than one
    os.kill(os.getpid(), signal.SIGINT)
    clean(folder)

tempfile.TemporaryDirectory.cleanup = cleanup
files._put = lambda *_: os.kill(os.getpid(), number)
sys.argv[0] = "fullyconv"
main()
"""


def python(code: str, *arguments: str, cwd: Path | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd, input=text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a classifier, a network, a photo and older results, which stays as it is."""
    made = tmp_path_factory.mktemp("signals")
    small().save(made / "small.keras")
    fcn = fullyconv.convert(small())
    fcn.save(made / "fcn.keras")
    (made / "old.keras").write_text("old")
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), "uint8")
    fullyconv.heatmap(fcn, pixels).save_map(made / "old.zarr")
    Image.fromarray(pixels).save(made / "photo.png")
    return made


def test_a_signal_is_handled_after_graphs_were_dropped():
    done = python(AFTER_GRAPHS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")


def test_every_command_stops_on_a_signal_and_leaves_nothing(folder: Path):
    """Each command gets both signals, at different points where there are several; and one gets SIGHUP too."""
    turn = itertools.cycle((signal.SIGINT, signal.SIGTERM))
    tried = [(line, at, next(turn)) for line, points in COMMANDS.items() for at in points * (1 + (len(points) == 1))]
    tried.append(("convert small.keras -o new.keras", "write", signal.SIGHUP))
    done = python(STOPPED, cwd=folder, text="\n".join(map(json.dumps, tried)))
    assert done.returncode == 0, done.stderr
    found = dict(zip(tried, map(json.loads, done.stdout.splitlines()), strict=True))
    stopped = {"sent": 1, "stderr": "Stopped.\n", "same": True, "handlers": [True, True]}
    assert found == {each: stopped | {"code": 128 + each[2]} for each in tried}


def test_a_process_that_is_stopped_has_the_exit_code_that_shells_give(folder: Path):
    """And clears up, though it is told to stop again meanwhile."""
    number = signal.SIGTERM
    before = sorted(path.name for path in folder.iterdir())
    done = python(WHILE_CLEANING, *["convert", "small.keras", "-o", "new.keras"], str(int(number)), cwd=folder)
    assert (done.returncode, done.stderr) == (128 + number, "Stopped.\n")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_signal_that_the_process_ignores_stays_ignored(folder: Path):
    code = (
        "import signal; from fullyconv.cli.process import stoppable; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with stoppable(): signal.raise_signal(signal.SIGHUP); print('went on')"
    )
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_an_error_that_a_signal_became_is_told_as_what_it_was():
    """Libraries in C turn what is raised inside them into errors of their own."""

    def lose() -> None:
        with pytest.raises(Stopped, match="Terminated"):
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("write failed")

    with pytest.raises(Stopped, match="Terminated") as caught, stoppable():
        lose()
    assert caught.value.exit_code == 143
    with pytest.raises(RuntimeError, match="another"), stoppable():
        raise RuntimeError("another")
