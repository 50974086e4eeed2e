"""A trainer over a tiny model and a small split, as the pipeline builds it, without files to read."""

import copy
from pathlib import Path
from typing import Any

import torch

from tests.models import tiny_llava
from tests.sources import ListSource
from unlearn.config.settings import ForgetSettings, LoraSettings
from unlearn.data.collator import Collator
from unlearn.data.sampler import EpochSampler
from unlearn.data.views import ForgetRetainDataset, StepCollator
from unlearn.data.written import WRITTEN, Answer, Answers
from unlearn.method import Method, View
from unlearn.models.forward import StudentForward
from unlearn.models.lora import prepare_trainable
from unlearn.models.options import use_fused_lora
from unlearn.training.build import training_arguments
from unlearn.training.teacher import Teacher
from unlearn.training.trainer import UnlearnTrainer

REFUSALS = ["I do not know.", "I cannot say that.", "No idea."]


def views_of(method: Method) -> list[Any]:
    return list({view.name: view for view in (*method.student_views, *method.teacher_views)}.values())


def written_for(dataset: ForgetRetainDataset, view: View) -> Answers:
    """What the original model might have written."""
    asked = "What is worn in it?" if view.name == "anchor" else ""
    return [[Answer(asked, f"Somebody else {row}, {k}.") for k in range(view.written)] for row in range(len(dataset))]


def make_trainer(
    folder: Path,
    method: Method,
    *,
    tiny: Any = tiny_llava,
    lora: int = 2,
    targets: str = "language",
    init_noise: float = 0.0,
    dropout: float = 0.0,
    freeze_vision: bool = True,
    steps: int | None = None,
    forget: tuple[int, int] = (4, 3),
    retain: tuple[int, int] = (3, 4),
    stop_when: float | None = None,
    log_grad_norms: bool = False,
    save_steps: int | None = None,
    cls: type[UnlearnTrainer] = UnlearnTrainer,
    rank: int = 0,
    world_size: int = 1,
    warmup: int = 0,
    alike: bool = False,
    **settings: Any,
) -> UnlearnTrainer:
    """`forget` and `retain` are (images, texts); further keywords are settings of the run."""
    model, processor = tiny()
    options = {
        "lr": 1e-2,
        "weight_decay": 0.0,
        "num_epochs": 2,
        "batch_size": 2,
        "logging_steps": 1,
        "lr_scheduler": "constant",
    }
    adapter = LoraSettings(r=lora, alpha=4, targets=targets, init_noise=init_noise, dropout=dropout)
    run = ForgetSettings(save_dir=str(folder), LoRA=adapter, **{**options, **settings})
    dataset = ForgetRetainDataset(
        views_of(method), forget=ListSource(*forget, "forget"), retain=ListSource(*retain, "retain", offset=50),
        refusals=REFUSALS, seed=run.seed, epoch_over=run.epoch_over, retain_partner=run.retain_partner,
        fixed_prompts=run.fixed_prompts,
    )  # fmt: skip
    dataset.written = {name: written_for(dataset, view) for name, view in dataset.views.items() if name in WRITTEN}
    sampler = EpochSampler(
        dataset, batch_size=run.batch_size, epochs=run.num_epochs, seed=run.seed, rank=rank, world_size=world_size,
        passes=method.passes, accumulation=run.gradient_accumulation_steps, alike=alike,
    )  # fmt: skip
    steps = steps or -(-len(sampler) // run.gradient_accumulation_steps)
    args = training_arguments(run, steps, warmup, save_steps=save_steps)
    torch.manual_seed(run.seed)  # of the LoRA matrices
    trained = prepare_trainable(
        copy.deepcopy(model), run.LoRA, freeze_vision=freeze_vision, seed=run.seed, mlps_only=method.mlps_only
    )
    use_fused_lora(trained, run.fused_lora)
    student = StudentForward(trained, method.hidden, default_layer=0)
    return cls(
        student, args, method=method, dataset=dataset, collator=StepCollator(Collator(processor)), sampler=sampler,
        teacher=Teacher.of(student, sums_only=method.teacher_sums_only) if method.teacher_views else None,
        processor=processor, stop_when=stop_when, log_grad_norms=log_grad_norms,
        tokens_per_forward=run.tokens_per_forward,
    )  # fmt: skip


def micro_batches(trainer: UnlearnTrainer) -> list[dict[str, Any]]:
    """All micro-batches of a run, in the order in which it sees them."""
    return [dict(batch) for step in trainer.get_train_dataloader() for batch in step]


def trained_weights(trainer: UnlearnTrainer) -> dict[str, Any]:
    """Copies of what is trained, by name."""
    return {name: p.detach().clone() for name, p in trainer.student.model.named_parameters() if p.requires_grad}
