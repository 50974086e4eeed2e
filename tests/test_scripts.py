"""Every script by its real command, in a clean environment, on the embedded benchmark: finetune, forget, eval,
aggregate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip


def run(*command: str, expect: int = 0) -> str:
    """Runs a command from the project's root with nothing of this process's environment but PATH and HOME."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == bool(expect), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Two-step base and gold models, made by the finetuning script."""
    root = tmp_path_factory.mktemp("models")
    for split in ("full+tofu", "retain90+tofu"):
        run(*LAUNCH, "mm/finetune.py", "max_steps=2", f"split={split}", f"save_dir={root / split}")
    return root


def test_from_finetune_to_leaderboard(models, tmp_path):
    base, gold = models / "full+tofu", models / "retain90+tofu"
    record = json.loads((base / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 2
    assert not list(base.glob("checkpoint-*")), "a finished run keeps no checkpoints"
    forgotten = tmp_path / "npo"
    run(*LAUNCH, "mm/forget.py", "forget_loss=npo", "max_steps=2", f"model_path={base}", f"save_dir={forgotten}")
    assert (forgotten / "adapter_model.safetensors").is_file()
    for folder, extra in ((gold, ()), (forgotten, (f"retain_result={gold}/eval_results/eval_log_aggregated.json",))):
        said = run(*LAUNCH, "mm/eval.py", f"model_path={folder}", "ds_size=3", "generation.max_new_tokens=4", *extra)
    assert "Forget Quality" in said or "npo" in said
    log = json.loads((forgotten / "eval_results" / "eval_log_aggregated.json").read_text())
    assert list(log) == [f"{task}.json" for task in (
        "eval_real_faces_wo_options", "eval_real_world_wo_options", "eval_log_forget", "eval_log",
        "eval_forget_facerec", "eval_retain_facerec")]  # fmt: skip
    assert all(len(task["avg_gt_loss"]) == 3 for task in log.values())
    board = tmp_path / "leaderboard.json"
    run(sys.executable, "aggregate_eval_stat.py", f"retain_result={gold}/eval_results/eval_log_aggregated.json",
        f"ckpt_result={forgotten}/eval_results/eval_log_aggregated.json", "method_name=npo", "submitted_by=a test",
        f"save_file={board}")  # fmt: skip
    gold_row, row = json.loads(board.read_text())
    assert gold_row["role"] == "gold" and gold_row["Forget Quality"] == 1.0
    assert row["method"] == "npo" and row["submitted_by"] == "a test" and 0 <= row["Forget Quality"] <= 1
    assert row["modality"] == "both" and row["seed"] == 42
    assert board.with_suffix(".png").stat().st_size > 5000
    exported = tmp_path / "exported"
    assert str(exported) in run(
        sys.executable, "publish.py", f"model_path={forgotten}", "merge=true", f"export={exported}"
    )
    results = (exported / "README.md").read_text().split("## Results")[1].split("## Use")[0]
    assert (exported / "model.safetensors").is_file() and "npo" in results and "gold" in results


def test_the_same_command_again_says_done(models):
    before = (models / "full+tofu" / "model.safetensors").stat().st_mtime_ns
    run(*LAUNCH, "mm/finetune.py", "max_steps=2", "split=full+tofu", f"save_dir={models / 'full+tofu'}")
    assert (models / "full+tofu" / "model.safetensors").stat().st_mtime_ns == before


def test_another_run_in_the_folder_is_refused(models):
    said = run(
        *LAUNCH, "mm/finetune.py", "max_steps=3", "split=full+tofu", f"save_dir={models / 'full+tofu'}", expect=1
    )
    assert "holds another run" in said and "max_steps" in said and "overwrite_dir" in said


@pytest.mark.parametrize(
    "script", ["mm/finetune.py", "mm/forget.py", "mm/eval.py", "aggregate_eval_stat.py", "publish.py"]
)
def test_help_and_config_answer_without_heavy_imports(script):
    said = run(sys.executable, "-X", "importtime", script, "--cfg", "job")
    assert "torch" not in {line.rsplit("|", 1)[-1].strip() for line in said.splitlines()}
    assert not list(ROOT.glob("*.log")) and not (ROOT / "outputs").exists(), "Hydra wrote files"
