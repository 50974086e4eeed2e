"""A finished evaluation is recognised by what it was made from, before its model is loaded."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash
from unlearn.config.settings import EvalSettings
from unlearn.evaluation.suite import EvalTask, items_of
from unlearn.models.loading import adapter_base, is_adapter
from unlearn.results import AGGREGATE, read_meta

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model")  # of a model and its processor
RECORDS = ("run.json", "trainer_state.json")  # lie beside them and say nothing about an answer
CHANGES = ("processor_path", "max_length", "generation", "quantization", "precision", "attn_implementation")


def made_from(settings: EvalSettings, path: str) -> str | None:
    """What an evaluation's answers depend on beside its rows: the settings of the model's use, and name, size and time
    of its files, an adapter's base included. None for a model that is no folder here: it must be loaded to be known."""
    folders = [Path(path), *([Path(settings.processor_path)] if settings.processor_path else [])]
    while is_adapter(path):
        path = adapter_base(path)
        folders.append(Path(path))
    if not all(folder.is_dir() for folder in folders):
        return None
    values = dataclasses.asdict(settings)
    facts = [
        [str(file), file.stat().st_size, file.stat().st_mtime_ns]
        for folder in folders for pattern in FILES for file in sorted(folder.glob(pattern)) if file.name not in RECORDS
    ]  # fmt: skip
    return content_hash(json.dumps([{key: values[key] for key in CHANGES}, facts]))


def is_finished(folder: str | Path, tasks: Sequence[EvalTask], run: Mapping[str, Any]) -> bool:
    """Whether `folder` holds every one of the tasks on these rows, made from the same as `run` says."""
    folder = Path(folder)
    meta = read_meta(folder) if (folder / AGGREGATE).is_file() else None
    if meta is None or run["made_from"] is None or meta["run"].get("made_from") != run["made_from"]:
        return False
    return all(
        task.name in meta["tasks"]
        and meta["run"].get("items", {}).get(task.name) == items_of(task)
        and (folder / f"{task.name}.json").is_file()
        for task in tasks
    )
