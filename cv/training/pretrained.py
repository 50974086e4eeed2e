"""The network that every model starts from: trained with AM-softmax on a set of celebrities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cv.data.batches import plan_batches, stack_plans
from cv.data.noted import noted_photos
from cv.data.photos import Photos
from cv.methods import face_method
from cv.network.enrolment import accuracy, enrolled, recognise
from cv.network.resnet import load_pretrained, weights_file
from cv.network.stack import NetworkSpec, Stack, new_network
from cv.network.weights import SINGLE, save_weights
from cv.settings import PretrainSettings
from cv.training.loop import train
from cv.training.models import on_device
from unlearn.atomic import write_json
from unlearn.runs.record import find_run, settings_hash


def pretrain(settings: PretrainSettings, device: str) -> Path:
    """Trains a recogniser of celebrities with AM-softmax; writes `model.safetensors` and `score.json`; returns the
    folder."""
    run = find_run(settings, kind="cv-pretrain", overwrite=settings.overwrite_dir)  # writes nothing yet
    photos = noted_photos(run, settings, [weights_file(settings.init)] if Path(settings.init).exists() else [])
    if photos is None:
        return run.folder
    known, strangers, training, valid = celebrity_split(photos, settings)
    spec = NetworkSpec(settings.architecture, len(known.identities), settings.margin)
    network = new_network(spec, settings.seed)
    if settings.init != "random":
        load_pretrained(network.backbone, settings.init)
    run.begin(main=True)
    stack, method = Stack(spec, [network.state_dict()], device), face_method("finetune")
    plan = plan_batches(
        method,
        {"retain": training},
        known.labels,
        epochs=settings.num_epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        model=0,
    )
    log = train(stack, method, on_device(known, device), stack_plans([plan], device), settings.optimisation())
    save_weights(run.folder / SINGLE, stack.network(0), spec, settings_hash(settings))
    write_json(
        run.folder / "score.json",
        {
            "people": len(known.identities),
            "valid_accuracy": _class_accuracy(stack, known, valid),
            "strangers": len(strangers.identities) if strangers else 0,
            "strangers_accuracy": _enrolled_accuracy(stack, strangers, settings),
            "train_loss": [epoch["retain"] for epoch in log],
        },
    )
    run.finish()
    return run.folder


def celebrity_split(photos: Photos, settings: PretrainSettings) -> tuple[Photos, Photos | None, Tensor, Tensor]:
    """(known people, strangers kept out or None, training rows, validation rows of the known), drawn by seed.

    Raises:
        ValueError: fewer than two people are left to train on, or strangers with too few photos to be enrolled.
    """
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(photos.identities))
    if len(order) - settings.test_persons < 2:
        raise ValueError(
            f"test_persons={settings.test_persons} leaves fewer than two of {len(order)} people to train on."
        )
    out = {photos.identities[i] for i in order[: settings.test_persons]}
    known = subset(photos, [name for name in photos.identities if name not in out])
    strangers = subset(photos, [name for name in photos.identities if name in out]) if out else None
    if strangers:
        strangers.check_enrolment(settings.num_enroll)
    shuffled = torch.from_numpy(rng.permutation(len(known.labels)))
    per_person = torch.bincount(known.labels)
    rank = enrolled(known.labels[shuffled], 1)  # one photo of everybody is always trained on
    wanted = min(int(settings.valid_share * len(shuffled)), len(shuffled) - len(per_person))
    valid = shuffled[~rank][:wanted]
    training = torch.cat([shuffled[rank], shuffled[~rank][wanted:]])
    return known, strangers, training, valid


def subset(photos: Photos, people: list[str]) -> Photos:
    """The photos of `people` alone, labels counted anew."""
    rows = photos.rows(people)
    place = torch.full((len(photos.identities),), -1)
    place[torch.tensor([photos.identities.index(name) for name in people])] = torch.arange(len(people))
    return Photos(photos.pixels[rows], place[photos.labels[rows]], tuple(people))


def _class_accuracy(stack: Stack, photos: Photos, rows: Tensor) -> float | None:
    """Percent of these photos whose largest logit is the right one."""
    if len(rows) == 0:
        return None
    logits = stack.logits(stack.embed(photos.pixels[rows].to(stack.device)))[0].cpu()
    return 100 * float((logits.argmax(1) == photos.labels[rows]).float().mean())


def _enrolled_accuracy(stack: Stack, strangers: Photos | None, settings: PretrainSettings) -> float | None:
    """Percent of the strangers' photos recognised by enrolment among strangers."""
    if strangers is None:
        return None
    correct, _ = recognise(
        stack.embed(strangers.pixels.to(stack.device))[0].cpu(), strangers.labels, settings.num_enroll
    )
    return 100 * accuracy(correct, torch.arange(len(correct)), enrolled(strangers.labels, settings.num_enroll))
