"""Where the time of a map goes, as OpenVINO's own counters have it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import openvino as ov

import fullyconv
from fullyconv import _openvino
from fullyconv._openvino_core import core
from measuring.figures import EXACT
from measuring.networks import image, network
from measuring.timing import digits, spread

COUNTED = EXACT | {"PERF_COUNT": True}


def profile(name: str, size: int, rounds: int) -> dict[str, Any]:
    """The share of each kind of operation in the time of a map, and the multiply-adds a second.

    Args:
        name: The network.
        size: Edge of the image in pixels.
        rounds: Runs of which the median is taken.
    """
    fcn = fullyconv.convert(network(name))
    request, x = _request(fcn.model, (1, size, size, 3)), image(name, size)
    runs = [_times(request, x) for _ in range(max(5, rounds) + 1)][1:]
    middle = sorted(runs, key=lambda times: times.total())[len(runs) // 2]
    whole = middle.total()
    return {
        "net": name,
        "size": size,
        "seconds": spread([times.total() for times in runs]),
        "rate": digits(fcn.cost(size).multiply_adds / whole),
        "shares": {kind: digits(value / whole) for kind, value in middle.most_common() if value >= whole / 100},
    }


def _request(model: keras.Model, shape: tuple[int, ...]) -> ov.InferRequest:
    graph, _ = _openvino.trace(model, model.inputs, model.input, [shape])
    return core().compile_model(_openvino.lower(graph), "CPU", COUNTED).create_infer_request()


def _times(request: ov.InferRequest, x: Any) -> Counter[str]:
    """Seconds of each kind of operation in one run."""
    request.infer([x])
    found: Counter[str] = Counter()
    for entry in request.get_profiling_info():
        found[entry.node_type] += entry.real_time.total_seconds()
    return found
