"""Standard output that cannot be written: one sentence or none, the usual exit code, and no other file in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fullyconv
from test_cli import small

pytestmark = pytest.mark.once

COMMAND = [sys.executable, "-m", "fullyconv"]
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("streams")
    small().save(made / "small.keras")
    return made


def process(arguments: str, folder: Path, **streams: Any) -> tuple[int, str | None]:
    """The exit code of a command, and what it says on stderr."""
    streams = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE} | streams
    done = subprocess.run(COMMAND + arguments.split(), cwd=folder, text=True, check=False, timeout=300, **streams)
    return done.returncode, done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", ["--help", "geometry small.keras"])
def test_a_full_disk(folder: Path, arguments: str):
    with FULL.open("w") as full:
        assert process(arguments, folder, stdout=full) == (
            1,
            "Error: Standard output cannot be written: no space left on device.\n",
        )


@pytest.mark.parametrize("arguments", ["--help", "doctor"])
def test_a_reader_that_went_away(folder: Path, arguments: str):
    reader, writer = os.pipe()
    os.close(reader)
    assert process(arguments, folder, stdout=writer) == (141, "")
    os.close(writer)


def test_streams_that_are_closed(folder: Path):
    """What is printed goes nowhere, and not into the file that was opened in the place of stdout."""
    script = " ".join([*COMMAND, "convert small.keras -o fcn.keras <&- >&- 2>&-"])
    done = subprocess.run(["sh", "-c", script], cwd=folder, check=False, timeout=300)
    assert done.returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["fcn.keras", "small.keras"]
    assert fullyconv.load(folder / "fcn.keras").window == (12, 10)


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
def test_an_error_that_cannot_be_told(folder: Path):
    with FULL.open("w") as full:
        assert process("convert no.keras -o no/fcn.keras", folder, stderr=full)[0] == 1
