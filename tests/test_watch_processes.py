"""Two real processes (DDP over gloo) watch a training and see what one process sees."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.two_ranks import BothRanks
from tests.watch_ranks import watched
from unlearn.training.watch import CURVE, FORGET, PICTURE

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_two_ranks_watch_what_one_process_watches(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(ROOT / "tests" / "watch_ranks.py"), str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert all((rank["world_size"], rank["wrapper"]) == (2, "DistributedDataParallel") for rank in seen)
    assert seen[0]["curve"] == seen[1]["curve"]

    alone = watched(tmp_path / "alone", 0, 1, gradient_accumulation_steps=2)
    alone.sampler = BothRanks([watched(tmp_path / "alone", rank, 2).sampler for rank in (0, 1)])
    alone.train()
    curve = [entry for entry in alone.state.log_history if FORGET in entry]
    assert [entry["step"] for entry in curve] == [entry["step"] for entry in seen[0]["curve"]] == [0, 2, 4]
    values = [{name: value for name, value in entry.items() if name.startswith("eval_")} for entry in curve]
    theirs = [{name: entry[name] for name in values[0]} for entry in seen[0]["curve"]]
    assert values[0] == theirs[0], "the same weights: the same number to the last bit"
    for one, two in zip(values, theirs, strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    assert values[2][FORGET] < 0.99 * values[0][FORGET]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoint-4", "best-4", CURVE, PICTURE}, "both ranks leave one of each"
