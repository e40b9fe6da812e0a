"""Every example runs from beginning to end in a process of its own, as a user runs it, and writes its pictures.

They check themselves: what each of them claims is asserted in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.examples  # `make examples` runs them, `make test` does not

EXAMPLES = Path(__file__).parents[1] / "examples"

# Each with the backend that it runs on here (OpenVINO does not train), the pictures it writes, and a line it prints.
RUNS = {
    "chess_board": ("openvino", ("chess_board", "chess_queens"), "64 of 64 squares are right"),
    "digits_on_a_page": ("jax", ("digits_on_a_page",), "of 48 digits"),
    "signal_1d": ("jax", ("signal_1d",), "are named right"),
    "transfer_learning": ("jax", ("transfer_learning",), "cells over one kind of ground are right"),
    "vgg16": ("openvino", ("vgg16",), "512 x 512 pixels -> (10, 10, 1000)"),
    "volume_3d": ("jax", ("volume_3d",), "solids are named right in their own windows"),
}


def test_every_example_is_run():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_example(name: str, tmp_path: Path):
    backend, pictures, line = RUNS[name]
    if os.environ["KERAS_BACKEND"] != backend:
        pytest.skip(f"it runs on {backend}, once")
    # The tests' XLA flags are for networks that run once; training wants the optimised ones.
    variables = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"} | {"KERAS_BACKEND": backend}
    command = [sys.executable, EXAMPLES / f"{name}.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{picture}.png" for picture in pictures]
    for picture in tmp_path.iterdir():
        with Image.open(picture) as image:
            image.load()
            assert min(image.size) > 300
