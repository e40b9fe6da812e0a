"""Denser maps: whether they are right, and what they cost beside the ways to have the same cells without them.

    KERAS_BACKEND=openvino python benchmarks/stride.py [--rounds 5] [--only NET:SIZE:STRIDE ...] [--again]
                                                       [--limit-seconds N] [--table]

Each row has a process of its own, and each of its figures of memory too; rows that are there are kept, so that a run
which was stopped goes on. Writes results/stride.json and, from it, docs/strides.md. `--table` writes the page only.
What is compared, and with what, is said in measuring/denser.py.
"""

from __future__ import annotations

import argparse
import json
import math

from measuring.store import Store, fill, in_a_process
from measuring.strides import write

NETS = ("MobileNetV2", "EfficientNetB0", "NASNetMobile", "DenseNet121", "ResNet50", "Xception", "VGG16")
ROWS = ["chess:400:1", *(f"{net}:512:{stride}" for net in NETS for stride in (16, 8))]


def main() -> None:
    """Measure what is asked for."""
    options = arguments()
    if options.row:
        print(json.dumps(row(options)))
        return
    if not options.table:
        flags = ["--rounds", str(options.rounds)]
        store = Store("stride", " ".join(["python benchmarks/stride.py", *flags]))
        names = options.only or ROWS
        fill(store, names, lambda name: in_a_process(__file__, flags, name), options.limit_seconds, options.again)
    write()


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="in each, every variant once (default 5)")
    parser.add_argument("--only", nargs="+", metavar="NET:SIZE:STRIDE", help="these rows")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--limit-seconds", type=float, default=math.inf, metavar="N", help="begin none after N seconds")
    parser.add_argument("--table", action="store_true", help="write the page only")
    parser.add_argument("--row", metavar="NET:SIZE:STRIDE", help="measure one in this process and print its row")
    parser.add_argument("--memory", metavar="VARIANT", help="with --row, the memory of one variant only")
    return parser.parse_args()


def row(options: argparse.Namespace) -> dict:
    """One row, or the memory of one of its variants."""
    from measuring import denser  # noqa: PLC0415  it imports Keras, which the pages need not

    if options.memory:
        return denser.grown(options.row, options.memory)
    found = denser.measure(options.row, options.rounds)
    kinds = ("dense", "shift_and_stitch", f"windows of {found['batch']}")
    grown = [in_a_process(__file__, ["--memory", kind], options.row) for kind in kinds]
    return found | {"memory_mib": dict(zip(denser.VARIANTS, grown, strict=True))}


if __name__ == "__main__":
    main()
