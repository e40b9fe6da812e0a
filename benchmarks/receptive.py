"""Whether the cells of every network of `keras.applications` see their receptive fields, and nothing outside.

    python benchmarks/receptive.py [NAME ...] [--again]

Each network has a process of its own and is converted up to its last map. With positive weights on an image of zeros a
line of ones must be answered by the cells whose field it is in, and by no other. A context (squeeze-and-excite) does
not show on zeros; on noise, changing all that is outside the field of a cell must leave it as it is, and at the first
context a change of the field's first line and of its last must not. Both run on a strip of the image's width.
Writes results/receptive.json and, from it, a column of docs/zoo.md. A quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

from measuring.page import write
from measuring.store import Store, fill, in_a_process


def main() -> None:
    """Measure what is asked for; fail if a cell sees anything else than its field."""
    from zoo_nets import CLASSIFIERS  # noqa: PLC0415  a row needs no list

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=CLASSIFIERS, metavar="NAME", help="these classifiers")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--row", metavar="NAME", help="measure one in this process and print its row")
    options = parser.parse_args()
    if options.row:
        from measuring.fields import measure  # noqa: PLC0415  Keras, for this process only

        print(json.dumps(measure(options.row)))
        return
    store = Store("receptive", "python benchmarks/receptive.py")
    fill(store, options.networks, lambda name: in_a_process(__file__, [], name), math.inf, options.again)
    write()
    rows = store.read()["rows"]
    sys.exit(0 if all("sees" in rows[name] for name in options.networks) else 1)


if __name__ == "__main__":
    main()
