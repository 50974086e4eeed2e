"""What a method measures before training (`prepare`), kept in the run's folder; the mask that it may hold (`keeps`)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unlearn.atomic import replacing
from unlearn.distributed.pieces import cut, piece
from unlearn.distributed.processes import from_main
from unlearn.method import Method, defines
from unlearn.training.probe import ModelProbe, probing

logger = logging.getLogger(__name__)
MEASURED = "measured.safetensors"
KEEP = "keep/"


class Measured(TrainerCallback):
    """Measures when training begins, unless the run's folder holds it already; afterwards holds still what
    the method does not keep.

    `tensors` is what the method returned, in this process's pieces.
    """

    def __init__(self, trainer: Any, method: Method) -> None:
        self.trainer, self.method = trainer, method
        self.tensors: dict[str, Tensor] = {}
        self._still: dict[str, tuple[Tensor, Tensor]] = {}  # parameter -> (entries that stay, their values)
        if defines(method, "prepare"):
            trainer.add_callback(self)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Raises ValueError where a run goes on from a checkpoint and its measurements are gone."""
        file = Path(self.trainer.folder) / MEASURED
        trained = {name: p for name, p in self.trainer.student.model.named_parameters() if p.requires_grad}
        if not from_main(file.is_file()):
            if state.global_step:
                raise ValueError(
                    f"{file} is gone: it was measured on the weights before training, and the run goes on from step "
                    f"{state.global_step}. Put it back, or start afresh with resume_from_checkpoint=false."
                )
            self._measure(file)
        self.tensors = cut(load_file(file), trained)
        _log_shares(self.tensors)
        if self.method.keeps:
            self._still = {
                name: (~keep, piece(trained[name].detach())[~keep])
                for name, keep in ((name, self.tensors[KEEP + name]) for name in trained if KEEP + name in self.tensors)
            }

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Momentum and weight decay move entries whose gradient is 0; here they return."""
        with torch.no_grad():
            for name, parameter in self.trainer.student.model.named_parameters():
                if name in self._still:
                    entries, values = self._still[name]
                    piece(parameter.detach()).masked_scatter_(entries, values)  # no wait for a GPU

    def _measure(self, file: Path) -> None:
        trainer = self.trainer
        probe = ModelProbe(
            trainer.student, trainer.dataset, trainer.data_collator, trainer.accelerator, trainer.args.seed
        )
        with probing(trainer.student):
            found = self.method.prepare(probe)
        if trainer.args.should_save:
            with replacing(file) as temporary:
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}, temporary)
        trainer.accelerator.wait_for_everyone()


def _log_shares(tensors: Mapping[str, Tensor]) -> None:
    """How much of each kind of tensor a mask keeps (of this process's part)."""
    kinds: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.bool:
            words = name.removesuffix(".weight").removesuffix(".default").split(".")
            kinds.setdefault(words[-1], []).append(tensor)
    for kind, masks in sorted(kinds.items()):
        kept, entries = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
        logger.info("mask: %.1f %% of %s (%d of %d entries)", 100 * kept / max(1, entries), kind, kept, entries)
