"""What the scripts that fill a result file with rows have in common: their options, and the order of things."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring.judging import ALLOWANCE, holds
from measuring.store import RESULTS, Store, fill, in_a_process

Row = dict[str, Any]


def options_of(summary: str) -> argparse.Namespace:
    """The options of a script.

    Args:
        summary: What the script does.
    """
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="the rows whose names begin so")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds, at least 5 (default 7)")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--limit-seconds", type=float, default=math.inf, metavar="N", help="begin none after N seconds")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the JSON file is")
    parser.add_argument("--guard", action="store_true", help="exit with 1 where a ratio misses its target")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and measure nothing")
    parser.add_argument("--row", metavar="ROW", help="measure one in this process and print it")
    return parser.parse_args()


def run(
    script: str,
    options: argparse.Namespace,
    rows: Mapping[str, Mapping[str, str]],
    measure: Callable[[str, int], Row],
    write: Callable[[], None],
) -> None:
    """Measure the rows that are missing, each in a process of its own, into the file named as the script.

    Args:
        script: The script's path.
        options: Those of `options_of`.
        rows: The name of each row, and the variables of its process.
        measure: What measures a row in this process, given its name and the rounds.
        write: What makes the page, where the results are those that it is made from.
    """
    name, flags = Path(script).stem, ["--rounds", str(options.rounds)]
    wanted = [row for row in rows if _is_wanted(row, options.only)]
    if options.row:
        print(json.dumps(loaded(measure, options.row, options.rounds)))
    elif options.list:
        print("\n".join(wanted))
    else:
        store = Store(name, f"python benchmarks/{name}.py --rounds {options.rounds}", options.results)
        measured = lambda row: in_a_process(script, flags, row, rows[row])  # noqa: E731
        fill(store, wanted, measured, options.limit_seconds, options.again)
        if options.results == RESULTS:
            write()
        sys.exit(guard(store, wanted) if options.guard else 0)


def loaded(measure: Callable[[str, int], Row], name: str, rounds: int) -> Row:
    """A row, with the load of the machine before."""
    load = round(os.getloadavg()[0], 1)
    return {"name": name, "load": load, **measure(name, rounds)}


def guard(store: Store, wanted: Sequence[str]) -> int:
    """Print each ratio beside its target, and return 1 where one of them fails.

    Seconds are never compared, and a target is missed by no more than a tenth where the machine is noisy.
    """
    rows = store.read()["rows"]
    for name in wanted:
        print(f"{'holds' if holds(rows[name]) else 'FAILS':6} {name:40} {in_words(rows[name])}")
    failed = [name for name in wanted if not holds(rows[name])]
    print(f"{len(wanted) - len(failed)} of {len(wanted)} hold, with an allowance of {ALLOWANCE:.0%} for noise")
    return 1 if failed else 0


def in_words(row: Mapping[str, Any]) -> str:
    """A ratio and its target, or what went wrong."""
    if "ratio" not in row:
        return row.get("failed", "")
    sign, target = ("at most", row.get("most")) if "most" in row else ("at least", row.get("least"))
    ratio = row["ratio"]
    text = f"{ratio['median']:.3g} ({ratio['min']:.3g} to {ratio['max']:.3g})"
    return text if target is None else f"{text}, {sign} {target}"


def _is_wanted(name: str, only: Sequence[str] | None) -> bool:
    return not only or any(name.startswith(start) for start in only)
