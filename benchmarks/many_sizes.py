"""Memory of a process that runs images of many sizes, for how many of them the graph of unknown sizes is kept.

    python benchmarks/many_sizes.py [--net MobileNetV2] [--shapes 500] [--keep 16 64 256 100000]

Each row is a process of its own, on OpenVINO. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from typing import Any

import psutil


def main() -> None:
    """Measure each row in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="MobileNetV2", help="a network of keras.applications")
    parser.add_argument("--shapes", type=int, default=500, help="different image sizes, from 224 x 224 to 321 x 321")
    parser.add_argument(
        "--keep", type=int, nargs="+", default=[16, 64, 256, 100_000], help="shapes to keep a graph for"
    )
    parser.add_argument("--row", action="store_true", help="measure the first of them here")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.net, options.shapes, options.keep[0])))
        return
    from measuring.machine import machine, versions  # noqa: PLC0415  the rows need none of it

    command = [sys.executable, __file__, "--net", options.net, "--shapes", str(options.shapes), "--row", "--keep"]
    environment = {**os.environ, "KERAS_BACKEND": "openvino"}
    rows = [
        json.loads(subprocess.run([*command, str(n)], env=environment, check=True, stdout=subprocess.PIPE).stdout)
        for n in options.keep
    ]
    said = {"command": " ".join(["python", *sys.argv]), "machine": machine(), "versions": versions(), "rows": rows}
    print(json.dumps(said, indent=2))


def measure(net: str, shapes: int, keep: int) -> dict[str, Any]:
    """Resident memory while images of so many sizes are run, with the graph kept for `keep` of them."""
    import keras  # noqa: PLC0415  only a row needs it
    import numpy as np  # noqa: PLC0415

    import fullyconv  # noqa: PLC0415
    from fullyconv import _openvino  # noqa: PLC0415

    _openvino.DYNAMIC_SHAPES = keep
    fcn = fullyconv.convert(getattr(keras.applications, net)(weights=None))
    sizes = random.Random(0).sample([(h, w) for h in range(224, 322) for w in range(224, 322)], shapes)
    resident, compiled, slowest, start = [], 0, 0.0, time.perf_counter()
    engine = fullyconv.compile(fcn.model)
    for i, (height, width) in enumerate(sizes, 1):
        engine(np.zeros((1, height, width, 3), "float32"))
        compiled += engine.compile_seconds > 0.05
        slowest = max(slowest, engine.compile_seconds)
        if i == 10 or i % 100 == 0:
            resident.append({"shapes": i, "MB": round(psutil.Process().memory_info().rss / 1e6)})
    seconds = time.perf_counter() - start
    return {
        "keep": keep,
        "resident": resident,
        "seconds": round(seconds, 1),
        "compilations": compiled,
        "slowest compilation": round(slowest, 2),
    }


if __name__ == "__main__":
    main()
