"""transformers' Trainer with one change of plan: the loss is a method's named parts on scored views."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from unlearn.atomic import INCOMPLETE, replace_folder
from unlearn.data.sampler import EpochSampler
from unlearn.data.views import ForgetRetainDataset, StepCollator
from unlearn.distributed import engines
from unlearn.distributed.engines import gather_weights
from unlearn.method import Method, StepInfo, by_side, defines, runs_sided
from unlearn.models.families import inner_model
from unlearn.models.forward import StudentForward, score_views
from unlearn.models.loading import load_weights
from unlearn.models.lora import all_finite, snapshot, trained_view
from unlearn.runs.checkpoints import keep_newest, newest_checkpoint, not_written, seal
from unlearn.scoring import Scored
from unlearn.training.accumulation import Batch, StepItems, Steps, forwards, one, relabelled, together
from unlearn.training.arrival import Arrival
from unlearn.training.log_line import Means, forget_nll, gradient_norms
from unlearn.training.measured import Measured
from unlearn.training.sided import SidedStep, take_updates
from unlearn.training.teacher import Teacher

logger = logging.getLogger(__name__)
WRITING = (OSError, RuntimeError, SafetensorError)  # what a full disk looks like to Python, torch and safetensors


class UnlearnTrainer(Trainer):
    """Trains `student` with `method`. Finetuning is the method `retain_ft` over one split.

    Args:
        sampler: carries epochs and passes, so the Trainer sees the whole run as one pass over it.
        stop_when: stop once the mean forget NLL (nats per token) is above this; None never.
        log_grad_norms: at logging steps, the gradient norm of the forget and of the retain parts.
        tokens_per_forward: how many tokens the micro-batches of a step may have that share a forward.
    Raises:
        FloatingPointError: a loss that is NaN or infinite, naming the step, the parts and the last checkpoint.
    """

    def __init__(
        self,
        student: StudentForward,
        args: TrainingArguments,
        *,
        method: Method,
        dataset: ForgetRetainDataset,
        collator: StepCollator,
        sampler: EpochSampler,
        teacher: Teacher | None = None,
        processor: Any = None,
        stop_when: float | None = None,
        log_grad_norms: bool = False,
        tokens_per_forward: int = 8192,
    ) -> None:
        take_updates(args, method)
        super().__init__(model=student, args=args, train_dataset=dataset, data_collator=collator)
        engines.check_needs(
            engines.check_engine(self.accelerator), penalty=defines(method, "penalty"),
            grad_norms=log_grad_norms and not runs_sided(method), sided=runs_sided(method),
            start_weights=defines(method, "finalize") and not hasattr(student.model, "disable_adapter"),
            quantized=getattr(inner_model(student.model), "is_quantized", False),
        )  # fmt: skip
        engines.keep_fp32_sums(self.accelerator)
        self.dataset, self.folder, self.student = dataset, Path(str(args.output_dir)), student
        self.method, self.sampler, self.teacher, self.processor = method, sampler, teacher, processor
        self.stop_when, self.log_grad_norms, self.tokens_per_forward = stop_when, log_grad_norms, tokens_per_forward
        self.model_accepts_loss_kwargs = False  # a loss is a mean over micro-batches: nothing is left to divide
        self.sided = SidedStep(self, method) if runs_sided(method) else None
        self.measured = Measured(self, method)
        self.initial = snapshot(student.model) if method.needs_initial else None
        self.stopped: str | None = None  # why `stop_when` ended training
        self.means = Means()  # of the next log line
        self._last: tuple[int, Arrival, list[dict[str, Tensor]]] | None = None  # step, finite?, losses and parts
        if teacher:
            teacher.prepare(self.accelerator, bf16=args.bf16)

    # ---- one step ---------------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """What micro-batches that go through the model together add to the loss of a step of so many (`of`)."""
        losses, student, _ = self.losses_of(model, inputs["micro_batches"])
        loss = torch.stack(losses).sum() / inputs["of"]
        return (loss, student) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of the micro-batches of a step, as many at a time as `tokens_per_forward` holds; the two
        sides by themselves where the method wants them so. Returns their mean loss."""
        if self.sided is not None:
            model.train()
            halves = [self.sided.micro_batch(model, own, of=len(inputs), last=own is inputs[-1]) for own in inputs]
            return torch.stack(halves).sum()
        counts = [self.student.tokens(together([own], self.method.student_views)) for own in inputs]
        groups = forwards(inputs, counts, self.tokens_per_forward)
        losses = []
        for group in groups:
            with engines.synchronised(self.accelerator, model, last=group is groups[-1]):
                own = {"micro_batches": group, "of": len(inputs)}
                losses.append(super().training_step(model, own, num_items_in_batch))
        return torch.stack(losses).sum()

    def losses_of(
        self, model: Any, batches: Sequence[Batch], *, quiet: bool = False
    ) -> tuple[list[Tensor], dict[Any, Scored], list[dict[str, Tensor]]]:
        """(sum of the method's parts, the student's views by "<micro-batch>/<name>", the parts) of micro-batches that
        go through the model together; logged and watched unless `quiet`."""
        student = score_views(outputs := model(together(batches, self.method.student_views)))
        ddp = isinstance(model, DistributedDataParallel)  # whose inside is whole, without a broadcast
        taught: dict[Any, Scored] = {}
        if self.teacher is not None:
            taught = self.teacher.score(together(batches, self.method.teacher_views), None if ddp else model)
        penalty = {}
        if self.sided is None and defines(self.method, "penalty"):
            weights = trained_view(self.student.model, self.initial)
            penalty = self.method.penalty(weights, self.step_info(batches[0]))
        all_parts = []
        for place, batch in enumerate(batches):
            views = one(student, place)
            parts = self.method.loss(relabelled(views, batch), one(taught, place), self.step_info(batch))
            sides = by_side(self.method, parts)
            all_parts.append({**parts, **penalty})
            if not quiet:
                if self.logs_now():
                    self.means.add(forget_nll(views))
                    if self.log_grad_norms and self.sided is None:
                        self.means.add(gradient_norms(sides, self.student))
                self.means.add({name: part.detach() for name, part in all_parts[-1].items()})
        losses = [torch.stack(list(parts.values())).sum() for parts in all_parts]
        if not quiet:
            self._watch(losses, all_parts)
        if ddp and self.method.hidden is not None:
            # DDP waits for a gradient of all that the outputs reach; hidden states leave the blocks above out
            reached = [output["logits"][..., 0].float().sum() for output in outputs.values()]
            losses[0] = losses[0] + 0.0 * torch.stack(reached).sum()
        return losses, student, all_parts

    def logs_now(self) -> bool:
        """Whether a log line follows this step."""
        return (self.state.global_step + 1) % self.args.logging_steps == 0

    def step_info(self, inputs: Batch) -> StepInfo:
        epochs = len(self.sampler.counts)
        return StepInfo(self.state.global_step, self.state.max_steps, inputs["epoch"], epochs, inputs["pass_name"])

    def _watch(self, losses: Sequence[Tensor], parts: Sequence[dict[str, Tensor]]) -> None:
        """Stops on the previous forward's bad loss: that flag has left the device before this one was queued."""
        self.check_finite()
        named = [{"loss": loss, **own} for loss, own in zip(losses, parts, strict=True)]
        values = [{name: value.detach() for name, value in own.items()} for own in named]
        finite = torch.isfinite(torch.stack([own["loss"] for own in values])).all()
        self._last = (self.state.global_step, Arrival(finite), values)

    def check_finite(self, weights: bool = False) -> None:
        """FloatingPointError if the last loss seen, or with `weights` a trained tensor, was NaN or infinite."""
        found = None
        if self._last is not None and not self._last[1]:
            bad = next(own for own in self._last[2] if not torch.isfinite(own["loss"]))
            values = ", ".join(f"{name}={value.item():.4g}" for name, value in bad.items())
            found = f"The loss is not finite at step {self._last[0] + 1} ({values})"
        elif weights and not all_finite(self.student):  # a finite loss can have a gradient that is not
            found = f"The weights are not finite after step {self.state.global_step}"
        if found is not None:
            last = newest_checkpoint(self.folder)
            kept = f"the last good checkpoint is {last}" if last else "no checkpoint had been written (save_steps)"
            raise FloatingPointError(f"{found}; {kept}. Lower lr or the forget weight.")

    # ---- data, logging ----------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """Our sampler is already this rank's share, so accelerate must not shard it again. It ends where training does:
        a run resumed from its last step would train one more."""
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.dataset, batch_sampler=Steps(self.sampler, self.args.max_steps, self.sampler.accumulation),
            collate_fn=StepItems(self.data_collator), num_workers=workers, persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def _prepare_input(self, data: Any) -> Any:
        """As it is: rows stay on the CPU; the forward moves what it lays out of them."""
        return data

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the parts since the last line, over all ranks, and the true epoch."""
        if "loss" in logs and (means := self.means.take(self.accelerator)):
            logs = {**logs, **{f"parts/{name}": round(value, 6) for name, value in means.items()}}
            if self._says_stop(logs, self.state.global_step):
                self.control.should_training_stop = True
        done = self.state.global_step * self.sampler.accumulation / max(1, len(self.sampler))
        self.state.epoch = min(1.0, done) * len(self.sampler.counts)
        super().log(logs, start_time)

    # ---- saving and resuming ----------------------------------------------------------------------------------------

    _staging = False

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / INCOMPLETE) if self._staging else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint appears by one rename, when all of it is there."""
        self.check_finite(weights=True)
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
        except WRITING as error:
            shutil.rmtree(self.folder / INCOMPLETE, ignore_errors=True)  # on a full disk its space is wanted
            raise OSError(not_written(self.folder, self.state.global_step, error)) from error
        finally:
            self._staging = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            seal(self.folder / INCOMPLETE / name, self.args.world_size)
            replace_folder(self.folder / INCOMPLETE / name, self.folder / name)
            (self.folder / INCOMPLETE).rmdir()
            keep_newest(self.folder, self.args.save_total_limit)  # the Trainer's own saw the staging folder only
        self.accelerator.wait_for_everyone()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Every process must call this: weights that lie in parts are gathered for the one that writes."""
        self._save(output_dir, gather_weights(self.accelerator, self.model_wrapped, self.student))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The inner model (or its adapter) in the form `from_pretrained` reads; no pickled arguments."""
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        self.student.model.save_pretrained(folder, state_dict=state_dict)
        if self.processor is not None:
            self.processor.save_pretrained(folder)
        if self.teacher is not None and self.teacher.cache is not None:
            self.teacher.cache.save(Path(str(folder)))

    def go_on_from(self, checkpoint: Path) -> None:
        """Before `train(resume_from_checkpoint=...)`: a run that `stop_when` had ended by then trains no further."""
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        last = state.log_history[-1] if state.log_history else {}
        if last.get("step") == state.global_step and self._says_stop(last, state.global_step):
            self.args.max_steps = state.global_step

    def restore(self, checkpoint: Path) -> None:
        """Weights and state of a checkpoint at which training has ended: nothing is trained any more."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))

    def _says_stop(self, logs: dict[str, float], step: int) -> bool:
        """Whether a log line is above `stop_when`; `stopped` then says so."""
        nll = logs.get("parts/forget_nll", 0.0)
        if self.stop_when is None or nll <= self.stop_when:
            return False
        self.stopped = f"mean forget NLL {nll:.3f} above stop_when={self.stop_when} at step {step}"
        return True

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_fsdp_enabled:
            engines.save_states(self, Path(output_dir))
        else:
            super()._save_optimizer_and_scheduler(output_dir)
        if self.sided is not None:
            self.sided.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.is_fsdp_enabled:
            engines.load_states(self, Path(checkpoint))
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.sided is not None:
            self.sided.load(Path(checkpoint))

    def train(self, resume_from_checkpoint: str | bool | None = None, *options: Any, **more: Any) -> Any:
        """Under FSDP a checkpoint's weights go in before they are cut up."""
        if isinstance(resume_from_checkpoint, str) and self.is_fsdp_enabled:
            load_weights(self.student.model, resume_from_checkpoint)
        return super().train(resume_from_checkpoint, *options, **more)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Puts a checkpoint's weights into the student, adapter or whole. With `model` it is cut up and has them
        already."""
        if self.teacher is not None and self.teacher.cache is not None:
            self.teacher.cache.load(Path(resume_from_checkpoint), self.args.device)
        if model is None:
            load_weights(self.student.model, resume_from_checkpoint)
