"""Rows in a JSON file, each written at once and whole; one process a row."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring.machine import machine, versions

RESULTS = Path(__file__).parents[1] / "results"


class Store:
    """The rows of one result file, by name.

    Args:
        name: The file's name, without its ending.
        command: What was run, for the record.
        folder: Where the file is.
    """

    def __init__(self, name: str, command: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{name}.json"
        self.command = command

    def read(self) -> dict[str, Any]:
        """Everything the file says; no rows where there is none yet."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"rows": {}}

    def put(self, name: str, row: dict[str, Any]) -> None:
        """Add a row, or replace one; the file is never half written."""
        row["date"] = dt.datetime.now(dt.UTC).date().isoformat()
        head = {"command": self.command, "machine": machine(), "versions": versions()}
        text = json.dumps(head | {"rows": self.read()["rows"] | {name: row}}, indent=1) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".part", delete=False) as draft:
            draft.write(text)
        Path(draft.name).chmod(0o644)
        Path(draft.name).replace(self.path)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process that is measured: those given, and no limits on the threads of NumPy's library."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    return {"KERAS_BACKEND": "openvino", **mine, **variables}


def in_a_process(
    script: str, flags: Sequence[str], name: str, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The row that `script FLAGS --row NAME` prints, in a process with a memory of its own, which may crash."""
    done = subprocess.run(
        [sys.executable, script, *flags, "--row", name],
        capture_output=True,
        text=True,
        check=False,
        env=environment(variables or {}),
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        return {"model": name, "failed": f"exit status {done.returncode}: {last}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def fill(
    store: Store, names: Sequence[str], measured: Callable[[str], dict[str, Any]], limit: float, again: bool
) -> None:
    """Measure the rows that are missing or failed, in order; none is begun after `limit` seconds.

    Args:
        store: Where rows are kept.
        names: The rows wanted.
        measured: What measures one.
        limit: Seconds.
        again: Measure rows that are there, too.
    """
    start, rows = time.monotonic(), store.read()["rows"]
    for name in names:
        if not again and name in rows and "failed" not in rows[name]:
            continue
        if time.monotonic() - start > limit:
            print(f"{limit:.0f} s are over: {name} and what follows is left for the next run")
            return
        begun = time.monotonic()
        row = measured(name)
        store.put(name, row)
        print(
            f"{name:20} {outcome(row)} in {time.monotonic() - begun:.0f} s",
            flush=True,
        )


def outcome(row: dict[str, Any]) -> str:
    """What became of a row, in a word or two."""
    return row.get("failed") or ("refused" if "refused" in row else "measured")
