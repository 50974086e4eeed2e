"""What tests/test_processes.py runs on two ranks: `torchrun --nproc_per_node 2 tests/two_ranks.py OUT`.

Each rank writes the weights it ends with and what it saw to OUT, for the test to compare.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.training import make_trainer, trained_weights
from unlearn.registry import build_method
from unlearn.trainer import UnlearnTrainer

# Plain SGD: Adam would hide a gradient of the wrong size. RMU steers block 0, so block 1 gets no gradient at all.
SHARED: dict[str, Any] = {
    "forget": (4, 4), "retain": (5, 5), "batch_size": 2, "num_epochs": 1, "optim": "sgd", "max_grad_norm": 0.0, "lr": 1e-3,
    "init_noise": 0.1, "save_steps": 1,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "npo": ("npo", {}, {}),
    "npo, full": ("npo", {}, {"lora": 0}),
    "rmu": ("RMU", {"preset": "sane", "layer": 0}, {}),
    "rmu, full": ("RMU", {"preset": "sane", "layer": 0}, {"lora": 0}),
    "scrub, alternating": ("scrub", {"schedule": "alternating", "msteps": 1}, {"retain": (4, 4)}),
}


class BothRanks:
    """The batches of both ranks in turn: for one process that accumulates over two."""

    def __init__(self, ranks: list[Any]) -> None:
        self.ranks, self.counts = ranks, ranks[0].counts

    def __len__(self) -> int:
        return sum(map(len, self.ranks))

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*self.ranks, strict=True):
            yield from batches


def run(case: str, folder: Path, rank: int, world_size: int, **options: Any) -> UnlearnTrainer:
    name, method_options, extra = CASES[case]
    trainer = make_trainer(
        folder, build_method(name, method_options), rank=rank, world_size=world_size, **{**SHARED, **extra, **options}
    )  # fmt: skip
    return trainer


def main(out: Path) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for case in CASES:
        trainer = run(case, out / case / "run", rank, world)
        trainer.train()
        seen = {
            "world_size": trainer.accelerator.num_processes,
            "kind": str(trainer.accelerator.distributed_type),
            "wrapper": type(trainer.model_wrapped).__name__,
            "steps": trainer.state.global_step,
            "log": [entry for entry in trainer.state.log_history if "loss" in entry],
        }
        (out / case / f"rank{rank}.json").write_text(json.dumps(seen))
        save_file(trained_weights(trainer), out / case / f"rank{rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
