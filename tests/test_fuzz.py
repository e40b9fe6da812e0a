"""Files changed at random: each is refused by an error of ours or read rightly, in bounded memory; nothing crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

CASES = 340
FUZZING = Path(__file__).with_name("fuzzing.py")


@pytest.mark.once
def test_files_changed_at_random_are_refused_or_read():
    done = subprocess.run(
        [sys.executable, str(FUZZING), "--cases", str(CASES)],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "openvino"},
        check=False,
        timeout=1200,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ran = list(zip(lines[::2], lines[1::2], strict=False))
    assert len(lines) == 2 * CASES, (
        f"ended with {done.returncode} in {lines[-1] if lines else 'the beginning'}:\n{done.stderr[-3000:]}"
    )
    wrong = [(case, found["outcome"]) for case, found in ran if found["outcome"] not in ("right", "refused")]
    assert not wrong
    large = [(case, found["grown"]) for case, found in ran if found["grown"] > 1000]
    assert not large, "these took more than 1 GB"
    seen = Counter((case["file"], found["outcome"]) for case, found in ran)
    both = [(file, outcome) for file in ("net.keras", "fcn.keras", "net.h5") for outcome in ("right", "refused")]
    assert all(seen[pair] >= 5 for pair in both), "the changes are too weak, or too strong, to say anything"
