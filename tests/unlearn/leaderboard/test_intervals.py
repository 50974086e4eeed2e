"""Intervals of a row: who is drawn, what goes together, and the memorisation gate that rests on them."""

import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta
from unlearn.leaderboard.row import leaderboard_row
from unlearn.results import as_log

LABELS = ("Real Faces", "Real World", "Forget", "Retain", "Forget FaceRec", "Retain FaceRec")


def row_of(log, gold, **options):
    return leaderboard_row(log, gold, method="m", submitted_by="s", **options)


def with_meta(log, **options):
    return as_log(log, make_meta(log, **options))


def test_people_are_resampled_where_they_are_known():
    log, gold = make_log(seed=1, rows=40), make_log(seed=2, rows=40)
    items, people = row_of(log, gold), row_of(with_meta(log, authors=4), gold)
    assert items["resampled"]["Forget"] == "items"
    assert items["people"]["Forget"] is None
    assert people["resampled"]["Forget"] == "people"
    assert people["people"]["Forget"] == 4
    assert people["items"] == dict.fromkeys(LABELS, 40)
    assert people["intervals"]["Forget metric"] != items["intervals"]["Forget metric"]
    one = row_of(with_meta(log, authors=1), gold)
    assert (one["people"]["Forget"], one["resampled"]["Forget"]) == (1, "items"), "one person has no spread of people"
    for row in (items, people):
        for name, (low, high) in row["intervals"].items():
            assert low <= row[name] <= high, name


def test_caption_and_facerec_of_a_row_go_together():
    """Equal values in both tasks of a group give equal intervals; another group is drawn on its own."""
    log = make_log(seed=1, rows=40)
    for name in ("eval_forget_facerec.json", "eval_log.json"):
        log[name] = log["eval_log_forget.json"]
    intervals = row_of(log, log)["intervals"]
    assert intervals["Truth Ratio Forget"] == intervals["Truth Ratio Forget FaceRec"]
    assert intervals["Truth Ratio Forget"] != intervals["Truth Ratio Retain"]


def test_interval_of_forget_quality_is_centred_and_stays_in_bounds():
    """Drawing again adds noise, which lowers 1 - JSD: the draws are moved back around the number, then cut to [0,
    1]."""
    gold = make_log(seed=2, rows=120)
    row = row_of(make_log(seed=1, rows=120), gold)
    low, high = row["intervals"]["Forget Quality"]
    assert high - row["Forget Quality"] == pytest.approx(row["Forget Quality"] - low, rel=0.2)
    few = row_of(make_log(seed=24, rows=3), make_log(seed=77, rows=3))
    assert few["Forget Quality"] < few["intervals"]["Forget Quality"][1] == 1.0


def test_memorisation_gate():
    gold, model = make_log(seed=2, rows=60, forget=0.2), make_log(seed=1, rows=60, forget=0.5)
    knows = make_log(seed=3, rows=60, forget=2.5)
    assert row_of(model, gold)["memorised"] is None
    row = row_of(model, gold, base_log=knows)
    assert row["memorised"] is True
    gap = row["Forget metric, base minus gold"]
    assert gap == pytest.approx(row["base"]["Forget metric"] - row["gold"]["Forget metric"])
    low, high = row["intervals"]["Forget metric, base minus gold"]
    assert 0 < low < gap < high
    alarms = [
        row_of(model, gold, base_log=make_log(seed=seed, rows=60, forget=0.2))["memorised"] for seed in range(4, 12)
    ]
    assert sum(alarms) <= 2, "a base that knows no more than gold passes in 2.5 % of samples"
    assert row_of(model, gold, base_log=gold)["memorised"] is False
    assert row["gold"]["Forget Quality"] == 1.0
    assert row["gold"]["Retain metric"] == row_of(gold, gold)["Retain metric"]
    assert row["base"]["Forget Quality"] == row_of(knows, gold)["Forget Quality"]
