"""What a call costs in resident memory, beside what its result weighs (contract C7)."""

from __future__ import annotations

import ctypes
import gc
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import psutil
from keras import layers

import fullyconv


def warmed_up() -> None:
    """Converts a small network: what is loaded on first use is not a conversion's own."""
    x = keras.Input((8, 8, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3, padding="same")(x))
    fullyconv.convert(keras.Model(x, layers.Dense(2)(y)))


def growth(call: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What a call returns, and its `peak` and what it `kept`, in bytes of resident memory; `seconds` it took."""
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.001)

    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    after = process.memory_info().rss
    return result, {"peak": max(peak[0], after) - before, "kept": after - before, "seconds": seconds}


def weights_of(model: keras.Model) -> dict[str, int]:
    """Bytes of all float32 weights of a model, and of the largest: what C7 allows is `weights + 1.5 x largest`."""
    sizes = [4 * math.prod(tuple(v.shape)) for v in model.weights]
    return {"weights": sum(sizes), "largest": max(sizes)}
