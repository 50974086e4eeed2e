"""Training every model of a split folder: finetuning, retraining and unlearning differ only in their `Job`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cv.data.batches import Batch, plan_batches, stack_plans
from cv.data.noted import known_files
from cv.data.photos import FILE, Photos, read_photos
from cv.data.splits import Split, read_splits
from cv.methods import face_method, from_outside
from cv.network.stack import NetworkSpec, Stack, new_network
from cv.network.weights import SINGLE, check_weights, load_weights, model_file, read_header, save_weights
from cv.settings import FinetuneSettings, ForgetSettings, Optimisation
from cv.training.fleet import Fleet
from cv.training.loop import Faces, Teacher, step_loss, train
from unlearn.method import StepInfo
from unlearn.plugins import plugin_digests
from unlearn.runs.record import Run, find_run, settings_hash

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One kind of training for many models. `forget_size` None trains on everybody in the split."""

    method: str
    options: Mapping[str, Any]
    optimisation: Optimisation
    epochs: int
    batch_size: int
    oversample: int
    seed: int
    start: str
    fresh_head: bool
    splits: str
    forget_size: str | None
    folder: str
    run: str

    def start_file(self, model: int) -> Path:
        return Path(self.start) / SINGLE if self.fresh_head else model_file(Path(self.start), model)


def finetune_job(settings: FinetuneSettings) -> Job:
    """The models before unlearning ("Original"): the pretrained network with a new head, on all people of the split."""
    return _job(settings, "finetune", {}, oversample=1, fresh_head=True, forget_size=None)


def forget_job(settings: ForgetSettings) -> Job:
    """Unlearning from the finetuned models; `retrain` is finetuning again, without the forget people."""
    return _job(
        settings,
        settings.method,
        settings.options,
        oversample=settings.oversample,
        fresh_head=settings.method == "retrain",
        forget_size=settings.forget_size,
    )


def train_models(settings: FinetuneSettings | ForgetSettings, job: Job, fleet: Fleet) -> Path:
    """Trains this rank's models that are not finished yet, and saves each as soon as it is; returns the folder.

    Raises:
        ValueError: wrong settings, a missing start checkpoint, bad splits, another run in the folder or one that was
            made from other photos, splits or start checkpoints, a diverged loss.
    """
    face_method(job.method, job.options)
    splits = prepared(job.splits)[1]
    for split in splits:
        check_weights(job.start_file(split.model))
    kind = f"cv-{job.method if job.forget_size else 'original'}"
    run = find_run(settings, kind=kind, overwrite=settings.overwrite_dir)  # writes nothing yet
    note_start(run, job, splits, main=fleet.rank == 0)
    if not run.finished:
        run.begin(main=fleet.rank == 0)
    fleet.wait()  # the main rank may just have removed what another run left here
    unfinished = [split.model for split in splits if settings.overwrite_dir or not is_finished(job, split)]
    mine = [model for model in fleet.mine(range(len(splits))) if model in unfinished]
    groups = fleet.groups(mine, lambda model: steps_of(job, model), lambda: memory_of(job, mine[0], fleet.device))
    for models, log in fleet.map(train_group, groups, job):
        logger.info("%s: model %s, loss %s", run.folder.name, ", ".join(map(str, models)), _last(log))
    if not any(not is_finished(job, split) for split in splits):
        run.main = True  # whoever sees the last model finished says so
        run.finish()
    return run.folder


def note_start(run: Run, job: Job, splits: Sequence[Split], *, main: bool) -> None:
    """Notes in the run what photos, splits and checkpoints hold. ValueError (`Changed`) where it was made from others.

    A file is read again only where its size or times differ from those noted."""
    digests, prepared_files = known_files(run), sorted(Path(job.splits).glob("split_*.json"))
    made_from = {
        "data": {"photos": digests.of([Path(job.splits) / FILE]), "splits": digests.of(prepared_files)},
        "start": {"weights": digests.of({job.start_file(split.model) for split in splits})},
    }
    if job.method in from_outside():
        made_from["plugins"] = plugin_digests()
    run.confirm(made_from, {"data": {}, "files": digests.seen}, main=main)


def train_group(models: Sequence[int], device: str, job: Job) -> tuple[list[int], list[dict[str, float]]]:
    """Trains models side by side and saves them; returns them with the epochs' mean losses."""
    photos, splits = prepared(job.splits)
    stack = start_stack(models, device, job)
    plan = stack_plans([plan_of(job, model) for model in models], device)
    log = train(stack, face_method(job.method, job.options), on_device(photos, device), plan, job.optimisation)
    for index, model in enumerate(models):
        save_weights(model_file(Path(job.folder), model), stack.network(index), stack.spec, made_by(job, splits[model]))
    return list(models), log


def start_stack(models: Sequence[int], device: str, job: Job) -> Stack:
    """The models as training finds them."""
    states, spec = [], None
    people = len(prepared(job.splits)[0].identities)
    for model in models:
        tensors, spec = load_weights(job.start_file(model))
        if job.fresh_head:
            spec = spec.with_classes(people)
            tensors = new_head(tensors, spec, seed=1000 * job.seed + model)
        elif spec.classes != people:
            raise ValueError(
                f"{job.start_file(model)} knows {spec.classes} people, the splits {people}; finetune on these first."
            )
        states.append(tensors)
    assert spec is not None, "a group has at least one model"
    return Stack(spec, states, device)


def new_head(tensors: Mapping[str, Tensor], spec: NetworkSpec, *, seed: int) -> dict[str, Tensor]:
    """The backbone of `tensors` under a new head for `spec.classes` people."""
    fresh = new_network(spec, seed).state_dict()
    return {name: fresh[name] if name.startswith("head.") else tensors[name] for name in fresh}


def plan_of(job: Job, model: int) -> list[Batch]:
    """The batches of one model."""
    photos, splits = prepared(job.splits)
    split = splits[model]
    kept = split.train if job.forget_size is None else split.retain(job.forget_size)
    rows = {"retain": photos.rows(kept)}
    if job.forget_size is not None:
        rows["forget"] = photos.rows(split.forget[job.forget_size])
    return plan_batches(
        face_method(job.method, job.options), rows, photos.labels, epochs=job.epochs, batch_size=job.batch_size,
        oversample=job.oversample, seed=job.seed, model=model,
    )  # fmt: skip


def steps_of(job: Job, model: int) -> tuple[StepInfo, ...]:
    """What two models must have in common to train side by side."""
    return tuple(batch.info for batch in plan_of(job, model))


def memory_of(job: Job, model: int, device: str) -> int:
    """Bytes that one more model of this job takes on a GPU, by taking one step with it."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    faces = on_device(prepared(job.splits)[0], device)
    shared = torch.cuda.memory_allocated(device) - before
    stack, plan = start_stack([model], device, job), stack_plans([plan_of(job, model)], device)
    method = face_method(job.method, job.options)
    teacher = Teacher(stack, faces, method) if method.teacher_views else None
    parts = step_loss(stack, method, faces, plan[0], teacher, job.optimisation.batchnorm)
    torch.stack(list(parts.values())).sum().backward()
    momentum = sum(tensor.numel() * tensor.element_size() for tensor in stack.parameters.values())
    return torch.cuda.max_memory_allocated(device) - before - shared + momentum


def on_device(photos: Photos, device: str) -> Faces:
    return Faces(photos.pixels.to(device), photos.labels.to(device))


@functools.lru_cache(maxsize=1)
def prepared(folder: str) -> tuple[Photos, list[Split]]:
    """Photos and splits of `cv/prepare.py`, read and checked once in each process."""
    photos = read_photos(Path(folder))
    return photos, read_splits(Path(folder), photos)


def made_by(job: Job, split: Split) -> str:
    return f"{job.run}/{split.digest()}"


def is_finished(job: Job, split: Split) -> bool:
    """Whether the model's checkpoint is there and of this very run and split."""
    header = read_header(model_file(Path(job.folder), split.model))
    return header is not None and header.get("made_by") == made_by(job, split)


def _job(
    settings: FinetuneSettings | ForgetSettings,
    method: str,
    options: Mapping[str, Any],
    *,
    oversample: int,
    fresh_head: bool,
    forget_size: str | None,
) -> Job:
    return Job(
        method, options, settings.optimisation(), settings.num_epochs, settings.batch_size, oversample, settings.seed,
        settings.model_path, fresh_head, settings.splits, forget_size, settings.save_dir, settings_hash(settings),
    )  # fmt: skip


def _last(log: Sequence[Mapping[str, float]]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in log[-1].items())
