"""lm-evaluation-harness on a model of this project: the task's file, and a run where the harness is installed."""

import glob
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import minibench
from mm.clear import FACE_PROMPT
from unlearn import ROOT
from unlearn.data.sources import load_split

TASK = ROOT / "config" / "lm_eval" / "real_faces.yaml"


def test_the_task_asks_what_our_evaluation_asks() -> None:
    task = yaml.safe_load(TASK.read_text())
    folder = Path(minibench.ensure_dataset("data/clear-mini"))
    pattern = str(ROOT / task["dataset_kwargs"]["data_files"]["test"])
    assert glob.glob(pattern) == [str(next((folder / "real_faces").glob("train-*")))]
    columns = load_split(str(folder), "real_faces").column_names
    assert {*task["doc_to_image"], task["doc_to_target"]} <= {*columns}
    assert task["doc_to_text"] == f"<image>{FACE_PROMPT}"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_runs_offline(tmp_path: Path) -> None:
    minibench.ensure_dataset("data/clear-mini")
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "run", "--model", "hf-multimodal", "--model_args",
         "pretrained=minibench/weights/llava-mini,max_images=1,dtype=float32", "--tasks", "clear_real_faces",
         "--include_path", "config/lm_eval", "--apply_chat_template", "--device", "cpu", "--limit", "2"],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "clear_real_faces" in done.stdout
