"""nlp/finetune.py and nlp/eval.py by their real commands (nlp/forget.py: test_processes.py), and the row of their
logs."""

import csv
import json
import os
import subprocess
import sys

import pytest

from unlearn.models.families import ROOT

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip
LABELS = ("Real Authors", "Real World", "Retain", "Forget")
PUBLISHED_COLUMNS = {f"{number} {label}" for number in ("ROUGE", "Prob.", "Truth Ratio") for label in LABELS} | {
    "Model Utility", "Forget Quality", "Method", "Submitted By",
}  # fmt: skip


def run(*command: str) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_from_finetune_to_a_row(tmp_path):
    from unlearn.leaderboard.file import merge_rows
    from unlearn.leaderboard.row import leaderboard_row

    model = tmp_path / "ft_retain90"
    run(*LAUNCH, "nlp/finetune.py", "split=retain90", "max_steps=2", f"save_dir={model}")
    record = json.loads((model / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 2 and record["settings"]["split"] == "retain90"
    said = run(*LAUNCH, "nlp/eval.py", f"model_path={model}", "ds_size=9", "generation.max_new_tokens=4")
    log = model / "eval_results" / "eval_log_aggregated.json"
    assert f"eval log: {log}" in said
    tasks = json.loads(log.read_text())
    assert [len(task["avg_gt_loss"]) for task in tasks.values()] == [9] * 4
    assert all(task["rougeL_recall"] for task in tasks.values())
    row = leaderboard_row(log, log, submitted_by="a test")
    assert row["track"] == "nlp" and row["Forget Quality"] == 1.0 and row["Log Forget Quality"] == 0.0
    assert row["people"]["Forget"] == 2 and row["resampled"]["Forget"] == "people"
    assert row["intervals"]["Forget metric"] is None, "two people are too few for an interval"
    assert set(row["reference"]) == PUBLISHED_COLUMNS
    merge_rows(tmp_path / "board.csv", [row])
    with (tmp_path / "board.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert {f"reference/{name}" for name in PUBLISHED_COLUMNS} <= set(header)


@pytest.mark.parametrize("script", ["nlp/finetune.py", "nlp/forget.py", "nlp/eval.py"])
def test_the_config_is_shown_without_heavy_imports(script):
    said = run(sys.executable, "-X", "importtime", script, "--cfg", "job")
    assert "torch" not in {line.rsplit("|", 1)[-1].strip() for line in said.splitlines()}
