"""What tests/test_watch_processes.py runs on two ranks: `torchrun --nproc_per_node 2 tests/watch_ranks.py OUT`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from tests.models import tiny_llava
from tests.training import make_trainer
from unlearn.config.settings import ForgetSettings
from unlearn.data.collator import Collator
from unlearn.registry import build_method
from unlearn.training.watch import Watch


def watched(folder: Path, rank: int, world_size: int, **options: Any) -> Any:
    """A trainer (plain SGD: Adam would hide a gradient of the wrong size) that is watched, with texts and pictures."""
    trainer = make_trainer(
        folder,
        build_method("grad_ascent"),
        forget=(4, 4),
        retain=(5, 5),
        optim="sgd",
        max_grad_norm=0.0,
        lr=1e-3,
        save_steps=2,
        init_noise=0.1,
        rank=rank,
        world_size=world_size,
        **options,
    )
    settings = ForgetSettings(
        save_dir=str(folder),
        batch_size=2,
        eval_while_train=True,
        eval_while_train_items=7,
        keep_best=True,
        keep_retain=0.5,
        **options,
    )
    watch = Watch(trainer, Collator(tiny_llava()[1]), settings)
    watch.batch_size = 2  # several batches for each rank
    trainer.add_callback(watch)
    return trainer


def main(out: Path) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    trainer = watched(out / "run", rank, world)
    trainer.train()
    seen = {
        "world_size": trainer.accelerator.num_processes,
        "wrapper": type(trainer.model_wrapped).__name__,
        "curve": [entry for entry in trainer.state.log_history if "eval_forget_probability" in entry],
    }
    (out / f"rank{rank}.json").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
