"""What the benchmarks say of their figures, and the networks they compare with."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import fullyconv
from fullyconv import pretrained

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from measuring import known_answer, speed_page, timing
from measuring.alexnet import alexnet
from measuring.judging import holds, judged

SPREAD = {"min": 1.0, "median": 1.1, "max": 1.5}


def test_a_spread_has_the_middle_and_both_ends():
    assert timing.spread([3, 1, 2, 10]) == {"min": 1, "median": 2.5, "max": 10}


def test_ratios_are_taken_within_a_round():
    rounds = [{"a": 2.0, "b": 1.0}, {"a": 8.0, "b": 2.0}, {"a": 30.0, "b": 10.0}]
    assert timing.ratios(rounds, "a", "b") == {"min": 2, "median": 3, "max": 4}


def test_what_takes_turns_runs_in_both_orders_at_least_five_times():
    order = []
    runs = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    assert len(timing.interleaved(runs, 1)) == 5
    assert "".join(order) == "abbaabbaab"


@pytest.mark.parametrize(
    ("most", "least", "met", "passes"),
    [
        *[(1.1, None, True, True), (1.05, None, False, True), (0.9, None, False, False)],
        *[(None, 1.1, True, True), (None, 1.2, False, True), (None, 1.5, False, False)],
    ],
)
def test_a_guard_allows_for_noise_and_a_target_does_not(most, least, met, passes):
    row = judged(SPREAD, most=most, least=least)
    assert row["met"] == met
    assert holds(row) == passes


def test_a_row_that_failed_fails_and_one_of_seconds_never_does():
    assert not holds({"failed": "exit status 1: it broke"})
    assert holds({**judged(SPREAD, most=0.1), "unit": "s"})
    assert holds({"ratio": SPREAD})


def test_the_page_has_a_line_for_each_row_and_says_what_is_missing():
    head = {"command": "python benchmarks/targets.py", "machine": "a machine", "versions": {"python": "3.11"}}
    met = {**judged(SPREAD, most=1.05), "seconds": {"fcn": SPREAD}, "load": 0.2, "date": "2026-01-01"}
    rows = {"window A": met, "window B": {"failed": "it broke", "date": "2026-01-02"}}
    page = speed_page.page(lambda name: {**head, "rows": rows if name == "targets" else {}})
    assert "| window A | 1.1 (1 to 1.5) | at most 1.05 | **no** | fcn 1.1 s |" in page
    assert "| window B | it broke |" in page
    assert (
        "`python benchmarks/targets.py`, 2026-01-01 to 2026-01-02: a machine, load before each row 0.2 to 0.2" in page
    )
    assert "Not measured yet: `python benchmarks/peers.py`." in page


def test_alexnet_is_that_of_the_paper():
    plan = fullyconv.plan(alexnet())
    assert plan.grids.window == (227, 227)
    assert plan.grids.cells((500, 500)) == (10, 10)
    assert round(plan.cost().multiply_adds / 1e6) == 724


@pytest.fixture(scope="module")
def chess():
    """The network of chess squares, an image, and its map."""
    model = pretrained.chess_model()
    image = np.random.default_rng(0).uniform(0, 255, (1, 62, 58, 3)).astype("float32")
    return model, image, fullyconv.convert(model).predict(image)


def test_the_known_answers_network_gives_the_same_map(chess):
    model, image, want = chess
    have = known_answer.known_answer(model)(image)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(have), want, atol=1e-4)


def test_torch_modules_have_the_same_weights(chess):
    from measuring import torch_nets

    model, image, want = chess
    run, _ = torch_nets.best_format(torch_nets.fully_convolutional(model), image)
    np.testing.assert_allclose(run(), want, atol=1e-4)
    corner = torch_nets.classifier(model)(torch_nets.to_torch(image[:, :50, :50]))
    np.testing.assert_allclose(corner.detach().numpy()[0], want[0, 0, 0], atol=1e-4)
