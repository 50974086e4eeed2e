"""The leaderboard file: merge by key, nothing lost between writers, CSV and JSON say the same."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta
from unlearn.leaderboard.file import merge_rows, read_rows
from unlearn.leaderboard.row import leaderboard_row
from unlearn.results import as_log

ROOT = Path(__file__).parents[3]


def row(**changes):
    identity = {
        "method": "npo",
        "model": "m",
        "forget_split": "forget10",
        "modality": "both",
        "seed": 0,
        "settings_hash": "a1",
    }
    return {**identity, "submitted_by": "me", "Retain metric": 0.5, **changes}


def test_the_same_run_replaces_and_another_is_added(tmp_path):
    path = tmp_path / "new" / "leaderboard.json"
    merge_rows(path, [row(), row(method="dpo")])
    merge_rows(path, [row(**{"Retain metric": 0.7, "submitted_by": "you"})])
    assert [(r["method"], r["Retain metric"]) for r in read_rows(path)] == [("npo", 0.7), ("dpo", 0.5)]
    others = [{"model": "n"}, {"forget_split": "forget05"}, {"modality": "text"}, {"seed": 1}, {"settings_hash": "b2"},
              {"evaluation": "e2"}]  # fmt: skip
    rows = merge_rows(path, [row(**change) for change in others])
    assert len(rows) == 8
    assert json.loads(path.read_text()) == rows


def test_numbers_that_are_not_finite_become_null(tmp_path):
    merge_rows(tmp_path / "l.json", [row(**{"Forget Quality": float("nan")})])
    assert json.loads((tmp_path / "l.json").read_text(), parse_constant=pytest.fail)[0]["Forget Quality"] is None


WRITER = """
import sys
from unlearn.leaderboard.file import merge_rows
for seed in range(25):
    merge_rows(sys.argv[1], [{"method": sys.argv[2], "model": "m", "seed": seed}])
"""


@pytest.mark.parametrize("name", ["leaderboard.json", "leaderboard.csv"])
def test_two_processes_writing_at_once_lose_nothing(tmp_path, name):
    command = [sys.executable, "-c", WRITER, str(tmp_path / name)]
    writers = [subprocess.Popen([*command, method], cwd=ROOT) for method in ("npo", "dpo")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    found = sorted((r["method"], r["seed"]) for r in read_rows(tmp_path / name))
    assert found == sorted((method, seed) for method in ("npo", "dpo") for seed in range(25))


def test_csv_reads_back_as_it_was_written(tmp_path):
    log, gold = make_log(seed=1), make_log(seed=2)
    meta = make_meta(log, method="1e5", settings_hash="0012e4", model="3")
    written = leaderboard_row(as_log(log, meta), gold, submitted_by='a "name", quoted', base_log=gold)
    foreign = leaderboard_row(log, gold, method="two\nlines", submitted_by="")
    merge_rows(tmp_path / "l.csv", [written])
    rows = merge_rows(tmp_path / "l.csv", [foreign])
    back = read_rows(tmp_path / "l.csv")
    assert len(back) == len(rows) == 2
    assert back[0] == json.loads(json.dumps(written))
    for name, value in json.loads(json.dumps(foreign)).items():
        if isinstance(value, dict):  # columns of the other row are there too, empty
            value = {**dict.fromkeys(back[1][name]), **value}
        assert back[1][name] == value, name
    assert back[1]["base"]["Retain metric"] is None
    with (tmp_path / "l.csv").open(newline="") as file:
        flat = next(csv.DictReader(file))
    assert float(flat["Prob. Retain"]) == written["Prob. Retain"]
    assert float(flat["reference/JS metric"]) == written["reference"]["JS metric"]
    assert merge_rows(tmp_path / "l.csv", [written])[0] == back[0], "replaced, not added"
    assert len(read_rows(tmp_path / "l.csv")) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.json", '[{"method": "a"', "not valid JSON"),
        ("l.json", '{"method": "a"}', "a list of rows"),
        ("l.json", "[1]", "a list of rows"),
        ("l.csv", "a,b\n1,2\n", "a list of rows"),
    ],
)
def test_a_file_that_is_no_leaderboard_is_kept(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{message}.*Choose another save_file"):
        merge_rows(tmp_path / name, [row()])
    assert (tmp_path / name).read_text() == content
