"""Several commands in one process: reads their arguments as JSON, and prints the exit code and texts of each as JSON.

Run by the Python of an environment that users have; it knows the package only through its command.
"""

import contextlib
import io
import json
import sys


def one(arguments: list[str]) -> dict[str, object]:
    """Run a command as its script does."""
    from fullyconv.cli import main

    sys.argv = ["fullyconv", *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    results = [one(arguments) for arguments in json.load(sys.stdin)]
    sys.stdout.write(json.dumps(results) + "\n")
