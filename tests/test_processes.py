"""Two real processes (DDP over gloo) train what one process trains that accumulates over the same micro-batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training import trained_weights
from tests.two_ranks import CASES, BothRanks, run
from unlearn.checkpoints import newest_checkpoint

ROOT = Path(__file__).resolve().parent.parent


def test_two_ranks_equal_one_process_over_the_same_micro_batches(tmp_path: Path) -> None:
    """One test for all cases: the launch costs more than they do, and workers of a parallel test run share no fixture."""
    out = tmp_path / "ranks"
    out.mkdir()
    launch(out)
    for case in CASES:
        compare(out / case, case, tmp_path / "alone" / case)
        check_checkpoint(out / case)


def launch(out: Path) -> None:
    """Runs tests/two_ranks.py on two ranks. A status of 0 is no evidence of two: what they have written is."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(ROOT / "tests" / "two_ranks.py"), str(out)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (out / "said.txt").open("w") as said:
        launcher = subprocess.Popen(command, env=environment, cwd=out, stdout=said, stderr=said)
    try:
        assert launcher.wait(timeout=300) == 0, (out / "said.txt").read_text()[-4000:]
    finally:
        launcher.terminate()  # passed on to the ranks, which a kill would leave running
        launcher.wait(timeout=60)


def compare(folder: Path, case: str, alone_in: Path) -> None:
    seen = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for rank in seen:
        assert (rank["world_size"], rank["wrapper"]) == (2, "DistributedDataParallel") and "MULTI" in rank["kind"], case
    weights = [load_file(folder / f"rank{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items()), f"{case}: the ranks drift apart"

    alone = run(case, alone_in, 0, 1, gradient_accumulation_steps=2, steps=seen[0]["steps"])
    alone.sampler = BothRanks([run(case, alone_in, rank, 2).sampler for rank in (0, 1)])  # type: ignore[assignment]
    start = trained_weights(alone)
    alone.train()
    assert alone.state.global_step == seen[0]["steps"] > 1, case
    for name, tensor in trained_weights(alone).items():
        torch.testing.assert_close(weights[0][name], tensor, atol=1e-6, rtol=1e-4, msg=f"{case}: {name}")
    assert max(float((tensor - start[name]).abs().max()) for name, tensor in weights[0].items()) > 1e-4, case

    mine = [entry for entry in alone.state.log_history if "loss" in entry]
    for one, two in zip(mine, seen[0]["log"], strict=True):  # logged are the means over both ranks
        parts = {key: value for key, value in one.items() if key.startswith("parts/")}
        assert parts and parts == pytest.approx({key: two[key] for key in parts}, rel=1e-3, abs=1e-4), case


def check_checkpoint(folder: Path) -> None:
    """Both ranks' states in one whole folder, and nothing else left of the saving."""
    newest = newest_checkpoint(folder / "run")
    assert newest is not None and [path.name for path in (folder / "run").iterdir()] == [newest.name]
    saved = json.loads((newest / "trainer_state.json").read_text())["global_step"]
    assert saved == json.loads((folder / "rank0.json").read_text())["steps"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.iterdir()}
