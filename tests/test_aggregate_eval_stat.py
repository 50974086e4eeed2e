"""The real command, once; what it does with paths and files, in this process."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn.aggregate import AggregateSettings, find_logs, read_refusals, update_leaderboard
from unlearn.config.build import build_settings

ROOT = Path(__file__).parents[1]


@pytest.fixture
def models(tmp_path):
    """Gold and base, two seeds of npo, and a log that other code made."""
    gold, base = make_log(seed=2, forget=0.2), make_log(seed=3, forget=2.5)
    save_log(tmp_path / "models/gold/eval_results", gold, make_meta(gold, method="retain90+tofu", model="models/gold"))
    save_log(tmp_path / "models/base/eval_results", base, make_meta(base, method="full+tofu", model="models/base"))
    for seed in (0, 1):
        log = make_log(seed=10 + seed, forget=0.6)
        meta = make_meta(log, seed=seed, settings_hash=f"h{seed}")
        save_log(tmp_path / f"models/base/npo+{seed}/eval_results", log, meta)
    save_log(tmp_path / "models/theirs/eval_results", make_log(seed=20))
    return tmp_path / "models"


def log_of(models, name):
    return str(models / name / "eval_results" / "eval_log_aggregated.json")


def test_the_command(tmp_path, models):
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    overrides = [
        "retain_result=models/gold/eval_results/eval_log_aggregated.json",
        "base_result=models/base/eval_results/eval_log_aggregated.json",
        "ckpt_result=**/eval_log_aggregated.json",
        "submitted_by=me", "save_file=leaderboard.json", "refusals=null", "markdown=true", "latex=out/table.tex",
    ]  # fmt: skip
    command = [sys.executable, str(ROOT / "aggregate_eval_stat.py"), *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    written = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file() and path not in before
    }
    beside = {f"leaderboard.{ending}" for ending in ("json", "png", "html", "md")}
    assert written == {*beside, "out/table.tex", ".leaderboard.json.lock"}, "hydra writes nothing"
    rows = json.loads((tmp_path / "leaderboard.json").read_text("utf-8"))
    assert sorted(row["method"] for row in rows) == ["full+tofu", "npo", "npo", "retain90+tofu", "theirs"]
    assert {row["submitted_by"] for row in rows} == {"me"}
    npo = next(row for row in rows if row["seed"] == 1 and row["method"] == "npo")
    assert npo["logs"]["model"] == "models/base/npo+1/eval_results/eval_log_aggregated.json"
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["Method", "-" * len(lines[1])]
    assert [line.split("  ")[0] for line in lines[2:6]] == ["gold (retain90+tofu)", "base (full+tofu)", "npo", "theirs"]
    assert lines[-1] == "5 rows in leaderboard.json"
    assert not done.stderr


def test_a_study_of_two_people_has_a_leaderboard_without_intervals(tmp_path):
    for name, seed, forget in (("gold", 2, 0.2), ("base", 3, 3.0), ("npo", 1, 0.6)):
        log = make_log(seed=seed, forget=forget)
        save_log(tmp_path / f"{name}/eval_results", log, make_meta(log, authors=2, method=name, model=name))
    values = {
        "retain_result": log_of(tmp_path, "gold"), "base_result": log_of(tmp_path, "base"),
        "ckpt_result": log_of(tmp_path, "npo"), "save_file": str(tmp_path / "board.json"), "markdown": True,
    }  # fmt: skip
    update_leaderboard(build_settings(AggregateSettings, values))
    row = json.loads((tmp_path / "board.json").read_text())[-1]
    assert row["memorised"] is None and set(row["intervals"].values()) == {None}
    assert "No interval: fewer than four people" in (tmp_path / "board.md").read_text()
    assert all((tmp_path / name).exists() for name in ("board.png", "board.html"))


def test_the_published_keys_are_the_config(models, tmp_path):
    values = {
        "retain_result": log_of(models, "gold"), "ckpt_result": log_of(models, "theirs"), "method_name": "finetune",
        "submitted_by": "therem", "save_file": str(tmp_path / "finetune.csv"),
    }  # fmt: skip
    gold, row = update_leaderboard(build_settings(AggregateSettings, values))
    assert (row["method"], row["submitted_by"], row["role"]) == ("finetune", "therem", "method")
    assert (gold["method"], gold["role"]) == ("retain90+tofu", "gold"), "gold keeps its own name"
    with (tmp_path / "finetune.csv").open(newline="", encoding="utf-8") as file:
        _, flat = csv.DictReader(file)
    assert float(flat["Model Utility"]) == row["Model Utility"]
    assert (tmp_path / "finetune.png").exists()
    with pytest.raises(ValueError, match="Unknown config key 'method_nme'. Did you mean 'method_name'"):
        build_settings(AggregateSettings, {**values, "method_nme": "x"})


def test_a_second_run_merges(models, tmp_path):
    def settings(name, **changes):
        return AggregateSettings(
            log_of(models, "gold"), log_of(models, name), save_file=str(tmp_path / "l.json"), **changes
        )

    update_leaderboard(settings("theirs", picture=False))
    update_leaderboard(settings("base/npo+0", picture=False))
    rows = update_leaderboard(settings("theirs", base_result=log_of(models, "base"), picture=str(tmp_path / "p.png")))
    assert [(row["method"], row["role"]) for row in rows] == [
        ("retain90+tofu", "gold"), ("theirs", "method"), ("npo", "method"), ("full+tofu", "base")
    ]  # fmt: skip
    assert [row["memorised"] for row in rows] == [True, True, None, True]
    assert rows[0]["Forget Quality"] == 1.0 and rows[0]["gold"]["Forget metric"] == rows[0]["Forget metric"]
    assert {path.name for path in tmp_path.iterdir()} == {"models", "l.json", ".l.json.lock", "l.html", "p.png"}


def test_nothing_is_written_when_one_log_is_bad(models, tmp_path):
    save_log(models / "bad", make_log(rows=5))
    with pytest.raises(ValueError, match="bad/eval_log_aggregated.json and .*gold"):
        update_leaderboard(
            AggregateSettings(
                log_of(models, "gold"), str(models / "**/eval_log_aggregated.json"), save_file=str(tmp_path / "l.json")
            )
        )
    assert not (tmp_path / "l.json").exists()


def test_paths_lists_and_globs(models):
    everything = find_logs(str(models / "**" / "eval_log_aggregated.json"))
    assert [path.relative_to(models).parts[0] for path in everything] == ["base", "base", "base", "gold", "theirs"]
    one = log_of(models, "base/npo+1")
    assert find_logs(one) == [Path(one)]
    assert find_logs([one, str(models / "base/*/*/*.json"), one])[0] == Path(one), "each log once, in the order given"
    literal = models / "odd[1]" / "log.json"
    literal.parent.mkdir()
    literal.write_text("{}")
    assert find_logs(str(literal)) == [literal]
    with pytest.raises(ValueError, match=r"ckpt_result='.*nothing\*' names no file"):
        find_logs([one, str(models / "nothing*")])
    for empty in ("", []):
        with pytest.raises(ValueError, match="ckpt_result"):
            find_logs(empty)


def test_refusals_are_read_by_line(models, tmp_path):
    bank = tmp_path / "bank.txt"
    bank.write_text("the portrait\n\n walking ", encoding="utf-8")
    assert read_refusals(bank) == ["the portrait", "walking"]
    settings = AggregateSettings(
        log_of(models, "gold"),
        log_of(models, "theirs"),
        save_file=str(tmp_path / "l.json"),
        refusals=str(bank),
        picture=False,
    )
    assert update_leaderboard(settings)[1]["Refusal rate Retain"] >= 0.0
    with pytest.raises(ValueError, match="nowhere.txt: no such file.*refusals=null"):
        read_refusals(tmp_path / "nowhere.txt")


def test_gold_is_needed():
    with pytest.raises(ValueError, match="retain_result is empty"):
        update_leaderboard(AggregateSettings())


def test_no_model_is_needed():
    """A leaderboard can be rebuilt on a laptop: nothing that aggregation imports needs torch."""
    code = "import sys, unlearn.aggregate; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
