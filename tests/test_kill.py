"""kill -9 at three moments, then the same command to its end: the weights are those of a run that nobody disturbed.

The moments are seen from outside, as a scheduler's would be: while the program starts up, after a checkpoint has
appeared and training goes on, and while something is being saved. benchmarks/kill_resume.py is the long form, at random
moments.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [
    sys.executable,
    "mm/forget.py",
    "forget_loss=npo",
    "model_path=minibench/weights/llava-mini",
    "LoRA.dropout=0.1",
    "max_steps=16",
    "save_steps=2",
    "batch_size=4",
    "logging_steps=1",
]
STEPS = list(range(1, 17))


def start(folder: Path) -> "subprocess.Popen[bytes]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with folder.with_suffix(".txt").open("a") as said:
        return subprocess.Popen([*COMMAND, f"save_dir={folder}"], cwd=ROOT, env=environment, stdout=said, stderr=said)


def finish(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    assert process.wait(timeout=300) == 0, folder.with_suffix(".txt").read_text()[-3000:]


def kill_when(folder: Path, moment: Callable[[], bool], delay: float = 0.0) -> None:
    """Starts the run and kills it `delay` seconds after `moment` is first true."""
    process = start(folder)
    try:
        while not moment():
            assert process.poll() is None, folder.with_suffix(".txt").read_text()[-3000:]
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        process.kill()
        process.wait()


def steps_saved(folder: Path) -> int:
    return max((int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")), default=0)


def saving(folder: Path, after: int) -> bool:
    """Whether a checkpoint of a step beyond `after`, or the model itself, is being written."""
    staged = [int(path.name.removeprefix("checkpoint-")) for path in folder.glob(".incomplete/checkpoint-*")]
    return any(step > after for step in staged) or (folder / ".incomplete-model").exists()


def test_three_kills_and_a_resume_end_in_the_same_bytes(tmp_path: Path) -> None:
    rng = random.Random(7)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = start(whole)
    try:
        began = time.monotonic()
        kill_when(broken, lambda: time.monotonic() > began + 1.0, delay=rng.uniform(0, 1.5))
        assert not broken.exists(), "it was to be killed while it started up"

        kill_when(broken, lambda: steps_saved(broken) >= 2, delay=rng.uniform(0, 0.05))
        reached = steps_saved(broken)
        assert 2 <= reached < 16 and json.loads((broken / "run.json").read_text())["status"] == "running"

        kill_when(broken, lambda: saving(broken, after=reached))
        assert steps_saved(broken) >= reached, "a checkpoint was lost"

        finish(start(broken), broken)
        finish(undisturbed, whole)
    finally:
        undisturbed.kill()
        undisturbed.wait()
    name = "adapter_model.safetensors"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in broken.iterdir()} == {path.name for path in whole.iterdir()}
    for folder in (broken, whole):
        lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == STEPS, "each step once, whoever took it"
    assert "going on from" not in broken.with_suffix(".txt").read_text(), "no checkpoint was damaged"
