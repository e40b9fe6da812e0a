"""The command `fullyconv`: parses, calls the public interface, prints."""

from __future__ import annotations

from fullyconv.cli import (  # noqa: F401  # they add their commands
    conversion,
    geometry,
    pictures,
    reporting,
    restoration,
    tools,
)
from fullyconv.cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="fullyconv")
