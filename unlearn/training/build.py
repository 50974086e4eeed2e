"""The parts of a training run, in the order the pipeline calls them: build, train, transform, save, close."""

import difflib
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.training_args import OptimizerNames

from unlearn.config.settings import TrainSettings
from unlearn.data.collator import Collator
from unlearn.data.sampler import EpochSampler
from unlearn.data.views import ForgetRetainDataset, StepCollator
from unlearn.distributed.engines import CUT, check_launch, loads_in_parts, wanted_engine
from unlearn.distributed.processes import world_size
from unlearn.distributed.signals import Stop
from unlearn.method import Method
from unlearn.models import options
from unlearn.models.families import Family
from unlearn.models.features import keep_features
from unlearn.models.forward import StudentForward
from unlearn.models.loading import load_model
from unlearn.models.lora import prepare_trainable, trained_layers
from unlearn.models.start import Start
from unlearn.runs.checkpoints import drop_later, fault, newest_usable
from unlearn.runs.record import Run
from unlearn.training.teacher import Teacher
from unlearn.training.trainer import UnlearnTrainer
from unlearn.training.watch import Watch


def build_trainer(
    settings: TrainSettings,
    family: Family,
    start: Start,
    method: Method,
    dataset: ForgetRetainDataset,
    collator: Collator,
) -> UnlearnTrainer:
    """Model, adapter, teacher, sampler and Trainer, in that order: what can fail cheaply has been checked before."""
    from transformers import set_seed

    sampler = run_sampler(settings, method, dataset)
    accumulation = settings.accumulation(world_size())
    steps = math.ceil(len(sampler) / accumulation)
    steps = min(steps, settings.max_steps or steps)
    epoch_steps = max(1, round(sampler.counts[0] / accumulation))
    save_steps = epoch_steps if settings.save_steps is None else settings.save_steps
    args = training_arguments(
        settings, steps, min(steps, round(settings.warmup_epochs * epoch_steps)), save_steps=save_steps
    )
    set_seed(settings.seed)
    dtype = torch.bfloat16 if args.bf16 and settings.LoRA.r > 0 else torch.float32
    how: dict[str, Any] = {
        "dtype": dtype, "attn_implementation": settings.attn_implementation, "quantization": settings.quantization,
    }  # fmt: skip
    model = load_model(start, **how)
    compiled = options.wants_compile(settings.compile, steps)
    if options.wants_liger(settings.liger, model.config.model_type, compiled=compiled):
        options.use_liger(model)
    model = prepare_trainable(
        model, settings.LoRA, freeze_vision=settings.freeze_vision_module, seed=settings.seed,
        mlps_only=method.mlps_only,
    )  # fmt: skip
    options.use_fused_lora(model, settings.fused_lora)
    student = StudentForward(model, method.hidden, default_layer=family.rmu_layer)
    student.features = keep_features(model, settings.vision_features, in_parts=wanted_engine() in CUT)
    reference: str | Start | None = method.reference_path
    teacher = None
    if method.teacher_views:
        if reference is None and settings.LoRA.r == 0 and loads_in_parts():
            reference = start
        other = load_model(reference, **how) if reference else None
        teacher = Teacher.of(student, other, sums_only=method.teacher_sums_only)
    if settings.gradient_checkpointing == "mlp":  # a frozen copy, made above, runs as it is
        options.checkpoint_mlps(model)
    if compiled:
        options.compile_blocks(model)
    return UnlearnTrainer(
        student,
        args,
        method=method,
        dataset=dataset,
        collator=StepCollator(collator),
        sampler=sampler,
        teacher=teacher,
        processor=collator.processor,
        stop_when=getattr(settings, "stop_when", None),
        log_grad_norms=getattr(settings, "log_grad_norms", False),
        tokens_per_forward=settings.tokens_per_forward,
    )


def run_sampler(settings: TrainSettings, method: Method, dataset: ForgetRetainDataset) -> EpochSampler:
    """The order of the whole run on this rank. ValueError for a run without a step."""
    sampler = EpochSampler(
        dataset,
        batch_size=settings.batch_size,
        epochs=settings.num_epochs,
        seed=settings.seed,
        rank=int(os.environ.get("RANK", 0)),
        world_size=world_size(),
        passes=method.passes,
        accumulation=settings.accumulation(world_size()),
        alike=wanted_engine() in CUT,
    )
    if len(sampler) == 0:
        raise ValueError(f"num_epochs={settings.num_epochs:g} leaves no step to train; raise it.")
    return sampler


def training_arguments(
    settings: TrainSettings, steps: int, warmup: int, *, save_steps: int | None
) -> TrainingArguments:
    """transformers' arguments for a run of `steps` optimiser steps: bf16 autocast on a GPU, fp32 on a CPU."""
    gpu = torch.cuda.is_available()
    checkpointing: dict[str, Any] = {}
    if settings.gradient_checkpointing is True:
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return TrainingArguments(
        output_dir=settings.save_dir,
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.lr,
        weight_decay=settings.weight_decay,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=warmup,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optim,
        bf16=settings.precision == "bf16" or (settings.precision == "auto" and gpu),
        use_cpu=not gpu,
        dataloader_num_workers=(4 if gpu else 0) if settings.num_workers is None else settings.num_workers,
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,  # it would hide a NaN, and asks the GPU every micro-batch
        save_strategy="steps" if save_steps else "no",
        save_steps=save_steps or 500,
        save_total_limit=None if getattr(settings, "save_ckpts", False) else 1,
        report_to=settings.report_to,
        run_name=f"{Path(settings.save_dir).name}-{time.strftime('%m%d-%H%M')}",
        seed=settings.seed,
        remove_unused_columns=False,
        label_names=[],
        ddp_timeout=7200,  # seconds that the others wait while one merges and writes a large model
        ddp_find_unused_parameters=settings.LoRA.r == 0 or settings.LoRA.targets == "all",
        disable_tqdm=not sys.stderr.isatty(),
        **checkpointing,
    )


def resume_point(settings: TrainSettings) -> Path | None:
    """The checkpoint to go on from, or None.

    Raises:
        ValueError: one that was named and is not there, is damaged or was made by another number of processes.
    """
    wanted = settings.resume_from_checkpoint
    if wanted is False or (settings.overwrite_dir and wanted in (True, "auto")):
        return None
    if wanted is True or wanted == "auto":
        return newest_usable(Path(settings.save_dir), world_size())
    if wrong := fault(Path(wanted), world_size()):
        raise ValueError(f"resume_from_checkpoint={wanted} {wrong}.")
    return Path(wanted)


def check_training(settings: TrainSettings, start: Start) -> None:
    """ValueError for what can be refused before a record is written and a model loaded: weights in part, the checkpoint
    to go on from, the optimiser, the attention, a run without a step."""
    check_launch(gpu=torch.cuda.is_available())
    trained_layers(settings.LoRA, start.layers, mlps_only=False)
    start.check()
    resume_point(settings)
    known = [name.value for name in OptimizerNames]
    if settings.optim not in known:
        near = difflib.get_close_matches(settings.optim, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"optim={settings.optim!r} is no optimiser of transformers.{hint} Known: {', '.join(known)}.")
    if settings.num_epochs == 0:
        raise ValueError("num_epochs=0 leaves no step to train; raise it.")


class StopAtStep(TrainerCallback):
    """After the step in which a signal came: a checkpoint, and the end of training."""

    def __init__(self, stop: Stop) -> None:
        self.stop, self.stopped = stop, False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stop.asked():
            self.stopped = control.should_save = control.should_training_stop = True


@dataclass(frozen=True)
class Ending:
    """What a training ended with: the optimiser steps taken in all, and why it ended before its time, or None."""

    steps: int
    stopped: str | None = None


def train(trainer: UnlearnTrainer, settings: TrainSettings, stop: Stop, watch: Watch | None = None) -> Ending:
    """Trains, from the newest checkpoint if there is one and resuming is on; `watch` looks on.

    Raises SystemExit with the signal's code, after a checkpoint, when a signal came during training.
    """
    checkpoint = resume_point(settings)
    if checkpoint and watch is not None and (reason := watch.stopped_at(checkpoint)):
        trainer.restore(checkpoint)
        watch.on_train_end(trainer.args, trainer.state, trainer.control)
        return Ending(trainer.state.global_step, reason)
    trainer.accelerator.wait_for_everyone()  # all have chosen
    if trainer.args.should_save:
        drop_later(Path(settings.save_dir), checkpoint)
    if checkpoint:
        trainer.go_on_from(checkpoint)
    if watch is not None:
        trainer.add_callback(watch)
    at_step = StopAtStep(stop)
    trainer.add_callback(at_step)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if at_step.stopped:
        stop.exit()
    trainer.check_finite(weights=True)
    return Ending(trainer.state.global_step, trainer.stopped or (watch.stopped if watch is not None else None))


def finish(run: Run, trainer: UnlearnTrainer, ending: Ending) -> Path:
    """Notes what happened and closes the run."""
    facts: dict[str, Any] = {"steps": ending.steps, "log": "train_log.jsonl"}
    if torch.cuda.is_available():
        facts["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        facts["num_alloc_retries"] = torch.cuda.memory_stats().get("num_alloc_retries", 0)  # each a wait for the GPU
    if ending.stopped:
        facts["stopped"] = ending.stopped
    run.record.update(facts)
    trainer.accelerator.wait_for_everyone()
    run.finish()
    return run.folder
