"""Standard output that cannot be written: one sentence or none, the usual exit code, and no other file in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli import small

pytestmark = pytest.mark.once

COMMAND = [sys.executable, "-m", "fullyconv"]
# Printed by the frame of the commands, by a command, and by what draws its tables.
PRINTING = ["--help", "doctor", "plan small.keras"]
FULL = "no space left on device"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("streams")
    small().save(made / "small.keras")
    return made


def shell(line: str, folder: Path) -> tuple[int, str]:
    """The exit code and what stderr says of a command, `fullyconv` in it being the command."""
    script = line.replace("fullyconv", " ".join(COMMAND))
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk(folder: Path, command: str):
    said = f"Error: Standard output cannot be written: {FULL}.\n"
    assert shell(f"fullyconv {command} > /dev/full", folder) == (1, said)


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_went_away(folder: Path, command: str):
    """The reader is gone before the first line."""
    assert shell(f"fullyconv {command} | exec 0<&-; exit ${{PIPESTATUS[0]}}", folder) == (141, "")


def test_streams_that_are_closed(folder: Path):
    """What is written goes nowhere, and not into the file that was opened in the place of stdout."""
    assert shell("fullyconv doctor >&-", folder) == (0, "")
    assert shell("fullyconv convert small.keras -o fcn.keras <&- >&- 2>&-", folder) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["fcn.keras", "small.keras"]
    assert (folder / "fcn.keras").read_bytes()[:2] == b"PK"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")  # noqa: PTH110
def test_errors_that_cannot_be_told(folder: Path):
    assert shell("fullyconv convert no.keras -o no/fcn.keras 2> /dev/full", folder)[0] == 1
    assert shell("fullyconv convert no.keras -o no/fcn.keras 2>&-", folder)[0] == 1
