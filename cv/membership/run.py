"""Running an attack on a folder of scored recognisers, and writing down how well it did."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cv.membership.attacks import POOL_BELOW, Sides, intervals, judge, roc_curve, split_roles, ulira, umia
from cv.membership.scores import read_logits
from cv.network.enrolment import enrolled
from cv.settings import AttackSettings
from cv.training.models import prepared
from unlearn.atomic import write_json

CURVE_POINTS = 200


def run_attack(settings: AttackSettings) -> dict[str, Any]:
    """Attacks the models under `model_path`; writes `attack_<name>.json` there and returns it.

    Raises:
        ValueError: no scores yet, or fewer than two shadow models on a side.
    """
    sides = load_sides(settings)
    if settings.attack == "ulira":
        scores = {"ulira": ulira(sides)}
    else:
        scores = {"logistic": umia(sides, "logistic"), "tree": umia(sides, "tree")}
    _, member = sides.all_targets()
    shadows = len(sides.shadows["A"])
    record: dict[str, Any] = {
        "attack": settings.attack,
        "forget_size": settings.forget_size,
        "targets": len(member),
        "shadows_per_side": shadows,
        "photos": member.shape[1],
        "people": len(np.unique(sides.people)),
        "include_enrolment": settings.include_enrolment,
        "variance": "pooled" if shadows < POOL_BELOW else "per photo",
    }
    for name, values in scores.items():
        ends = intervals(values, sides, draws=settings.draws, seed=settings.seed)
        curve = _thinned(*roc_curve(values.ravel(), member.ravel()))
        record[name] = asdict(judge(values, member)) | {"interval": ends, "roc": curve}
    write_json(Path(settings.model_path) / f"attack_{settings.attack}.json", record)
    return record


def load_sides(settings: AttackSettings) -> Sides:
    """The logits of the forget and holdout photos, by group and role; enrolment photos are left out unless asked
    for."""
    photos, splits = prepared(settings.splits)
    logits = read_logits(Path(settings.model_path), settings).double().numpy()
    first = splits[0]  # of group A: its forget people are A's, its holdout people B's
    group = dict.fromkeys(first.forget[settings.forget_size], "A") | dict.fromkeys(
        first.holdout[settings.forget_size], "B"
    )
    chosen = photos.rows(group)
    if not settings.include_enrolment:
        chosen = chosen[~enrolled(photos.labels, settings.num_enroll)[chosen]]
    people = np.array([photos.identities[label] for label in photos.labels[chosen].tolist()])
    roles = split_roles([split.group for split in splits])
    targets, shadows = (
        {side: logits[np.ix_(np.array(models), chosen.numpy())] for side, models in roles[role].items()}
        for role in ("targets", "shadows")
    )
    return Sides(targets, shadows, np.array([group[name] for name in people]), people)


def target_logits(settings: AttackSettings) -> dict[str, list[float]]:
    """The target models' logits of people they forgot and of people they never saw: what Figure 6 shows."""
    values, member = load_sides(settings).all_targets()
    return {"forget": values[member].tolist(), "holdout": values[~member].tolist()}


def _thinned(fpr: np.ndarray, tpr: np.ndarray) -> list[list[float]]:
    """At most CURVE_POINTS points of a ROC curve: enough to draw it."""
    kept = np.unique(np.linspace(0, len(fpr) - 1, min(len(fpr), CURVE_POINTS)).astype(int))
    return [fpr[kept].tolist(), tpr[kept].tolist()]
