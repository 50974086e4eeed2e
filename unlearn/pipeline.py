"""The story of the project: finetune, forget, evaluate. Each reads top to bottom, for every modality."""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unlearn import method as contract
from unlearn.atomic import write_json
from unlearn.checkpoints import newest_checkpoint, whole_folder
from unlearn.collator import Collator
from unlearn.evaluation import EvalTask, evaluate_suite
from unlearn.families import Family, adapter_base, decoder_count, is_adapter, load_model, resolve_path
from unlearn.leaderboard import leaderboard_row
from unlearn.leaderboard_table import text_table
from unlearn.lora import prepare_trainable, snapshot
from unlearn.method import Method
from unlearn.processors import load_processor
from unlearn.registry import build_method, options_of
from unlearn.runs import Run, git_commit, read_record, start_run, versions
from unlearn.samples import SampleSource
from unlearn.settings import EvalSettings, FinetuneSettings, ForgetSettings, TrainSettings
from unlearn.step import StudentForward, check_layer
from unlearn.teacher import Teacher
from unlearn.trainer import UnlearnTrainer, training_arguments
from unlearn.views import EpochSampler, ForgetRetainDataset, StepCollator

logger = logging.getLogger(__name__)


def finetune(settings: FinetuneSettings, family: Family, load_source: Callable[[], SampleSource]) -> Path:
    """Trains the family's model on one split with the token mean of the answers' cross-entropy; saves it whole (merged).

    Returns the folder. A finished run of the same settings is left alone; an unfinished one goes on.
    """
    start = settings.model_path or family.hf_key
    run = start_run(settings, kind="finetune", overwrite=settings.overwrite_dir, main=is_main())
    if run.finished:
        return run.folder
    method = build_method("retain_ft")
    source = load_source()
    dataset = ForgetRetainDataset(
        method.student_views, forget=None, retain=source, seed=settings.seed, epoch_over="retain"
    )
    collator = load_collator(start, family, settings.max_length)
    trainer = build_trainer(settings, family, start, method, dataset, collator)
    train(trainer, run, settings)
    save_trained(trainer, run.folder, collator, merge=True)
    return finish(run, trainer)


def forget(
    settings: ForgetSettings,
    family: Family,
    load_sources: Callable[[], tuple[SampleSource, SampleSource]],
    refusals: Sequence[str],
) -> Path:
    """Unlearns the forget split with `forget_loss`; saves the adapter, or the whole model with `LoRA.r=0`. Returns the folder."""
    method = choose_method(settings)
    resolve_path(settings.model_path)
    layers = decoder_count(settings.model_path)
    check_layer(method.hidden, family.rmu_layer, layers)
    run = start_run(settings, kind="forget", overwrite=settings.overwrite_dir, main=is_main())
    if run.finished:
        return run.folder
    forget_source, retain_source = load_sources()
    dataset = ForgetRetainDataset(
        tuple({view.name: view for view in (*method.student_views, *method.teacher_views)}.values()),
        forget=forget_source, retain=retain_source, refusals=refusals, seed=settings.seed,
        epoch_over=settings.epoch_over, retain_partner=settings.retain_partner,
    )
    collator = load_collator(settings.model_path, family, settings.max_length)
    trainer = build_trainer(settings, family, settings.model_path, method, dataset, collator)
    original = snapshot(trainer.student.model) if contract.has_finalize(method) else {}
    train(trainer, run, settings)
    apply_finalize(method, trainer.student, original)
    if settings.save_model:
        save_trained(trainer, run.folder, collator, merge=False)
    return finish(run, trainer)


def evaluate(settings: EvalSettings, family: Family, load_tasks: Callable[[], list[EvalTask]]) -> Path:
    """Scores and generates over the tasks; writes the eval log and its meta file. Returns the aggregated log's path."""
    tasks = load_tasks()
    path = resolve_path(settings.model_path or family.hf_key)
    collator = load_collator(settings.processor_path or path, family, settings.max_length)
    gpu = torch.cuda.is_available()
    half = settings.precision == "bf16" or (settings.precision == "auto" and gpu)
    model = load_model(
        path, dtype=torch.bfloat16 if half else torch.float32, attn_implementation=settings.attn_implementation,
        quantization=settings.quantization,
    )
    if gpu and not settings.quantization:
        model = model.to(f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}")
    return evaluate_suite(
        model, collator, tasks, save_dir=settings.save_dir, batch_size=settings.batch_size,
        max_new_tokens=settings.generation.max_new_tokens, overwrite=settings.overwrite, run=describe_run(settings, path),
    )


def compare(settings: EvalSettings, log: Path) -> str | None:
    """The leaderboard row of a log against `retain_result`, saved beside the log and returned as a table; None without one."""
    if settings.retain_result is None:
        return None
    row = leaderboard_row(log, settings.retain_result, relative_to=log.parent)
    write_json(log.parent / "leaderboard_row.json", [row])
    return text_table([row])


# ---- the steps of the story -------------------------------------------------------------------------------------------


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return int(os.environ.get("RANK", 0)) == 0


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def choose_method(settings: ForgetSettings) -> Method:
    """The method of `forget_loss` with its options, its loss_beta and a weight norm if asked for; checked against LoRA."""
    from unlearn.methods.sparsity import check_norms, with_l1

    lora = settings.LoRA.r > 0
    options = options_of(settings.forget_loss, settings.method_args)
    method = build_method(settings.forget_loss, options, loss_beta=settings.loss_beta)
    check_norms(settings.l1_lambda, settings.l0_lambda, settings.l_norm_from, lora)
    if settings.l1_lambda:
        method = with_l1(method, settings.l1_lambda, settings.l_norm_from)
    contract.check_adapter(method, lora)
    return method


def load_collator(path: str, family: Family, max_length: int) -> Collator:
    """The processor saved with a model (for an adapter without one, its base model's), as a collator."""
    path = resolve_path(path)
    if is_adapter(path) and not (Path(path) / "tokenizer_config.json").is_file():
        path = adapter_base(path)
    processor = load_processor(path)
    if family.chat_template and getattr(processor, "chat_template", None) is None:
        processor.chat_template = family.chat_template
    return Collator(processor, max_length=max_length, tags=family.tags)


def build_trainer(
    settings: TrainSettings, family: Family, start: str, method: Method, dataset: ForgetRetainDataset, collator: Collator
) -> UnlearnTrainer:
    """Model, adapter, teacher, sampler and Trainer, in that order: what can fail cheaply has been checked before."""
    from transformers import set_seed

    sampler = EpochSampler(
        dataset, batch_size=settings.batch_size, epochs=settings.num_epochs, seed=settings.seed,
        rank=int(os.environ.get("RANK", 0)), world_size=world_size(), passes=lambda epoch: contract.passes(method, epoch),
    )
    steps = math.ceil(len(sampler) / settings.gradient_accumulation_steps)
    steps = min(steps, settings.max_steps or steps)
    epoch_steps = max(1, round(sampler.counts[0] / settings.gradient_accumulation_steps)) if sampler.counts else 1
    save_steps = epoch_steps if settings.save_steps is None else settings.save_steps
    args = training_arguments(settings, steps, min(steps, round(settings.warmup_epochs * epoch_steps)), save_steps=save_steps)
    set_seed(settings.seed)
    dtype = torch.bfloat16 if args.bf16 and settings.LoRA.r > 0 else torch.float32
    model = load_model(start, dtype=dtype, attn_implementation=settings.attn_implementation)
    model = prepare_trainable(model, settings.LoRA, freeze_vision=settings.freeze_vision_module, seed=settings.seed)
    student = StudentForward(model, method.hidden, default_layer=family.rmu_layer)
    reference = contract.reference_path(method)
    teacher = None
    if method.teacher_views:
        teacher = Teacher.of(student, load_model(reference, dtype=dtype) if reference else None)
    return UnlearnTrainer(
        student, args, method=method, dataset=dataset, collator=StepCollator(collator), sampler=sampler, teacher=teacher,
        processor=collator.processor, stop_when=getattr(settings, "stop_when", None),
        log_grad_norms=getattr(settings, "log_grad_norms", False),
    )


def train(trainer: UnlearnTrainer, run: Run, settings: TrainSettings) -> None:
    """Trains, from the newest checkpoint if there is one and resuming is on."""
    wanted = settings.resume_from_checkpoint
    checkpoint = newest_checkpoint(run.folder) if wanted is True else Path(wanted) if isinstance(wanted, str) else None
    if isinstance(wanted, str) and not (Path(wanted) / "trainer_state.json").is_file():
        raise ValueError(f"resume_from_checkpoint={wanted} is not a checkpoint folder (it has no trainer_state.json).")
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
    if merge and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    with whole_folder(folder / "model") as staging:
        model.save_pretrained(staging)
        collator.processor.save_pretrained(staging)
    for file in sorted((folder / "model").iterdir(), key=lambda entry: entry.name == "config.json"):
        os.replace(file, folder / file.name)
    (folder / "model").rmdir()
    with (folder / "train_log.jsonl").open("w", encoding="utf-8") as log:
        log.writelines(json.dumps(entry) + "\n" for entry in trainer.state.log_history)


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


def describe_run(settings: EvalSettings, path: str) -> dict[str, Any]:
    """Who made the model: what eval_meta.json says about it, from the run.json beside the weights where there is one."""
    record = read_record(Path(path)) or {}
    made: Mapping[str, Any] = record.get("settings", {})
    return {
        "method": settings.method_name or made.get("forget_loss") or made.get("split") or "pretrained",
        "model": settings.model_path, "model_family": settings.model_family, "model_path": settings.model_path,
        "forget_split": made.get("forget_split"), "split": made.get("split"), "modality": made.get("modality"),
        "seed": made.get("seed"), "settings_hash": record.get("settings_hash"), "submitted_by": settings.submitted_by,
        "quantization": settings.quantization, "commit": git_commit(), "versions": versions(),
    }
