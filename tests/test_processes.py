"""Two real processes train what one process trains that accumulates over the same micro-batches: under DDP, FSDP2 and
DeepSpeed's ZeRO. `pytest -s tests/test_processes.py -m ''` prints the differences (docs/scaling.md)."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.two_ranks import CASES, BothRanks, run, trained
from unlearn.models.loading import load_model
from unlearn.runs.checkpoints import newest_checkpoint
from unlearn.training.measured import MEASURED

ROOT = Path(__file__).resolve().parent.parent
WRAPPERS = {"ddp": ("DDP", "DistributedDataParallel"), "fsdp2": ("FSDP2", "FSDPStudentForward"),
            "zero2": ("ZeRO-2", "DeepSpeedEngine"), "zero3": ("ZeRO-3", "DeepSpeedEngine")}  # fmt: skip


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_ranks_equal_one_process_over_the_same_micro_batches(tmp_path: Path, slow: bool) -> None:
    """One test for all cases: the launch costs more than they do, and workers of a parallel test run share no
    fixture."""
    launch(tmp_path, "slow" if slow else "ddp")
    for case, this in CASES.items():
        if this.engine in ("ddp", "fsdp2") and this.slow == slow:
            compare(tmp_path / case, case, tmp_path / "alone" / case)
            check_checkpoint(tmp_path / case)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_so_do_two_ranks_of_deepspeed(tmp_path: Path, engine: str) -> None:
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("ZERO IS NOT TESTED: deepspeed is not installed (pip install -e '.[deepspeed]')")
    launch(tmp_path, engine)
    for case, this in CASES.items():
        if this.engine == engine:
            compare(tmp_path / case, case, tmp_path / "alone" / case)


def launch(out: Path, engine: str) -> None:
    """Runs tests/two_ranks.py on two ranks. A status of 0 is no evidence of two: what they have written is."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(ROOT / "tests" / "two_ranks.py"), str(out), engine]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (out / "said.txt").open("w") as said:
        launcher = subprocess.Popen(command, env=environment, cwd=out, stdout=said, stderr=said)
    try:
        assert launcher.wait(timeout=300) == 0, (out / "said.txt").read_text()[-4000:]
    finally:
        launcher.terminate()  # passed on to the ranks, which a kill would leave running
        launcher.wait(timeout=60)


def compare(folder: Path, case: str, alone_in: Path) -> None:
    engine = CASES[case].engine
    seen = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for rank in seen:
        assert (rank["world_size"], rank["engine"], rank["wrapper"]) == (2, *WRAPPERS[engine]), case
    weights = load_file(folder / "rank0.safetensors")
    if engine == "ddp":
        other = load_file(folder / "rank1.safetensors")
        assert all(torch.equal(tensor, other[name]) for name, tensor in weights.items()), (
            f"{case}: the ranks drift apart"
        )
    if CASES[case].resumed:
        whole, resumed = (load_file(folder / f"{name}.safetensors") for name in ("whole", "resumed"))
        assert whole.keys() == resumed.keys() == weights.keys()
        for name, tensor in resumed.items():
            torch.testing.assert_close(tensor, whole[name], atol=1e-6, rtol=1e-5, msg=f"{case}, resumed: {name}")

    alone = run(case, alone_in, 0, 1, gradient_accumulation_steps=2, steps=seen[0]["steps"])
    alone.sampler = BothRanks([run(case, alone_in, rank, 2).sampler for rank in (0, 1)])  # type: ignore[assignment]
    start = trained(alone)
    size = sum(parameter.numel() for parameter in alone.student.parameters())
    assert (seen[0]["own"] < 0.6 * size) == (engine in ("fsdp2", "zero3")), f"{case}: not in parts"
    alone.train()
    assert alone.state.global_step == seen[0]["steps"] > 1, case
    assert weights.keys() == start.keys()
    for name, tensor in trained(alone).items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-6, rtol=1e-4, msg=f"{case}: {name}")
    moved = max(float((tensor - start[name]).abs().max()) for name, tensor in weights.items())
    assert moved > 1e-4, case
    if engine != "ddp":
        compare_saved(load_model(str(folder / "saved")), alone.student.model)
    compare_losses(case, alone.state.log_history, seen[0]["log"])
    apart = max(float((tensor - weights[name]).abs().max()) for name, tensor in trained(alone).items())
    print(f"weights: moved by up to {moved:.1e}, apart by {apart:.1e}")


def compare_saved(saved: Any, alone: Any) -> None:
    """A model that lay in parts is saved whole, its adapter merged."""
    alone = copy.deepcopy(alone)
    wanted = (alone.merge_and_unload() if hasattr(alone, "merge_and_unload") else alone).state_dict()
    assert saved.state_dict().keys() == wanted.keys()
    for name, tensor in saved.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], atol=1e-5, rtol=1e-4, msg=f"saved: {name}")


def compare_losses(case: str, alone: list[dict[str, float]], ranks: list[dict[str, float]]) -> None:
    """Every logged part at every step; logged are the means over both ranks."""
    mine = [entry for entry in alone if "loss" in entry]
    apart = 0.0
    for one, two in zip(mine, ranks, strict=True):
        parts = {key: value for key, value in one.items() if key.startswith("parts/")}
        assert parts and parts == pytest.approx({key: two[key] for key in parts}, rel=1e-3, abs=1e-4), case
        apart = max(apart, max(abs(value - two[key]) for key, value in parts.items()))
    loss = [sum(entry["loss"] for entry in log) / len(log) for log in (mine, ranks)]
    print(f"\n{case}: {len(mine)} steps, mean loss {loss[0]:.5f} alone, {loss[1]:.5f} on two; ", end="")
    print(f"logged parts apart by up to {apart:.1e}; ", end="")


def check_checkpoint(folder: Path) -> None:
    """Both ranks' states in one whole folder, and nothing else left of the saving."""
    newest = newest_checkpoint(folder / "run")
    left = {path.name for path in (folder / "run").iterdir()} - {MEASURED}
    assert newest is not None and left == {newest.name}
    saved = json.loads((newest / "trainer_state.json").read_text())["global_step"]
    assert saved == json.loads((folder / "rank0.json").read_text())["steps"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in newest.iterdir()}
