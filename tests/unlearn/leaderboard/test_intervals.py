"""Intervals of a row: whose they are, what goes together, and the memorisation gate that rests on them."""

import copy
import json

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm, t

from tests.unlearn.metrics.synthetic import make_log, make_meta
from unlearn.leaderboard.file import merge_rows
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.table import latex_table, markdown_table, text_table
from unlearn.report.html import write_report
from unlearn.report.scatter import trade_off_picture
from unlearn.results import as_log

LABELS = ("Real Faces", "Real World", "Forget", "Retain", "Forget FaceRec", "Retain FaceRec")


def row_of(log, gold, **options):
    return leaderboard_row(log, gold, method="m", submitted_by="s", **options)


def with_meta(log, **options):
    return as_log(log, make_meta(log, **options))


def test_people_are_the_sample_where_they_are_known():
    log, gold = make_log(seed=1, rows=40), make_log(seed=2, rows=40)
    items, people = row_of(log, gold), row_of(with_meta(log, authors=4), gold)
    assert items["resampled"]["Forget"] == "items"
    assert items["people"]["Forget"] is None
    assert people["resampled"]["Forget"] == "people"
    assert people["people"]["Forget"] == 4
    assert people["items"] == dict.fromkeys(LABELS, 40)
    assert people["intervals"]["Forget metric"] != items["intervals"]["Forget metric"]
    assert people["Null floor 5%"] != items["Null floor 5%"], "whole people are swapped"
    for row in (items, people):
        for name, (low, high) in row["intervals"].items():
            assert low <= row[name] <= high, name


@pytest.mark.parametrize("authors", [1, 2, 3])
def test_no_interval_and_no_gate_below_four_people(authors, tmp_path):
    log, gold, base = make_log(seed=1, rows=40), make_log(seed=2, rows=40), make_log(seed=3, rows=40, forget=3.0)
    row = row_of(with_meta(log, authors=authors), gold, base_log=base)
    assert (row["people"]["Forget"], row["resampled"]["Forget"]) == (authors, "people")
    assert set(row["intervals"].values()) == {None} and row["memorised"] is None
    assert set(row["base"]["intervals"].values()) == {None}
    assert row["Forget metric, base minus gold"] > 0.1 and 0 <= row["Null floor"] <= 1
    for save_file in ("board.json", "board.csv"):
        merge_rows(tmp_path / save_file, [row])
    assert json.loads((tmp_path / "board.json").read_text())[0]["intervals"]["Retain metric"] is None
    for text in (text_table([row]), markdown_table([row]), latex_table([row])):
        assert "No interval: fewer than four people" in text and "[low, high]" not in text and "None" not in text
    assert trade_off_picture([row], tmp_path / "board.png").is_file()
    page = write_report(tmp_path / "board.html", [row], root=tmp_path).read_text()
    assert "fewer than four people" in page


def test_few_people_of_one_task_leave_the_intervals_of_the_others():
    log, gold = make_log(seed=1, rows=40), make_log(seed=2, rows=40)
    meta = make_meta(log, authors=8)
    for task in ("eval_log_forget", "eval_forget_facerec"):
        for row, facts in meta["tasks"][task]["rows"].items():
            facts["author"] = f"person {int(row) % 2}"
    row = row_of(as_log(log, meta), gold)
    few = {name for name, ends in row["intervals"].items() if ends is None}
    assert few == {"Forget metric", "Forget Quality"} | {name for name in row["intervals"] if " Forget" in name}


def test_an_interval_by_hand():
    """Truth Ratio Retain, four people of ten items: Student's on the logit of the mean without each person."""
    log = make_log(seed=1, rows=40)
    row = row_of(with_meta(log, authors=4), make_log(seed=2, rows=40))
    task = log["eval_log.json"]
    values = np.array([
        max(0.0, 1 - np.mean(np.exp(task["avg_paraphrased_loss"][one] - np.array(task["average_perturb_loss"][one]))))
        for one in map(str, range(40))
    ])  # fmt: skip
    rest = logit([np.delete(values, np.arange(person, 40, 4)).mean() for person in range(4)])
    pulls = rest.mean() - rest
    x, skew = norm.ppf(0.975), (pulls**3).sum() / (pulls**2).sum() ** 1.5
    half = t.ppf(0.975, 3) * np.sqrt(3 / 4 * (pulls**2).sum()) * (1 + (x**4 + 2 * x**2 - 3) / 18 * skew**2)
    assert row["Truth Ratio Retain"] == pytest.approx(values.mean())
    centre = logit(values.mean())
    assert row["intervals"]["Truth Ratio Retain"] == pytest.approx([expit(centre - half), expit(centre + half)])


def test_the_order_of_rows_and_the_names_of_people_do_not_matter():
    log, gold = make_log(seed=1, rows=30), make_log(seed=2, rows=30)
    meta = make_meta(log, authors=5)
    turned, again = copy.deepcopy(log), copy.deepcopy(meta)
    for task in turned.values():
        for key, values in task.items():
            task[key] = dict(reversed(values.items()))
    for task in again["tasks"].values():
        for facts in task["rows"].values():
            facts["author"] = facts["author"].replace("person", "Ольга")
    one, two = row_of(as_log(log, meta), gold), row_of(as_log(turned, again), gold)
    assert one["intervals"] == two["intervals"] and one["Null floor"] == two["Null floor"]


def test_caption_and_facerec_of_a_row_go_together():
    """Equal values in both tasks of a group give equal intervals."""
    log = make_log(seed=1, rows=40)
    log["eval_forget_facerec.json"] = log["eval_log_forget.json"]
    intervals = row_of(log, log)["intervals"]
    assert intervals["Truth Ratio Forget"] == intervals["Truth Ratio Forget FaceRec"]


def test_interval_of_forget_quality_stays_in_bounds():
    gold = make_log(seed=2, rows=120)
    row = row_of(make_log(seed=1, rows=120), gold)
    low, high = row["intervals"]["Forget Quality"]
    assert 0 < low < row["Forget Quality"] < high < 1
    few = row_of(make_log(seed=24, rows=4), make_log(seed=77, rows=4))
    assert (
        0
        <= few["intervals"]["Forget Quality"][0]
        <= few["Forget Quality"]
        <= few["intervals"]["Forget Quality"][1]
        <= 1
    )
    assert row_of(gold, gold)["intervals"]["Forget Quality"] == [1.0, 1.0]


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
