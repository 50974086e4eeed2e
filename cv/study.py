"""The whole study in order: prepare, pretrain, finetune, forget by every method, score, attack, table, pictures."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cv.data.prepared import prepare
from cv.figures import logit_histograms, roc_curves
from cv.leaderboard import face_row
from cv.membership.run import run_attack, target_logits
from cv.membership.scores import score_models
from cv.methods import NAMES, face_method, from_outside
from cv.page import FACES
from cv.settings import (
    AttackSettings,
    FinetuneSettings,
    ForgetSettings,
    PrepareSettings,
    PretrainSettings,
    RunSettings,
    ScoreSettings,
    read,
)
from cv.training.fleet import Fleet
from cv.training.models import finetune_job, forget_job, train_models
from cv.training.pretrained import pretrain
from unlearn.leaderboard.file import board_lock, merge_rows
from unlearn.report.html import write_report
from unlearn.results import read_record
from unlearn.runs.made_from import Changed

logger = logging.getLogger(__name__)
Compose = Callable[[str, list[str]], Mapping[str, Any]]  # (script, Hydra overrides) -> its composed config


@dataclass
class Study:
    """What every stage needs: where the study lives, the machine, and how a script's config is composed."""

    settings: RunSettings
    fleet: Fleet
    compose: Compose

    def read(self, cls: type, script: str, overrides: Iterable[str], stage: str) -> Any:
        """Settings of a stage: the script's own config, then what the study needs, then `overrides.<stage>`."""
        extra = self.settings.overrides.get(stage) or []
        return read(cls, self.compose(script, [*overrides, *map(str, extra)]))[0]


def run_study(settings: RunSettings, fleet: Fleet, compose: Compose) -> list[dict[str, Any]]:
    """Runs or continues the study under `settings.root`; returns its leaderboard rows, original and retrain first.

    Raises:
        ValueError: a stage that cannot run, before any model trains where it can be known; several ranks (train with
            `accelerate launch cv/finetune.py` and `cv/forget.py` on them, then run this on one: it finds the models).
    """
    if fleet.world > 1:
        raise ValueError(
            "cv/run.py runs on one node; train there with `accelerate launch cv/finetune.py`, then run it alone."
        )
    study, root = Study(settings, fleet, compose), Path(settings.root)
    unknown = set(settings.overrides) - {
        "prepare",
        "pretrain",
        "finetune_models",
        "score",
        "attack",
        *NAMES,
        *from_outside(),
    }
    if unknown:
        raise ValueError(f"overrides.{min(unknown)}: there is no stage and no method of that name.")
    forgetting = {name: _forget_settings(study, name) for name in settings.methods}  # wrong options fail here
    splits, pretrained, original = f"splits={root}/splits", f"{root}/pretrained", f"{root}/original"
    dealing = study.read(PrepareSettings, "prepare", [f"save_dir={root}/splits"], "prepare")
    if settings.data_path is not None or settings.forget is not None:
        people = settings.forget if settings.forget is not None else dealing.forget
        dealing = dataclasses.replace(dealing, data_path=settings.data_path or dealing.data_path, forget=people)
    if dealing.models < 8:
        raise ValueError(
            f"models={dealing.models}: an attack needs two shadow models on each side, so a study has 8 or more."
        )
    _timed("prepare", lambda: prepare(dealing))
    start = study.read(PretrainSettings, "pretrain", [f"save_dir={pretrained}"], "pretrain")
    _say_who_is_pretrained_on(dealing, start)
    _timed("pretrain", lambda: pretrain(start, fleet.device))
    finetuning = study.read(
        FinetuneSettings, "finetune", [splits, f"model_path={pretrained}", f"save_dir={original}"], "finetune_models"
    )
    _timed("finetune_models", lambda: train_models(finetuning, finetune_job(finetuning), fleet))
    rows = [judged(study, "original", original)]
    for name, chosen in forgetting.items():
        _timed(name, lambda chosen=chosen: train_models(chosen, forget_job(chosen), fleet))  # type: ignore[misc]
        rows.append(judged(study, name, chosen.save_dir))
    draw(study, rows)
    board = Path(settings.leaderboard)
    with board_lock(board):  # the page shows the rows that the file has
        write_report(board.with_suffix(".html"), merge_rows(board, rows), root=board.parent, sections=[FACES])
    return rows


def judged(study: Study, method: str, folder: str) -> dict[str, Any]:
    """Scores and attacks the models in `folder`; its leaderboard row."""
    size, splits = study.settings.forget_size, f"splits={study.settings.root}/splits"
    common = [f"model_path={folder}", splits, f"forget_size='{size}'"]
    score = score_models(study.read(ScoreSettings, "score", common, "score"), study.fleet)
    attacks = [
        run_attack(study.read(AttackSettings, "attack", [*common, f"attack={name}"], "attack"))
        for name in ("ulira", "umia")
    ]
    record = read_record(Path(folder))
    assert record is not None, "trained folders have a run.json"
    place = os.path.relpath(study.settings.root, Path(study.settings.leaderboard).parent)
    return face_row(method, record, score, attacks, study=place, submitted_by=study.settings.submitted_by)


def draw(study: Study, rows: list[dict[str, Any]]) -> None:
    """`histograms.png` and `roc.png` under the study's root, where the report looks for them."""
    root = Path(study.settings.root)
    histograms, curves = {}, {}
    for row in rows:
        common = [f"model_path={row['model']}", f"splits={root}/splits", f"forget_size='{study.settings.forget_size}'"]
        histograms[row["method"]] = target_logits(study.read(AttackSettings, "attack", common, "attack"))
        curves[row["method"]] = _curve(Path(row["model"]))
    logit_histograms(histograms, root / "histograms.png")
    roc_curves(curves, root / "roc.png")


def _curve(folder: Path) -> tuple[list[float], list[float]]:
    fpr, tpr = json.loads((folder / "attack_ulira.json").read_text(encoding="utf-8"))["ulira"]["roc"]
    return fpr, tpr


def _say_who_is_pretrained_on(dealing: PrepareSettings, start: PretrainSettings) -> None:
    drawn = PretrainSettings().data_path
    if start.data_path == drawn and dealing.data_path != PrepareSettings().data_path:
        logger.warning(
            "the network is pretrained on drawn celebrities (%s), which says little about the photos in %s; name a "
            "folder of other people's photos: \"overrides.pretrain=['data_path=other_people']\"",
            drawn, dealing.data_path,
        )  # fmt: skip


def _forget_settings(study: Study, method: str) -> ForgetSettings:
    root = study.settings.root
    start = f"{root}/pretrained" if method == "retrain" else f"{root}/original"
    overrides = [f"method={method}", f"splits={root}/splits", f"model_path={start}", f"save_dir={root}/{method}"]
    settings = study.read(ForgetSettings, "forget", [*overrides, f"forget_size='{study.settings.forget_size}'"], method)
    face_method(settings.method, settings.options)
    return settings


def _timed(stage: str, work: Callable[[], object]) -> None:
    start = time.monotonic()
    try:
        work()
    except Changed as other:
        raise Changed(
            f"{other} Of a study: overrides.{stage}=['overwrite_dir=true'], so too for the stages after it, or another "
            "root."
        ) from other
    logger.info("%s: %.0f s", stage, time.monotonic() - start)
