"""The parts of a training run, in the order the pipeline calls them: build, train, transform, save, close."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from unlearn import method as contract
from unlearn.atomic import finite, write_text
from unlearn.checkpoints import newest_checkpoint, whole_folder
from unlearn.collator import Collator
from unlearn.families import Family, inner_model, load_model
from unlearn.lora import prepare_trainable
from unlearn.method import Method
from unlearn.options import compile_blocks, use_liger
from unlearn.runs import Run
from unlearn.settings import TrainSettings
from unlearn.step import StudentForward
from unlearn.teacher import Teacher
from unlearn.trainer import UnlearnTrainer
from unlearn.views import EpochSampler, ForgetRetainDataset, StepCollator


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def build_trainer(
    settings: TrainSettings, family: Family, start: str, method: Method, dataset: ForgetRetainDataset, collator: Collator
) -> UnlearnTrainer:
    """Model, adapter, teacher, sampler and Trainer, in that order: what can fail cheaply has been checked before."""
    from transformers import set_seed

    resume_point(settings)
    sampler = EpochSampler(
        dataset, batch_size=settings.batch_size, epochs=settings.num_epochs, seed=settings.seed,
        rank=int(os.environ.get("RANK", 0)), world_size=world_size(), passes=lambda epoch: contract.passes(method, epoch),
    )
    if len(sampler) == 0:
        raise ValueError(f"num_epochs={settings.num_epochs:g} leaves no step to train; raise it.")
    steps = math.ceil(len(sampler) / settings.gradient_accumulation_steps)
    steps = min(steps, settings.max_steps or steps)
    epoch_steps = max(1, round(sampler.counts[0] / settings.gradient_accumulation_steps))
    save_steps = epoch_steps if settings.save_steps is None else settings.save_steps
    args = training_arguments(settings, steps, min(steps, round(settings.warmup_epochs * epoch_steps)), save_steps=save_steps)
    set_seed(settings.seed)
    dtype = torch.bfloat16 if args.bf16 and settings.LoRA.r > 0 else torch.float32
    how: dict[str, Any] = {
        "dtype": dtype, "attn_implementation": settings.attn_implementation, "quantization": settings.quantization,
    }  # fmt: skip
    model = load_model(start, **how)
    if settings.liger:
        use_liger(model)
    model = prepare_trainable(model, settings.LoRA, freeze_vision=settings.freeze_vision_module, seed=settings.seed)
    student = StudentForward(model, method.hidden, default_layer=family.rmu_layer)
    reference = contract.reference_path(method)
    teacher = None
    if method.teacher_views:
        other = load_model(reference, **how) if reference else None
        teacher = Teacher.of(student, other, sums_only=contract.sums_only(method))
    if settings.compile:  # a frozen copy, made above, runs as it is
        compile_blocks(model)
    return UnlearnTrainer(
        student, args, method=method, dataset=dataset, collator=StepCollator(collator), sampler=sampler, teacher=teacher,
        processor=collator.processor, stop_when=getattr(settings, "stop_when", None),
        log_grad_norms=getattr(settings, "log_grad_norms", False),
    )


def training_arguments(settings: TrainSettings, steps: int, warmup: int, *, save_steps: int | None) -> TrainingArguments:
    """transformers' arguments for a run of `steps` optimiser steps: bf16 autocast on a GPU, fp32 on a CPU."""
    gpu = torch.cuda.is_available()
    checkpointing: dict[str, Any] = {}
    if settings.gradient_checkpointing:
        checkpointing = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return TrainingArguments(
        output_dir=settings.save_dir,
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.lr,
        weight_decay=settings.weight_decay,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=warmup,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optim,
        bf16=settings.precision == "bf16" or (settings.precision == "auto" and gpu),
        use_cpu=not gpu,
        dataloader_num_workers=settings.num_workers,
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
        ddp_find_unused_parameters=settings.LoRA.r == 0 or settings.LoRA.targets == "all",
        disable_tqdm=not sys.stderr.isatty(),
        **checkpointing,
    )


def resume_point(settings: TrainSettings) -> Path | None:
    """The checkpoint to go on from, or None. ValueError for one that was named and is not there."""
    wanted = settings.resume_from_checkpoint
    if isinstance(wanted, bool):
        return newest_checkpoint(Path(settings.save_dir)) if wanted else None
    if not (Path(wanted) / "trainer_state.json").is_file():
        raise ValueError(f"resume_from_checkpoint={wanted} is not a checkpoint folder (it has no trainer_state.json).")
    return Path(wanted)


def train(trainer: UnlearnTrainer, run: Run, settings: TrainSettings) -> None:
    """Trains, from the newest checkpoint if there is one and resuming is on."""
    checkpoint = resume_point(settings)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.check_finite(weights=True)


def apply_finalize(method: Method, student: StudentForward, original: Mapping[str, torch.Tensor]) -> None:
    """Lets the method transform the trained weights in place (SKU negates the task vector)."""
    if not contract.has_finalize(method):
        return
    trained = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    final = contract.finalize(method, original, {name: p.detach() for name, p in trained.items()})
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(final[name])


def save_trained(trainer: UnlearnTrainer, folder: Path, collator: Collator, *, merge: bool) -> None:
    """The model and its processor, file by file into `folder`, each file whole; `merge` folds the adapter in."""
    trainer.accelerator.wait_for_everyone()
    if not trainer.args.should_save:
        return
    model = trainer.student.model
    with whole_folder(folder / "model") as staging:
        if merge and hasattr(model, "merge_and_unload"):
            model = merged(model, staging / "adapter", torch.bfloat16 if trainer.args.bf16 else torch.float32)
        model.save_pretrained(staging)
        collator.processor.save_pretrained(staging)
    for file in sorted((folder / "model").iterdir(), key=lambda entry: entry.name == "config.json"):
        os.replace(file, folder / file.name)
    (folder / "model").rmdir()
    lines = [json.dumps(finite(entry)) + "\n" for entry in trainer.state.log_history]
    write_text(folder / "train_log.jsonl", "".join(lines))


def merged(model: Any, scratch: Path, dtype: torch.dtype) -> Any:
    """The model with its adapter folded in. Over a quantised base that would round the sum to 4 or 8 bits, so the base is
    loaded once more as it is, on the CPU, and the adapter (by way of `scratch`) folded into that."""
    if not getattr(inner_model(model), "is_quantized", False):
        return model.merge_and_unload()
    from peft import PeftModel

    model.save_pretrained(scratch)
    base = load_model(model.peft_config["default"].base_model_name_or_path, dtype=dtype)
    whole = PeftModel.from_pretrained(base, scratch).merge_and_unload()
    shutil.rmtree(scratch)
    return whole


def finish(run: Run, trainer: UnlearnTrainer) -> Path:
    """Notes what happened and closes the run."""
    facts: dict[str, Any] = {"steps": trainer.state.global_step, "log": "train_log.jsonl"}
    if torch.cuda.is_available():
        facts["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    if trainer.stopped:
        facts["stopped"] = trainer.stopped
    run.record.update(facts)
    trainer.accelerator.wait_for_everyone()
    run.finish()
    return run.folder
