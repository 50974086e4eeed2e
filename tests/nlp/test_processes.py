"""The text scripts on two processes (gloo, real data parallelism) give what one process gives with the batch
doubled."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nlp.tasks import eval_settings, load_tasks
from nlp.tofu import forget_sources
from tests.models import tiny_llama
from tests.nlp.test_config import composed
from tests.nlp.test_methods import FAMILY, settings_of
from unlearn import pipeline
from unlearn.data.samples import REFUSALS, read_lines
from unlearn.models.families import ROOT
from unlearn.runs.record import settings_hash


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    for part in tiny_llama():
        part.save_pretrained(folder)
    return folder


def two_processes(script: str, *words: str) -> str:
    """The documented command (any free port, since tests run side by side); what it said."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "config/accelerate/cpu.yaml",
              "--main_process_port", "0", script, *words]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(launch, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow  # tests/test_processes.py has the same of mm
def test_forgetting(start, tmp_path):
    """NPO's loss is a mean over sequences, so two batches of two are one batch of four. A second process that did not
    take part would leave a batch of two, and other weights."""
    words = ["forget_loss=npo", f"model_path={start}", "split=forget01", "max_steps=2", "lr=1e-2", "warmup_epochs=0",
             "save_steps=0"]  # fmt: skip
    said = two_processes("nlp/forget.py", *words, "batch_size=2", f"save_dir={tmp_path / 'two'}")
    assert said.count("engine: DDP, 2 processes on cpu") == 1
    settings = settings_of("npo", start, tmp_path / "one")
    pipeline.forget(settings, FAMILY, lambda: forget_sources(settings), read_lines(REFUSALS))
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert json.loads((tmp_path / "two" / "run.json").read_text())["steps"] == 2
    for name, tensor in one.items():
        assert (two[name] - tensor).abs().max() < 2e-4, name
    assert max(tensor.abs().max() for name, tensor in one.items() if ".lora_B." in name) > 5e-3


def test_the_number_of_processes_changes_no_protocol(start, tmp_path):
    """With a global batch two processes take the steps of one, under one hash; without it they are another run."""
    words = ("max_steps=null", "num_epochs=1", "batch_size=2", "global_batch_size=8")
    two_processes("nlp/forget.py", "forget_loss=npo", f"model_path={start}", "split=forget01", "lr=1e-2",
                  "warmup_epochs=0", "save_steps=0", f"save_dir={tmp_path / 'two'}", *words)  # fmt: skip
    settings = settings_of("npo", start, tmp_path / "one", *words)
    pipeline.forget(settings, FAMILY, lambda: forget_sources(settings), read_lines(REFUSALS))
    one, two = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two"))
    assert one["batch"] == {"global": 8, "per_device": 2, "accumulation": 4, "processes": 1}
    assert two["batch"] == {"global": 8, "per_device": 2, "accumulation": 2, "processes": 2}
    rows = len(forget_sources(settings)[0])
    assert one["steps"] == two["steps"] == -(-rows // 8) and one["settings_hash"] == two["settings_hash"]
    assert settings_hash(replace(settings, global_batch_size=None)) != one["settings_hash"]


@pytest.mark.slow
def test_evaluation(start, tmp_path):
    words = [f"model_path={start}", "ds_size=5", "batch_size=2", "generation.max_new_tokens=6", "eval_task_ids=[1,3]"]
    two_processes("nlp/eval.py", *words, f"save_dir={tmp_path / 'two'}")
    settings = eval_settings(composed("eval", *words, f"save_dir={tmp_path / 'one'}"))
    pipeline.evaluate(settings, FAMILY, lambda: load_tasks(settings))
    one, two = (json.loads((tmp_path / name / "eval_log_aggregated.json").read_text()) for name in ("one", "two"))
    assert list(one) == list(two) == ["eval_real_author_wo_options.json", "eval_log_forget.json"]
    for task, log in one.items():
        assert list(two[task]["avg_gt_loss"]) == list(log["avg_gt_loss"]) == ["0", "1", "2", "3", "4"]
        assert two[task]["generated_text"] == log["generated_text"]
        for row, loss in log["avg_gt_loss"].items():
            assert two[task]["avg_gt_loss"][row] == pytest.approx(loss, abs=1e-5)
            assert two[task]["average_perturb_loss"][row] == pytest.approx(log["average_perturb_loss"][row], abs=1e-5)
