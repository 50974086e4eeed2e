"""What tests/test_processes.py runs on two ranks: `torchrun --nproc_per_node 2 tests/two_ranks.py OUT [ENGINE]`.

ENGINE is ddp (which also does the FSDP2 cases), slow (those of both that are), zero2 or zero3. Each rank writes the
weights it ends with and what it saw to OUT, for the test to compare.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file

from tests.models import tiny_llava
from tests.training import make_trainer
from unlearn.distributed.engines import engine_of, gather_weights
from unlearn.registry import build_method
from unlearn.training.saving import save_trained
from unlearn.training.trainer import UnlearnTrainer

# Plain SGD: Adam would hide a gradient of the wrong size. RMU steers block 0, so block 1 gets no gradient at all.
SHARED: dict[str, Any] = {
    "forget": (4, 4),
    "retain": (5, 5),
    "batch_size": 2,
    "num_epochs": 1,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "lr": 1e-3,
    "init_noise": 0.1,
    "save_steps": 1,
}


@dataclass(frozen=True)
class Case:
    method: str
    options: dict[str, Any] = field(default_factory=dict)  # of the method
    extra: dict[str, Any] = field(default_factory=dict)  # of the trainer
    engine: str = "ddp"
    resumed: bool = False  # also trained with AdamW, whole and from the first step's checkpoint on
    slow: bool = False


AUTO = ("train_micro_batch_size_per_gpu", "train_batch_size", "gradient_accumulation_steps", "gradient_clipping")
RMU = {"preset": "sane", "layer": 0}
CASES: dict[str, Case] = {
    "npo": Case("npo"),  # a mean over sequences
    "npo, full": Case("npo", extra={"lora": 0}),
    "npo, fused": Case("npo", extra={"fused_lora": True}),
    "grad_diff": Case("grad_diff"),  # means over tokens, as KL's
    "KL": Case("KL"),
    "rmu": Case("RMU", RMU),
    "rmu, full": Case("RMU", RMU, {"lora": 0}),
    "scrub, alternating": Case("scrub", {"schedule": "alternating", "msteps": 1}, {"retain": (4, 4)}),
    "project": Case("project"),  # a dot product of each rank's own gradients would not be that of their mean
    "fsdp2, project": Case("project", {"retain_weight": 0.5}, engine="fsdp2", resumed=True),
    "mmunlearner, full": Case("mmunlearner", extra={"lora": 0}),  # measured by both, each its share of the rows
    "fsdp2, salun": Case("salun", engine="fsdp2", slow=True),  # measured in parts, and cut again
    "fsdp2, dual": Case("dual", {"retain": 1}, engine="fsdp2", resumed=True, slow=True),
    "fsdp2, mmunlearner": Case("mmunlearner", extra={"lora": 0}, engine="fsdp2", slow=True),
    "fsdp2, npo": Case("npo", engine="fsdp2", resumed=True),
    "fsdp2, KL, fused": Case("KL", extra={"fused_lora": True}, engine="fsdp2"),
    "fsdp2, KL, full": Case("KL", {}, {"lora": 0}, "fsdp2", resumed=True),
    "zero2, KL": Case("KL", engine="zero2", resumed=True),
    "zero3, npo": Case("npo", engine="zero3", resumed=True),
    "zero3, KL, fused": Case("KL", extra={"fused_lora": True}, engine="zero3"),
    "zero3, KL, full": Case("KL", {}, {"lora": 0}, "zero3", resumed=True),
}


class BothRanks:
    """The batches of both ranks in turn: for one process that accumulates over two."""

    def __init__(self, ranks: list[Any]) -> None:
        self.ranks, self.counts, self.accumulation = ranks, ranks[0].counts, len(ranks)

    def __len__(self) -> int:
        return sum(map(len, self.ranks))

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*self.ranks, strict=True):
            yield from batches


def run(case: str, folder: Path, rank: int, world_size: int, **options: Any) -> UnlearnTrainer:
    this = CASES[case]
    method = build_method(this.method, this.options)
    return make_trainer(folder, method, rank=rank, world_size=world_size, alike=this.engine in ("fsdp2", "zero3"),
                        **{**SHARED, **this.extra, **options})  # fmt: skip


def trained(trainer: UnlearnTrainer) -> dict[str, torch.Tensor]:
    """What is trained, whole, on the main process at least."""
    names = [name for name, p in trainer.student.model.named_parameters() if p.requires_grad]
    weights = gather_weights(trainer.accelerator, trainer.model_wrapped, trainer.student)
    if weights is None:
        weights = {name: p.detach().clone() for name, p in trainer.student.model.named_parameters() if p.requires_grad}
    return {name: weights[name].contiguous() for name in names if name in weights}


@contextmanager
def sharding_on_cpus(engine: str, folder: Path) -> Iterator[None]:
    """accelerate shards on GPUs only. Told that these CPUs are some, it takes the very path that it takes there."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    environment = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    }
    if engine != "fsdp2":
        environment = {
            "ACCELERATE_USE_DEEPSPEED": "true",
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": engine[-1],
            "DS_ACCELERATOR": "cpu",
        }
        without_compiling()
    if engine == "zero3":  # whose default keeps tensors of less than 100,000 numbers whole: all of a tiny model's
        config = {
            **dict.fromkeys(AUTO, "auto"),
            "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        }
        environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = str(folder / f"zero3.{os.environ['RANK']}.json")
        Path(environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"]).write_text(json.dumps(config))
    environment["ACCELERATE_TORCH_DEVICE"] = "cpu"
    answer = ("gloo", DistributedType.MULTI_GPU)
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(PartialState, "_prepare_backend", lambda *_: answer),
    ):
        yield


def without_compiling() -> None:
    """DeepSpeed would compile a shared-memory all-reduce for CPUs (minutes); gloo does it as well."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # read while it is imported
    backend: Any = importlib.import_module("deepspeed.comm.torch")  # as an attribute this is torch itself
    backend.build_shm_op = lambda: None


def train(case: str, out: Path, rank: int, world: int) -> None:
    trainer = run(case, out / case / "run", rank, world)
    trainer.train()
    seen = {
        "world_size": trainer.accelerator.num_processes,
        "engine": engine_of(trainer.accelerator),
        "wrapper": type(trainer.model_wrapped).__name__,
        "steps": trainer.state.global_step,
        "own": sum(map(held, trainer.student.parameters())),
        "log": [entry for entry in trainer.state.log_history if "loss" in entry],
    }
    (out / case / f"rank{rank}.json").write_text(json.dumps(seen))
    save(trained(trainer), out / case / f"rank{rank}.safetensors")
    if CASES[case].engine != "ddp":
        write(trainer, out / case / "saved", rank)
    if CASES[case].resumed:  # with AdamW, whose states have to come back too
        for name, checkpoint in (("whole", None), ("resumed", out / case / "adam" / "checkpoint-1")):
            trainer = run(case, out / case / "adam", rank, world, optim="adamw_torch", save_ckpts=True)
            trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
            save(trained(trainer), out / case / f"{name}.safetensors")


def held(parameter: Any) -> int:
    """How many numbers of a weight this process has: of FSDP2's its part, of ZeRO-3's its part or, once gathered,
    all."""
    if hasattr(parameter, "to_local"):
        return parameter.to_local().numel()
    return parameter.numel() or parameter.ds_tensor.numel()


def write(trainer: UnlearnTrainer, folder: Path, rank: int) -> None:
    """The model as a run saves it, an adapter merged into the base that it names."""
    model = trainer.student.model
    if hasattr(model, "peft_config"):
        model.peft_config["default"].base_model_name_or_path = str(folder.parent / "base")
        if rank == 0:
            tiny_llava()[0].save_pretrained(folder.parent / "base")
    folder.mkdir(exist_ok=True)
    save_trained(trainer, folder, trainer.data_collator.collator, merge=True)


def save(weights: dict[str, torch.Tensor], file: Path) -> None:
    if weights:  # of gathered ones only the main process has any
        save_file(weights, file)


def main(out: Path, engine: str) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo")
    slow, engine = engine == "slow", "ddp" if engine == "slow" else engine
    for case, this in CASES.items():
        if this.slow != slow:
            continue
        if this.engine == "ddp" == engine:
            train(case, out, rank, world)
        elif this.engine == engine or (this.engine, engine) == ("fsdp2", "ddp"):
            with sharding_on_cpus(this.engine, out):
                train(case, out, rank, world)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "ddp")
