"""The tables of the page on speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from measuring.table import error, table, why_not

Row = Mapping[str, Any]
Rows = Mapping[str, Row]

TARGET_COLUMNS = ("figure", "ratio", "target", "met", "seconds")
PEER_COLUMNS = ("network", "other way", "times ours", "limit", "share of it", "its seconds", "ours", "difference")
HEADLINE_COLUMNS = ("", "window", "map", "100 windows", "times faster", "one by one", "limit")
SIZE_COLUMNS = ("network", "image", "cells", "map", "speed-up over windows", "limit", "memory, MiB")
KINDS = 5  # of operations, that are named


def targets(rows: Rows) -> str:
    """Each figure beside its target."""
    return table(TARGET_COLUMNS, [_target(name, row) for name, row in rows.items()])


def _target(name: str, row: Row) -> list[str]:
    if "ratio" not in row:
        return [name, why_not(row), "", "", ""]
    aim = f"at most {row['most']}" if "most" in row else f"at least {row['least']}"
    unit = " s" if row.get("unit") == "s" else ""
    return [name, spread(row["ratio"]), aim + unit, "yes" if row["met"] else "**no**", _seconds(row)]


def _seconds(row: Row) -> str:
    parts = [f"{kind} {seconds(values['median'])}" for kind, values in row.get("seconds", {}).items()]
    if "limit" in row:
        parts.append(f"{row['speedup']['median']:.3g} times of {row['limit']:.3g}, {row['cells']:,} windows")
        parts.append(f"by {row['batch']}")
    if "best" in row:
        parts.append(f"the best is {row['best']}; {_backends(row['backends'])}")
    if "allowed_mib" in row:
        parts.append(f"{row['allowed_mib']:,} MiB allowed")
    return ", ".join(parts)


def _backends(found: Rows) -> str:
    return ", ".join(
        f"{name} {row['ratio']['median']:.3g} times" if "ratio" in row else f"{name} fails"
        for name, row in found.items()
    )


def peers(rows: Rows) -> str:
    """Each peer beside this package."""
    return table(PEER_COLUMNS, [_peer(row, name) for name, row in rows.items()])


def _peer(row: Row, name: str) -> list[str]:
    if "ratio" not in row:
        return [name.partition(":")[0], name.partition(": ")[2], why_not(row), *[""] * (len(PEER_COLUMNS) - 3)]
    return [
        f"{row['net']} {row['size']}",
        row["peer"] + (f", by {row['batch']}" if "batch" in row else ""),
        spread(row["ratio"]),
        f"{row['limit']:.3g}",
        f"{row['share']['median']:.3g}",
        seconds(row["seconds"]["theirs"]["median"]),
        seconds(row["seconds"]["ours"]["median"]),
        _difference(row),
    ]


def _difference(row: Row) -> str:
    """How far a peer's map is from ours; or that it has other cells."""
    if "shape" in row:
        return f"{' x '.join(map(str, row['shape']))} cells"
    return error(row["difference"]) if "difference" in row else ""


def headline(rows: Rows) -> str:
    """AlexNet."""
    return table(HEADLINE_COLUMNS, [_headline(name, row) for name, row in rows.items()])


def _headline(name: str, row: Row) -> list[str]:
    if "ratio" not in row:
        return [name, why_not(row), *[""] * (len(HEADLINE_COLUMNS) - 2)]
    times = [_with_backward(row, kind) for kind in ("window", "map", "windows")]
    return [name, *times, spread(row["ratio"]), spread(row["one_by_one"]), f"{row['limit']:.3g}"]


def _with_backward(row: Row, kind: str) -> str:
    text = seconds(row["seconds"][kind]["median"])
    return f"{text}, backward alone {seconds(row['backward'][kind])}" if "backward" in row else text


def sizes(rows: Rows) -> str:
    """The points of the curves."""
    return "\n![Speed-up, time and memory](figures/speed.png)\n" + table(
        SIZE_COLUMNS, [_size(row, name) for name, row in rows.items()]
    )


def _size(row: Row, name: str) -> list[str]:
    if "speedup" not in row:
        return [name, why_not(row), *[""] * (len(SIZE_COLUMNS) - 2)]
    return [
        row["net"],
        f"{row['size']} x {row['size']}",
        f"{row['cells']:,}",
        seconds(row["seconds"]["map"]["median"]),
        spread(row["speedup"]),
        f"{row['limit']:.3g}",
        f"{row['memory'] / 2**20:,.0f}",
    ]


def where(rows: Rows) -> str:
    """Where the time goes."""
    kinds = _largest(rows)
    columns = ("map", "time", "multiply-adds a second", *kinds)
    return table(columns, [_where(name, row, kinds) for name, row in rows.items()])


def _largest(rows: Rows) -> list[str]:
    """The kinds of operations with the largest shares."""
    found: dict[str, float] = {}
    for row in rows.values():
        for kind, share in row.get("shares", {}).items():
            found[kind] = max(found.get(kind, 0.0), share)
    return sorted(found, key=lambda kind: -found[kind])[:KINDS]


def _where(name: str, row: Row, kinds: list[str]) -> list[str]:
    if "shares" not in row:
        return [name, why_not(row), "", *[""] * len(kinds)]
    shares = [f"{row['shares'].get(kind, 0):.0%}" for kind in kinds]
    return [name, seconds(row["seconds"]["median"]), f"{row['rate'] / 1e9:.0f} G", *shares]


def spread(values: Row) -> str:
    """The median, and the least to the most."""
    return f"{values['median']:.3g} ({values['min']:.3g} to {values['max']:.3g})"


def seconds(value: float) -> str:
    """Seconds, or milliseconds of less than one."""
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


PARTS: dict[str, Callable[[Rows], str]] = {
    "targets": targets,
    "peers": peers,
    "headline": headline,
    "sizes": sizes,
    "where": where,
}
