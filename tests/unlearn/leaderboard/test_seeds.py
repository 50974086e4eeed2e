"""A model of several seeds: its numbers, and how much nearer to gold it comes than another."""

import numpy as np
import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta
from unlearn.leaderboard.comparison import compare_logs
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.seeds import SameRows
from unlearn.report.pareto import pareto_front
from unlearn.results import as_log

NAMES = (
    "Forget metric",
    "Retain metric",
    "Real metric",
    "Forget Quality",
    "Degenerate rate Forget",
    "Refusal rate Retain",
)


def log(seed: int, forget: float):
    made = make_log(seed=seed, forget=forget, rows=24)
    return as_log(made, make_meta(made, authors=6))


@pytest.fixture(scope="module")
def same():
    models = {"near": [log(10, 0.6), log(12, 0.5), log(13, 0.7)], "far": [log(11, 2.0)], "beyond": [log(14, 0.05)]}
    return models, log(2, 0.2), SameRows(models, log(2, 0.2), ["I do not know."])


def test_one_seed_has_its_rows_numbers_and_several_their_mean(same):
    models, gold, found = same
    row = leaderboard_row(models["far"][0], gold, refusals=["I do not know."])
    one = found.numbers("far")
    for name in NAMES:
        assert one[name].value == pytest.approx(row[name]) and one[name].ends == pytest.approx(row["intervals"][name])
    rows = [leaderboard_row(single, gold, refusals=["I do not know."]) for single in models["near"]]
    several = found.numbers("near")
    for name in NAMES:
        assert several[name].value == pytest.approx(np.mean([row[name] for row in rows]))
        low, high = several[name].ends
        assert low <= several[name].value <= high


def test_the_gap_is_a_distance_from_gold_on_both_sides(same):
    models, gold, found = same
    goal = found.gold.means["Forget metric"]
    values = {name: found.numbers(name)["Forget metric"].value for name in models}
    gap, back = found.against("near", "far")["gap"], found.against("far", "near")["gap"]
    assert gap.value == pytest.approx(abs(values["near"] - goal) - abs(values["far"] - goal)) and gap.value < 0
    assert back.value == -gap.value and back.ends == pytest.approx([-gap.ends[1], -gap.ends[0]])
    assert gap.ends[1] < 0, "three seeds near gold against one that is far"
    assert values["beyond"] < goal and found.against("beyond", "beyond")["gap"].ends == [0.0, 0.0]
    twice = compare_logs(models["near"], models["far"])["numbers"]["Retain metric"]
    kept = found.against("near", "far")["retain"]
    assert (kept.value, kept.ends) == (twice["difference"], twice["interval"])


def test_the_front_by_hand():
    points = [(0.75, 0.5), (0.75, 0.375), (0.5, 0.125), (0.5, 0.25), (0.875, 0.875), (0.875, 0.875)]
    assert pareto_front(points, 0.25) == [1, 3, 4, 5], "(.5, .125) lies as near as (.75, .375), which keeps more"
