"""Two real processes (DDP over gloo) train what one process trains that accumulates over the same micro-batches."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training import trained_weights
from tests.two_ranks import CASES, BothRanks, run
from unlearn.checkpoints import newest_checkpoint

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two ranks have written to. An exit status of 0 is no evidence of two ranks: the files are."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(ROOT / "tests" / "two_ranks.py"), str(folder)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("case", list(CASES))
def test_two_ranks_equal_one_process_over_the_same_micro_batches(out: Path, tmp_path: Path, case: str) -> None:
    seen = [json.loads((out / case / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for rank in seen:
        assert (rank["world_size"], rank["wrapper"]) == (2, "DistributedDataParallel") and "MULTI" in rank["kind"]
    weights = [load_file(out / case / f"rank{rank}.safetensors") for rank in (0, 1)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), f"{name}: the ranks have drifted apart"

    alone = run(case, tmp_path, 0, 1, gradient_accumulation_steps=2, steps=seen[0]["steps"])
    ranks = [run(case, tmp_path, rank, 2).sampler for rank in (0, 1)]
    alone.sampler = BothRanks(ranks)  # type: ignore[assignment]
    start = trained_weights(alone)
    alone.train()
    assert alone.state.global_step == seen[0]["steps"] > 1
    for name, tensor in trained_weights(alone).items():
        torch.testing.assert_close(weights[0][name], tensor, atol=1e-6, rtol=1e-4, msg=name)
    assert max(float((tensor - start[name]).abs().max()) for name, tensor in weights[0].items()) > 1e-4

    mine = [entry for entry in alone.state.log_history if "loss" in entry]
    for one, two in zip(mine, seen[0]["log"], strict=True):  # logged are the means over both ranks
        parts = {key: value for key, value in one.items() if key.startswith("parts/")}
        assert parts and parts == pytest.approx({key: two[key] for key in parts}, rel=1e-3, abs=1e-4)


def test_the_ranks_save_one_whole_checkpoint(out: Path) -> None:
    for case in CASES:
        folder = out / case / "run"
        newest: Any = newest_checkpoint(folder)
        assert [path.name for path in folder.iterdir()] == [newest.name], case
        saved = json.loads((newest / "trainer_state.json").read_text())["global_step"]
        assert saved == json.loads((out / case / "rank0.json").read_text())["steps"]
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.iterdir()}
