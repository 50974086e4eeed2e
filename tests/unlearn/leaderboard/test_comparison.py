"""Two logs against one another: the numbers of their rows, anchors, and the command."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtrit

from tests.bad_input import ROOT
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log, shuffled
from unlearn.aggregate import AggregateSettings, compare_models, update_leaderboard
from unlearn.leaderboard.comparison import compare_logs, comparison_table
from unlearn.leaderboard.row import leaderboard_row
from unlearn.metrics.comparison import holm
from unlearn.metrics.intervals import interval
from unlearn.results import as_log, read_log

MODELS = {"gold": (2, 0.2), "base": (3, 3.0), "npo": (10, 0.6), "idk": (11, 2.0)}
FORGET = ("Forget metric", "ROUGE Forget", "Prob. Forget FaceRec", "Truth Ratio Forget")


@pytest.fixture
def logs(tmp_path):
    """Paths of four models' logs on the rows of six people."""
    paths = {}
    for name, (seed, forget) in MODELS.items():
        log = make_log(seed=seed, forget=forget, rows=24)
        meta = make_meta(log, authors=6, method=name, model=name)
        paths[name] = save_log(tmp_path / name / "eval_results", log, meta)
    return paths


def read(logs, *names):
    return [read_log(logs[name]) for name in names]


def test_numbers_are_those_of_the_rows_and_differences_are_paired(logs):
    a, b, gold, base = read(logs, "npo", "idk", "gold", "base")
    found = compare_logs(a, b, gold=gold, base=base)
    rows = [leaderboard_row(log, gold, base_log=base) for log in (a, b)]
    numbers = found["numbers"]
    assert (
        list(numbers)[:4] == ["Real metric", "Retain metric", "Forget metric", "Model Utility"] and len(numbers) == 19
    )
    for name, one in numbers.items():
        assert (one["A"], one["B"]) == (rows[0][name], rows[1][name])
        assert one["difference"] == pytest.approx(rows[0][name] - rows[1][name], abs=1e-12)
        (low, high), (inner_low, inner_high) = one["interval"], one["interval 90"]
        assert low < inner_low < one["difference"] < inner_high < high
        assert one["p"] >= one["smallest p"] == (1 / 32 if one["people"] == 6 else 2.0 ** (1 - one["people"]))
        assert (one["people needed"] is None) is (name in ("Real metric", "Model Utility"))
    assert [one["p Holm"] for one in numbers.values()] == pytest.approx(holm([one["p"] for one in numbers.values()]))
    clear = numbers["Prob. Forget FaceRec"]  # no person of idk lies above one of npo
    assert clear["p"] == 1 / 32 and clear["verdict"] == "different" and clear["interval"][1] < 0
    assert found["models"]["A"]["method"] == "npo" and found["resampled"]["Forget"] == "people"


def test_leakage_is_of_what_is_forgotten_0_as_gold_and_1_as_base(logs):
    gold, base, npo = read(logs, "gold", "base", "npo")
    numbers = compare_logs(gold, base, gold=gold, base=base)["numbers"]
    assert [name for name, one in numbers.items() if one["leakage"] is not None] == list(FORGET)
    assert all(numbers[name]["leakage"] == {"A": 0.0, "B": 1.0} for name in FORGET)
    own = compare_logs(npo, gold, gold=gold, base=base)["numbers"]["Forget metric"]
    expected = (own["A"] - own["B"]) / (numbers["Forget metric"]["B"] - own["B"])
    assert own["leakage"]["A"] == pytest.approx(expected)
    assert compare_logs(npo, gold)["numbers"]["Forget metric"]["leakage"] is None, "not without base and gold"
    alike = compare_logs(npo, gold, gold=gold, base=gold)["numbers"]["Forget metric"]
    assert alike["leakage"] is None, "base and gold cannot be told apart"


def test_a_model_is_equal_to_itself_and_the_other_way_round_is_minus(logs):
    a, b = read(logs, "npo", "idk")
    for one in compare_logs(a, a)["numbers"].values():
        assert (one["difference"], one["interval"], one["p"], one["verdict"]) == (0.0, [0.0, 0.0], 1.0, "equal")
        assert one["people needed"] in (0, None)
    there, back = (compare_logs(*pair)["numbers"] for pair in ((a, b), (b, a)))
    mixed = compare_logs(as_log(shuffled(json.loads(logs["npo"].read_text())), a.meta), b)["numbers"]
    for name, one in there.items():
        assert one["difference"] == -back[name]["difference"] and one["p"] == back[name]["p"]
        assert one["interval"] == pytest.approx([-end for end in reversed(back[name]["interval"])])
        assert one["interval"] == pytest.approx(mixed[name]["interval"]) and one["p"] == mixed[name]["p"]


def test_two_people_have_no_interval_and_foreign_logs_go_by_items():
    ours, theirs = make_log(seed=1), make_log(seed=2)
    metas = [make_meta(log, authors=2) for log in (ours, theirs)]
    found = compare_logs(*(as_log(log, meta) for log, meta in zip((ours, theirs), metas, strict=True)))
    assert {one["interval"] for one in found["numbers"].values()} == {None}
    assert {one["verdict"] for one in found["numbers"].values()} == {"unknown"}
    assert "No interval: fewer than four people." in comparison_table(found)
    foreign = compare_logs(as_log(make_log("nlp", seed=1, rows=25)), as_log(make_log("nlp", seed=2, rows=25)))
    assert foreign["track"] == "nlp" and foreign["resampled"]["Forget"] == "items"
    assert foreign["numbers"]["ROUGE Forget"]["people"] == 25
    assert foreign["numbers"]["ROUGE Forget"]["smallest p"] == 1 / 10_001
    assert "items stand for them" in comparison_table(foreign)


def test_a_wider_margin_calls_more_equal(logs):
    a, b = read(logs, "npo", "idk")
    verdicts = [[one["verdict"] for one in compare_logs(a, b, margin=m)["numbers"].values()] for m in (0.01, 0.2, 1.0)]
    counts = [found.count("equal") for found in verdicts]
    assert counts[0] < counts[1] < counts[2] == 19
    few, many = (compare_logs(a, b, margin=m)["numbers"]["ROUGE Retain"]["people needed"] for m in (0.2, 0.05))
    assert np.ceil(many / 16) in (few, few + 1, few - 1)


def test_the_command(logs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    update_leaderboard(AggregateSettings(str(logs["gold"]), str(logs["npo"]), save_file="board.json", picture=False))
    before = Path("board.json").read_bytes()
    command = [sys.executable, str(ROOT / "aggregate_eval_stat.py"), f"compare=[npo,{logs['idk']}]",
               "save_file=board.json", "margin=0.1",
               f"retain_result={logs['gold']}", f"base_result={logs['base']}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = done.stdout
    assert said.startswith("A: npo (npo/eval_results/eval_log_aggregated.json)\nB: idk (idk/")
    assert re.search(r"^Number +A +B +A - B .*within 0.1 .*Leakage A  Leakage B$", said, re.M)
    assert re.search(r"^Forget metric +0\.\d{3}  0\.\d{3}  -0\.\d{3}  \[-0\.\d{3}, -0\.\d{3}\]  0\.0312", said, re.M)
    assert "6 people never give less than 0.0312" in said and said.endswith("comparison: board.comparison.json\n")
    assert Path("board.json").read_bytes() == before, "the leaderboard stays"
    written = json.loads(Path("board.comparison.json").read_text())
    a, b, gold, base = read(logs, "npo", "idk", "gold", "base")
    again = compare_logs(a, b, gold=gold, base=base, margin=0.1)
    assert written["numbers"] == again["numbers"] and written["margin"] == 0.1
    by_role, _ = compare_models(AggregateSettings(compare=["npo", "gold"], save_file="board.json"))
    assert by_role["models"]["B"]["method"] == "gold"


def test_several_rows_of_a_name_must_be_told_apart(logs, tmp_path):
    for seed in (0, 1):
        log = make_log(seed=20 + seed, rows=24)
        meta = make_meta(log, authors=6, method="kl", seed=seed, settings_hash=f"h{seed}")
        save_log(tmp_path / f"kl{seed}", log, meta)
    board = str(tmp_path / "board.json")
    update_leaderboard(AggregateSettings(str(logs["gold"]), str(tmp_path / "kl*/*_aggregated.json"), save_file=board,
                                         picture=False, report=False))  # fmt: skip
    with pytest.raises(ValueError, match="2 rows of .*board.json are called 'kl'; give the path of .*kl1/eval_log"):
        compare_models(AggregateSettings(compare=["kl", "gold"], save_file=board))
    with pytest.raises(ValueError, match="two different models"):
        compare_models(AggregateSettings(compare=["gold", str(logs["gold"])], save_file=board))


def seeds_of(tmp_path, method, draws, forget=0.6, variant="v"):
    paths = []
    for place, draw in enumerate(draws):
        log = make_log(seed=draw, forget=forget, rows=24)
        meta = make_meta(log, authors=6, method=method, seed=place, variant=variant, settings_hash=f"{method}{place}")
        paths.append(save_log(tmp_path / f"{method}{place}", log, meta))
    return paths


def test_seeds_that_agree_change_nothing_and_seeds_that_differ_widen(logs, tmp_path):
    alone, base = read(logs, "npo", "base")
    for place, level in ((0, "interval"), (0, "interval 90")):
        one = compare_logs(alone, base)["numbers"]["Forget metric"][level]
        assert compare_logs([alone] * 3, [base])["numbers"]["Forget metric"][level] == pytest.approx(one), place
    runs = [read_log(path) for path in seeds_of(tmp_path, "kl", (30, 31, 32))]
    found = compare_logs(runs, base)
    number = found["numbers"]["ROUGE Forget"]
    singles = [compare_logs(run, base)["numbers"]["ROUGE Forget"] for run in runs]
    assert number["difference"] == pytest.approx(np.mean([one["difference"] for one in singles]))
    two = compare_logs(runs[:2], base)["numbers"]["ROUGE Forget"]
    people = compare_logs(runs[0], base)["numbers"]["Prob. Retain"]["people"]
    assert people == found["numbers"]["Prob. Retain"]["people"], "the people are the same in all runs"
    spread = [one["interval"][1] - one["interval"][0] for one in (number, two)]
    assert spread[0] > 0 < spread[1] and found["seeds"] == {"A": 3, "B": 1}
    said = comparison_table(found)
    assert "Means over runs (A: 3, B: 1)" in said and "fewer than three of B, whose seeds are not in them" in said
    assert "One run of each model: seeds are not in the intervals." in comparison_table(compare_logs(runs[0], base))


def test_three_seeds_by_hand():
    """The mean of three runs without spread over people: only seeds, jackknifed, are in the interval."""
    people = [np.full(6, 0.2)]
    rest = (np.array([0.1, 0.2, 0.3]).sum() - np.array([0.1, 0.2, 0.3])) / 2
    low, high = interval(0.2, people, few=[rest], bounds=(-math.inf, math.inf))
    half = stdtrit(2, 0.975) * 0.1 / math.sqrt(3)  # Student's t of three values about their mean
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half))
    assert interval(0.2, [np.full(3, 0.2)], few=[rest]) is None, "three people stay too few"


def test_rows_of_several_seeds_and_globs_are_one_model(logs, tmp_path):
    seeds_of(tmp_path, "kl", (30, 31, 32))
    again = seeds_of(tmp_path, "gold2", (2,), forget=0.3)[0]
    board = str(tmp_path / "board.json")
    update_leaderboard(AggregateSettings(str(logs["gold"]), str(tmp_path / "kl*/*_aggregated.json"), save_file=board,
                                         picture=False, report=False))  # fmt: skip
    by_name, _ = compare_models(AggregateSettings(
        compare=["kl", "gold"], save_file=board, retain_result=str(logs["gold"]), gold_again=str(again)
    ))  # fmt: skip
    by_glob, _ = compare_models(AggregateSettings(compare=[str(tmp_path / "kl*/*_aggregated.json"), str(logs["gold"])]))
    assert by_name["seeds"] == by_glob["seeds"] == {"A": 3, "B": 1}
    assert by_name["numbers"]["Prob. Retain"]["A"] == by_glob["numbers"]["Prob. Retain"]["A"]
    gap = by_name["numbers"]["Prob. Retain"]["gold floor"]
    golds = compare_logs(read_log(logs["gold"]), read_log(again))["numbers"]["Prob. Retain"]["difference"]
    assert gap == pytest.approx(abs(golds)) and by_glob["numbers"]["Prob. Retain"]["gold floor"] is None
    assert "gold floor" in comparison_table(by_name) and "gold floor" not in comparison_table(by_glob)
    with pytest.raises(ValueError, match="are no seeds of one model"):
        compare_models(AggregateSettings(compare=[str(tmp_path / "*/eval_results/*_aggregated.json"), str(again)]))
    with pytest.raises(ValueError, match="compare='.*nothing.*' names no file"):
        compare_models(AggregateSettings(compare=[str(tmp_path / "nothing*"), str(again)]))
