"""Whose row it is: the model, the run that made it, and what it was asked, as a leaderboard tells rows apart."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash
from unlearn.metrics.aggregates import Track
from unlearn.results import EvalLog

_RUN = (
    "model",
    "model_family",
    "forget_split",
    "modality",
    "seed",
    "settings_hash",
    "global_batch",
    "variant",
    "commit",
)


def identity(
    log: EvalLog, method: str | None, submitted_by: str | None, track: Track, relative_to: str | Path
) -> dict[str, Any]:
    """What identifies the model, from eval_meta.json; a foreign log goes by its folder."""
    run = log.meta["run"] if log.meta else {}
    facts = {name: _writable(run.get(name)) for name in _RUN}
    facts["model"] = facts["model"] or run.get("model_path") or relative(log, relative_to)
    return {
        "schema_version": 1,
        "method": _writable(str(method or run.get("method") or _folder_name(log))),
        "submitted_by": _writable(str(submitted_by or run.get("submitted_by") or "")),
        "track": track.name,
        **facts,
        "evaluation": _evaluation(run, track),
        "contents": contents(run, track),
    }


def contents(run: Mapping[str, Any], track: Track) -> str | None:
    """What the model's answers come from, as `<its weights>:<the data and the prompts>`, two short hashes of what
    eval_meta.json notes; None where it does not say."""
    made_from = run.get("made_from")
    if not isinstance(made_from, dict) or not isinstance(made_from.get("data"), dict):
        return None
    data = {task: made_from["data"].get(task) for task in track.task_names}
    asked = json.dumps([data, made_from.get("processor")], sort_keys=True)
    return ":".join(content_hash(part)[:8] for part in (json.dumps(made_from.get("model")), asked))


def _writable(value: Any) -> Any:
    """A text without half surrogate pairs, which are no UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _evaluation(run: Mapping[str, Any], track: Track) -> str | None:
    """What was asked and how, as a hash: the same model on shuffled images, fewer rows, in 4 bit or behind ECO has a
    row of its own."""
    if not isinstance(run.get("items"), dict):
        return None
    items = {task: run["items"].get(task) for task in track.task_names}
    how = [run.get("quantization"), run.get("max_new_tokens"), *([run["eco"]] if run.get("eco") else [])]
    return content_hash(json.dumps([items, *how], sort_keys=True))


def _folder_name(log: EvalLog) -> str:
    """`npo` for models/npo/eval_results/eval_log_aggregated.json, also under TOFU's eval_results/ds_size300."""
    if log.path is None:
        return "model"
    folder = log.path.resolve().parent
    for part in ("ds_size", "eval"):
        folder = folder.parent if folder.name.startswith(part) else folder
    return folder.name


def relative(log: EvalLog, folder: str | Path) -> str | None:
    return None if log.path is None else Path(os.path.relpath(log.path, folder)).as_posix()
