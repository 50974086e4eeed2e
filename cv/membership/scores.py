"""Accuracy of a folder of recognisers on the people they forgot, never saw and kept, and the logits an attacker
sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cv.network.enrolment import accuracy, enrolled, recognise
from cv.network.stack import Stack
from cv.network.weights import check_weights, load_weights, model_file, read_header
from cv.settings import ScoreSettings
from cv.training.fleet import Fleet
from cv.training.models import prepared
from unlearn.atomic import replacing, write_json
from unlearn.metrics.intervals import interval

GROUPS = ("forget", "holdout", "retain")
EMBED_BATCH = 256


def score_models(settings: ScoreSettings, fleet: Fleet) -> dict[str, Any]:
    """Scores every model under `model_path`; writes `score.json` and `logits.safetensors` there and returns the former.

    Accuracies are percentages; `interval` is the 95 % interval of the mean over models and people, or null.

    Raises:
        ValueError: a missing or foreign checkpoint, or a person with too few photos to enrol.
    """
    photos, splits = prepared(settings.splits)
    photos.check_enrolment(settings.num_enroll)
    folder = Path(settings.model_path)
    for split in splits:
        check_weights(model_file(folder, split.model))
        made_by = (read_header(model_file(folder, split.model)) or {}).get("made_by", "")
        if made_by.split("/")[-1] != split.digest():
            raise ValueError(
                f"{model_file(folder, split.model)} was trained on another split than {settings.splits} has."
            )
    size = photos.pixels.shape[-1]
    groups = fleet.groups(
        range(len(splits)), lambda _: 0, lambda: 4 * 64 * EMBED_BATCH * size**2
    )  # a few maps of the stem
    enrolment = enrolled(photos.labels, settings.num_enroll)
    rows: dict[int, dict[str, Any]] = {}
    logits = torch.empty(len(splits), len(photos.labels))
    hits = torch.empty(len(splits), len(photos.labels), dtype=torch.bool)
    asked = {group: torch.zeros_like(hits) for group in GROUPS}
    for results in fleet.map(score_group, groups, settings):
        for model, correct, values in results:
            split = splits[model]
            people = {"forget": split.forget[settings.forget_size], "holdout": split.holdout[settings.forget_size],
                      "retain": split.retain(settings.forget_size)}  # fmt: skip
            shares = {group: 100 * accuracy(correct, photos.rows(names), enrolment) for group, names in people.items()}
            rows[model] = {"model": model, "group": split.group, **shares}
            logits[model], hits[model] = values, correct
            for group, names in people.items():
                asked[group][model, photos.rows(names)] = True
    record: dict[str, Any] = {"forget_size": settings.forget_size, "num_enroll": settings.num_enroll}
    record["identities"] = len(photos.identities)
    record["mean"] = {group: float(np.mean([rows[model][group] for model in rows])) for group in GROUPS}
    sides = [split.group for split in splits]
    record["interval"] = {
        group: accuracy_interval(hits.numpy(), (asked[group] & ~enrolment).numpy(), photos.labels.numpy(), sides)
        for group in GROUPS
    }
    record["models"] = [rows[model] for model in sorted(rows)]
    record["made_by"] = logits_key(folder, settings)
    _save_logits(folder, logits, record["made_by"])
    write_json(folder / "score.json", record)
    return record


def score_group(models: Sequence[int], device: str, settings: ScoreSettings) -> list[tuple[int, Tensor, Tensor]]:
    """(model, correct [N], logits [N]) for each of the models."""
    photos, _ = prepared(settings.splits)
    loaded = [load_weights(model_file(Path(settings.model_path), model)) for model in models]
    stack = Stack(loaded[0][1], [tensors for tensors, _ in loaded], device)
    embeddings = stack.embed(photos.pixels.to(device), batch_size=EMBED_BATCH).cpu()
    return [
        (model, *recognise(e, photos.labels, settings.num_enroll)) for model, e in zip(models, embeddings, strict=True)
    ]


def accuracy_interval(
    hits: NDArray[np.bool_], asked: NDArray[np.bool_], people: NDArray[np.int64], sides: Sequence[str]
) -> list[float] | None:
    """95 % interval in percent of the accuracy, a mean over models; None where a sample has fewer than four units.

    It leaves out each model and each person in turn, so it speaks of other models and of other people. The samples are
    the models of either group, and the people whom models of one group, of the other, or of both were asked about.

    Args:
        hits, asked: [models, photos] whether the person was recognised, and whether the photo counts for this model.
        people: [photos] the number of the photo's person; sides: [models] the model's group.
    """
    one_hot = np.eye(int(people.max()) + 1)[people]
    correct, counts = (hits & asked) @ one_hot, asked @ one_hot  # [models, people]
    with np.errstate(invalid="ignore"):
        models = correct.sum(1) / counts.sum(1)
        without_person = ((correct.sum(1, keepdims=True) - correct) / (counts.sum(1, keepdims=True) - counts)).mean(
            axis=0
        )
    without_model = (models.sum() - models) / (len(models) - 1)
    asked_by = [counts[np.array(sides) == side].sum(axis=0) > 0 for side in ("A", "B")]
    strata = [asked_by[0] & ~asked_by[1], asked_by[1] & ~asked_by[0], asked_by[0] & asked_by[1]]
    samples = [without_model[np.array(sides) == side] for side in ("A", "B")]
    samples += [without_person[stratum] for stratum in strata if stratum.any()]
    return interval(100 * float(models.mean()), [100 * sample for sample in samples], bounds=(0.0, 100.0))


def logits_key(folder: Path, settings: Any) -> str:
    """Identifies the checkpoints and the enrolment that logits come from."""
    headers = [read_header(file) or {} for file in sorted(folder.glob("[0-9]*.safetensors"))]
    return json.dumps([header.get("made_by") for header in headers] + [settings.num_enroll])


def read_logits(folder: Path, settings: Any) -> Tensor:
    """[models, photos] as `cv/score.py` left them. ValueError if it has not run on these models with this enrolment."""
    from safetensors import safe_open

    file = folder / "logits.safetensors"
    if not file.is_file():
        raise ValueError(f"{folder} holds no logits; run `python cv/score.py model_path={folder}` first.")
    with safe_open(file, framework="pt") as opened:
        if opened.metadata()["made_by"] != logits_key(folder, settings):
            raise ValueError(
                f"{file} is of other models or another num_enroll; run cv/score.py model_path={folder} again."
            )
        return opened.get_tensor("logits")


def _save_logits(folder: Path, logits: Tensor, key: str) -> None:
    from safetensors.torch import save_file

    with replacing(folder / "logits.safetensors") as temporary:
        save_file({"logits": logits}, temporary, {"made_by": key})
