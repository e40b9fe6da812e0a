"""C7: what a conversion costs in memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import ctypes, gc, json, sys, threading, time
import keras, psutil
import fullyconv

def tiny():
    x = keras.Input((8, 8, 3))
    y = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, padding="same")(x))
    return keras.Model(x, keras.layers.Dense(2)(y))

fullyconv.convert(tiny())  # what is loaded on first use is not the conversion's
model = keras.applications.VGG16(weights=None)
process, peak, done = psutil.Process(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.001)

for weight in model.weights:  # jax fills them behind our back
    getattr(weight.value, "block_until_ready", lambda: None)()
gc.collect()
ctypes.CDLL("libc.so.6").malloc_trim(0)
before = process.memory_info().rss
watcher = threading.Thread(target=watch)
watcher.start()
fcn = fullyconv.convert(model)
done.set()
watcher.join()
after = process.memory_info().rss
sizes = [4 * int(v.shape.num_elements() if hasattr(v.shape, "num_elements") else __import__("math").prod(v.shape))
         for v in fcn.model.weights]
json.dump({"peak": max(peak, after) - before, "kept": after - before, "weights": sum(sizes), "largest": max(sizes)},
          sys.stdout)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_converting_vgg16_stays_within_the_contract():
    import json

    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["peak"] > 0.5 * measured["weights"], "the measurement missed the new weights"
    assert measured["peak"] <= measured["weights"] + 1.5 * measured["largest"], measured
