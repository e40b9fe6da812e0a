"""Where the page of the zoo goes, and the results it is made from."""

from __future__ import annotations

from pathlib import Path

from measuring.store import Store
from measuring.table import write_page

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def write() -> None:
    """Write the page from the results there are."""
    write_page(PAGE, *(Store(name, "").read() for name in ("zoo", "receptive", "hub", "context")))
