"""What every test needs: a backend that is there, and the count of compared cells at the end of a run."""

from __future__ import annotations

import os
from importlib import util
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "openvino")
PACKAGES = {"jax": "jax", "openvino": "openvino", "tensorflow": "tensorflow", "torch": "torch"}

import numpy as np
import pytest
from scipy import stats

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


@pytest.fixture(scope="session", autouse=True)
def _initial_weights_from_numpy():
    """On JAX, draws initial weights with NumPy: jax.random is compiled anew for every shape, a third of the run."""
    if os.environ["KERAS_BACKEND"] != "jax":
        yield
        return
    from keras.src.initializers import random_initializers

    kept, random_initializers.random = random_initializers.random, _Drawn(random_initializers.random)
    yield
    random_initializers.random = kept


class _Drawn:
    """A backend's random module, whose values are drawn by NumPy where they are drawn at once."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def uniform(self, shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
        return self._draw("uniform", shape, minval, maxval, dtype, seed, stats.uniform(minval, maxval - minval))

    def normal(self, shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
        return self._draw("normal", shape, mean, stddev, dtype, seed, stats.norm(mean, stddev))

    def truncated_normal(self, shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
        return self._draw("truncated_normal", shape, mean, stddev, dtype, seed, stats.truncnorm(-2, 2, mean, stddev))

    def _draw(self, name, shape, a, b, dtype, seed, distribution):
        import jax

        drawn = self.module.draw_seed(seed)
        if isinstance(drawn, jax.core.Tracer):  # inside a function that JAX traces
            return getattr(self.module, name)(shape, a, b, dtype, drawn)
        return distribution.rvs(shape, np.random.default_rng(np.asarray(drawn))).astype(dtype or "float32")


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
