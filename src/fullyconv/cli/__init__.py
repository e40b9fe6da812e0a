"""The command `fullyconv`: parses, calls the public interface, prints."""

from __future__ import annotations

from fullyconv.cli import conversion, geometry, pictures, reporting, restoration  # noqa: F401  # they add their commands
from fullyconv.cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="fullyconv")
