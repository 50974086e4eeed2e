"""The face track: how its scripts are configured and what each does, said once. Its unit is a study of many models.

`cv/*.py` are these functions behind a command line; sweeps run the whole study (sweeps/tracks.py).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn import ROOT

FAMILY = "faces"  # what a sweep's folder is called where no preset names the network
MODALITIES = ("visual",)
SPLIT = "forget10"


def config(script: str) -> tuple[Path, str]:
    """(Hydra's folder, the name in it) of a script's config."""
    return ROOT / "config" / "cv", script


def settings(script: str, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """(settings, how the models are spread over the machine) of a script from its composed config.

    ValueError names a bad key.
    """
    from cv import settings as kinds

    classes: dict[str, type] = {
        "prepare": kinds.PrepareSettings, "pretrain": kinds.PretrainSettings, "finetune": kinds.FinetuneSettings,
        "forget": kinds.ForgetSettings, "score": kinds.ScoreSettings, "attack": kinds.AttackSettings,
        "run": kinds.RunSettings,
    }  # fmt: skip
    return kinds.read(classes[script], values)


def finetune(settings: tuple[Any, Any]) -> Path:
    """The folder of the finetuned models."""
    from cv.training.fleet import Fleet
    from cv.training.models import finetune_job, train_models

    own, compute = settings
    with Fleet(compute) as fleet:
        return Path(train_models(own, finetune_job(own), fleet))


def forget(settings: tuple[Any, Any]) -> Path:
    """The folder of the models that have forgotten."""
    from cv.training.fleet import Fleet
    from cv.training.models import forget_job, train_models

    own, compute = settings
    with Fleet(compute) as fleet:
        return Path(train_models(own, forget_job(own), fleet))


def evaluate(settings: tuple[Any, Any]) -> Mapping[str, Any]:
    """The models' accuracies: what `score.json` in their folder says."""
    from cv.membership.scores import score_models
    from cv.training.fleet import Fleet

    own, compute = settings
    with Fleet(compute) as fleet:
        return score_models(own, fleet)


def study(settings: tuple[Any, Any], compose: Callable[[str, list[str]], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs the whole study; its leaderboard rows. `compose`: (script, Hydra overrides) -> its composed config."""
    from cv.study import run_study
    from cv.training.fleet import Fleet

    own, compute = settings
    with Fleet(compute) as fleet:
        return run_study(own, fleet, compose)


def study_overrides(folder: Path, methods: Sequence[str] | None, split: str) -> tuple[str, ...]:
    """What makes `cv/run.py` a job of a sweep: its folder, its methods (None: all of them), its forget split."""
    chosen = () if methods is None else (f"methods=[{','.join(methods)}]",)
    return (
        *chosen, f"root='{folder}'", f"leaderboard='{folder}/cv_leaderboard.json'", f"forget_size='{split[-2:]}'",
    )  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The study's rows as plain text."""
    from cv.page import FACES
    from unlearn.leaderboard.table import text_table

    return text_table(rows, [FACES])
