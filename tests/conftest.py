"""What every test needs: a backend that is there, and the count of compared cells at the end of a run."""

from __future__ import annotations

import os
from importlib import util

os.environ.setdefault("KERAS_BACKEND", "openvino")
PACKAGES = {"jax": "jax", "openvino": "openvino", "tensorflow": "tensorflow", "torch": "torch"}

import pytest

COMPARED = "compared_cells"
collect_ignore = ["browser"]  # needs a Chromium: `make browser` names it


def pytest_configure(config: pytest.Config) -> None:
    """Stops the run when the backend is missing: it must not skip."""
    backend = os.environ["KERAS_BACKEND"]
    if backend not in PACKAGES or util.find_spec(PACKAGES[backend]) is None:
        pytest.exit(f"KERAS_BACKEND is '{backend}', which is not installed here: nothing was tested", returncode=3)
    if backend == "torch" and "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


def pytest_report_header(config: pytest.Config) -> str:
    """Names the backend."""
    return f"keras backend: {os.environ['KERAS_BACKEND']}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Gives every test the same weights each time, whichever tests ran before it in its process."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def tally(record_property):
    """Records how many cells a test compared; comparing none fails it."""

    def add(cells: int) -> None:
        assert cells > 0, "no cell was compared"
        record_property(COMPARED, int(cells))

    return add


def pytest_terminal_summary(terminalreporter, exitstatus: int, config: pytest.Config) -> None:
    """Prints the number of compared cells; with xdist, the reports of all workers arrive here."""
    reports = [r for r in terminalreporter.getreports("passed") if r.when == "call"]
    cells = [value for report in reports for name, value in report.user_properties if name == COMPARED]
    if cells:
        terminalreporter.write_line(
            f"compared {sum(cells)} cells in {len(cells)} tests ({os.environ['KERAS_BACKEND']})"
        )
