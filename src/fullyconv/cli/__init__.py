"""The command `fullyconv`: parses, calls the public interface, prints."""

from __future__ import annotations

import sys
import traceback

from fullyconv.cli import (  # noqa: F401  # they add their commands
    conversion,
    geometry,
    pictures,
    reporting,
    restoration,
    tools,
)
from fullyconv.cli.app import app
from fullyconv.cli.process import StreamError, complain, open_streams, say


def main() -> None:
    """Run the command line."""
    open_streams()
    try:
        app(prog_name="fullyconv")
    except StreamError as error:
        complain(error.message)
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001  what --debug shows
        say(traceback.format_exc().rstrip(), err=True)
        sys.exit(1)
