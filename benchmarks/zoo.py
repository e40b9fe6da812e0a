"""Every classifier of `keras.applications`, converted and measured: the coverage table.

    python benchmarks/zoo.py [--only NAME ...] [--again] [--limit-seconds N] [--hub] [--table]

Each classifier has a process of its own, one after another, the smallest first; rows that are there are kept, so that
a run which was stopped goes on. Writes results/zoo.json and, from it, docs/zoo.md. All forty take hours on two cores.
`--hub` does the same for the image classifiers and backbones of KerasHub (`pip install '.[hub]'`), into
results/hub.json. `--table` writes the page only.
"""

from __future__ import annotations

import argparse
import json
import math

from measuring.page import write
from measuring.store import Store, fill, in_a_process


def main() -> None:
    """Measure what is asked for."""
    options = arguments()
    if options.row:
        print(json.dumps(row(options.row, options.hub)))
        return
    if not options.table:
        flags = ["--hub"] if options.hub else []
        store = Store("hub" if options.hub else "zoo", " ".join(["python benchmarks/zoo.py", *flags]))
        names = options.only or catalogue(options.hub)
        fill(store, names, lambda name: in_a_process(__file__, flags, name), options.limit_seconds, options.again)
    write()


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these classifiers")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--limit-seconds", type=float, default=math.inf, metavar="N", help="begin none after N seconds")
    parser.add_argument("--hub", action="store_true", help="KerasHub in place of keras.applications")
    parser.add_argument("--table", action="store_true", help="write the page only")
    parser.add_argument("--row", metavar="NAME", help="measure one in this process and print its row")
    return parser.parse_args()


def catalogue(hub: bool) -> list[str]:
    """The names of all rows."""
    if hub:
        from measuring.hub import NETWORKS  # noqa: PLC0415  KerasHub is an extra

        return list(NETWORKS)
    from zoo_nets import CLASSIFIERS  # noqa: PLC0415

    return list(CLASSIFIERS)


def row(name: str, hub: bool) -> dict:
    """One row."""
    if hub:
        from measuring.hub import measure  # noqa: PLC0415
    else:
        from measuring.row import measure  # noqa: PLC0415
    return measure(name)


if __name__ == "__main__":
    main()
