"""A finished evaluation is recognised by what it was made from, before its model is loaded."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash
from unlearn.config.settings import EvalSettings
from unlearn.contents import stamp
from unlearn.evaluation.suite import EvalTask, items_of
from unlearn.models.start import Start
from unlearn.results import AGGREGATE, EvalMeta, read_meta
from unlearn.runs.made_from import data_stamp, same_pictures
from unlearn.token_log import complete

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model")  # of a model and its processor
RECORDS = ("run.json", "trainer_state.json")  # lie beside them and say nothing about an answer
CHANGES = ("processor_path", "max_length", "generation", "quantization", "precision", "attn_implementation")


def seen(settings: EvalSettings, start: Start) -> str | None:
    """What an evaluation's answers depend on, by what can be seen without reading: the settings of the model's use, and
    sizes and times of the files of the model, an adapter's base, the processor and the data. None where one of these is
    no folder here and no commit of the hub's cache: it must be looked at to be known."""
    folders = [Path(path) for path in start.chain]
    folders += [Path(settings.processor_path)] if settings.processor_path else []
    data = {task["data_path"]: data_stamp(task["data_path"], settings.data_revision) for task in settings.tasks}
    if None in data.values() or not all(folder.is_dir() for folder in folders):
        return None
    values = dataclasses.asdict(settings)
    facts = [
        [str(file), *stamp(file)]
        for folder in folders for pattern in FILES for file in sorted(folder.glob(pattern)) if file.name not in RECORDS
    ]  # fmt: skip
    changes = {key: values[key] for key in CHANGES} | ({"eco": values["eco"]} if values["eco"] else {})
    return content_hash(json.dumps([changes, facts, data]))


def looks_the_same(meta: EvalMeta, now: str | None) -> bool:
    """Whether results were made from what is `seen` now, and from pictures elsewhere that look as they did."""
    same = now is not None and meta["run"].get("seen") == now
    return same and same_pictures(meta["run"].get("pictures", {}))


def is_finished(
    folder: str | Path, tasks: Sequence[EvalTask], run: Mapping[str, Any], *, token_scores: bool = False
) -> bool:
    """Whether `folder` holds every one of the tasks on these rows (with `token_scores`: theirs too), and was `seen` to
    be of the same as `run`."""
    folder = Path(folder)
    meta = read_meta(folder) if (folder / AGGREGATE).is_file() else None
    if meta is None or not looks_the_same(meta, run["seen"]):
        return False
    return all(
        task.name in meta["tasks"]
        and meta["run"].get("items", {}).get(task.name) == items_of(task)
        and complete(folder, task.name, token_scores)
        for task in tasks
    )
