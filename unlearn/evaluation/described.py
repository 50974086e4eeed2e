"""Who made a model, as the meta file of its evaluation says it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn.config.settings import EvalSettings
from unlearn.results import read_record
from unlearn.runs.record import git_commit, versions


def _made_by(made: Mapping[str, Any]) -> str:
    """The name of a forget run's method, with what goes around it; "" for another run."""
    return " + ".join([made["forget_loss"], *made.get("wrap", ())]) if "forget_loss" in made else ""


def describe_run(settings: EvalSettings, path: str) -> dict[str, Any]:
    """Who made the model: what eval_meta.json says about it, from the run.json beside the weights where there is
    one."""
    record = read_record(Path(path)) or {}
    made: Mapping[str, Any] = record.get("settings", {})
    method = _made_by(made) or made.get("split") or "pretrained"
    if settings.eco:
        method = " + ".join(filter(None, (_made_by(made), "eco")))
    return {
        "method": settings.method_name or method,
        "model": settings.model_path,
        "model_family": settings.model_family,
        "model_path": settings.model_path,
        "forget_split": made.get("forget_split"),
        "split": made.get("split"),
        "modality": made.get("modality"),
        "seed": made.get("seed"),
        "settings_hash": record.get("settings_hash"),
        "start": record.get("start"),
        "start_path": made.get("model_path"),
        "global_batch": record.get("batch", {}).get("global"),
        "variant": record.get("variant"),
        "submitted_by": settings.submitted_by,
        "quantization": settings.quantization,
        **({"eco": dataclasses.asdict(settings.eco)} if settings.eco else {}),
        "commit": git_commit(),
        "versions": versions(),
    }
