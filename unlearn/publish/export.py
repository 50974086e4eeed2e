"""A run's folder as one that others can use: adapter or merged model, processor, model card, and a record without
private paths.

An adapter is of use to others only beside its base model. If that is a folder of this machine, the base's hub id is
needed (`base`), or the adapter is merged into it (`merge`).
"""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unlearn import ROOT
from unlearn.atomic import whole_folder, write_json, write_text
from unlearn.config.build import choice
from unlearn.models.families import load_family
from unlearn.models.hub import check_repo, is_hub_id, push, split_revision
from unlearn.models.loading import load_model
from unlearn.models.processors import load_processor
from unlearn.models.start import Start, is_adapter
from unlearn.publish.card import Card, model_card
from unlearn.publish.privacy import check_private, plain_split, private_splits, public_record
from unlearn.results import read_record
from unlearn.runs.record import check_start, known_digests

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json")


@dataclass(frozen=True)
class PublishSettings:
    """`publish.py`; the keys are explained in config/publish.yaml."""

    model_path: str = ""
    repo: str | None = None
    private: bool = False
    merge: bool = False
    precision: str = choice("auto", "bf16", "fp32")
    export: str | None = None
    base: str | None = None
    license: str | None = None
    public_paths: list[str] = field(default_factory=list)
    redact: bool = True
    plugins: list[str] = field(default_factory=list)  # the script loads them


def publish(settings: PublishSettings) -> tuple[Path, str | None]:
    """Builds the export folder and uploads it if there is a `repo`; returns (folder, address or None).

    Raises:
        ValueError: no finished run in `model_path`, an adapter whose base others cannot load, settings that contradict
            one another, an `export` folder that holds something else, or whatever the hub refuses. Nothing is left
            half-written.
    """
    if settings.repo is not None:
        check_repo(settings.repo)
    start = Start.of(settings.model_path)
    source = Path(start.path)
    record = finished_record(source)
    base = check_form(source, settings)
    start.check()
    check_start(start, known_digests(start.chain))
    folder = Path(settings.export) if settings.export else source / "export"
    check_export(folder)
    public = public_record(record, settings.public_paths, redact=settings.redact)
    with whole_folder(folder) as staging:
        write_weights(start, staging, settings, base)
        load_processor(start.processor).save_pretrained(staging)
        write_json(staging / "run.json", public)
        name = settings.repo or folder.absolute().name
        rows = rows_of(source, private_splits(record, settings.public_paths))
        card = Card(public, name, base or origin(source), rows, adapter=is_adapter(str(staging)),
                    merged=settings.merge, license=settings.license)  # fmt: skip
        write_text(staging / "README.md", model_card(card))
        names = sorted(file.name for file in staging.iterdir())
        write_json(staging / "run.json", {**public, "exported": names})
        try:
            check_private(staging, source, record["settings"], settings.public_paths)
        except ValueError:
            shutil.rmtree(staging)
            raise
    if settings.repo is None:
        return folder, None
    message = f"{public['settings'].get('forget_loss') or record['kind']}, settings {record['settings_hash']}"
    return folder, push(folder, settings.repo, private=settings.private, message=message)


def check_export(folder: Path) -> None:
    """ValueError unless `folder` is new, empty or an earlier export to which nothing was added: it will be replaced."""
    if not folder.exists():
        return
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else {folder.name}
    earlier = (read_record(folder) or {}).get("exported")
    made = there if earlier is True else set(earlier or ())  # exports of before named no files
    if other := sorted(there - made):
        raise ValueError(
            f"export={folder} holds something else than an earlier export ({other[0]}); choose another folder."
        )


def rows_of(source: Path, private: Collection[str]) -> list[dict[str, Any]]:
    """The leaderboard row that the evaluation left beside the model, if it did. `private`: splits that it may not name;
    where there are any, gold and base, which are called after theirs, are named by what is plain in it."""
    file = source / "eval_results" / "leaderboard_row.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.is_file() else []
    for row in rows if private else ():
        anchors = [row[role] for role in ("gold", "base") if row.get(role)]
        own = row.get("method") in private or row.get("role") in ("gold", "base")
        for named in [*anchors, *[row] * own]:
            named["method"] = plain_split(str(named["method"]))
    return rows


def finished_record(source: Path) -> dict[str, Any]:
    """run.json of a finished run whose weights are there, or ValueError."""
    record = read_record(source)
    if record is None:
        raise ValueError(
            f"model_path={source} has no run.json; only what mm/, nlp/ finetune or forget made can be published."
        )
    if record.get("status") != "finished":
        raise ValueError(f"model_path={source} holds an unfinished run; repeat its command to finish it first.")
    if not any(source.glob("*.safetensors")):
        raise ValueError(
            f"model_path={source} holds no weights (save_model=false?); run it again with save_model=true."
        )
    return record


def check_form(source: Path, settings: PublishSettings) -> str | None:
    """The base model's hub id to be named (`id@revision`), or None. ValueError where form and settings do not fit."""
    adapter = is_adapter(str(source))
    if settings.merge and not adapter:
        raise ValueError(f"merge=true, but {source} is a whole model already; leave merge=false.")
    if settings.precision != "auto" and not settings.merge:
        raise ValueError(
            f"precision={settings.precision} is that of a merged model; set merge=true, or leave precision=auto."
        )
    if settings.base is not None and not is_hub_id(settings.base):
        raise ValueError(f"base={settings.base!r} is no hub id; write user/name, or user/name@revision.")
    if settings.base is not None or not adapter or settings.merge:
        return settings.base
    config = json.loads((source / "adapter_config.json").read_text("utf-8"))
    named, revision = config["base_model_name_or_path"], config.get("revision")
    if not is_hub_id(named):
        raise ValueError(
            f"The adapter in {source} was trained on {named}, a folder that nobody else has. Publish that model "
            "and give its hub id (base=user/name), or publish the merged model (merge=true)."
        )
    return f"{named}@{revision}" if revision else named


def write_weights(start: Start, staging: Path, settings: PublishSettings, base: str | None) -> None:
    """The adapter with its base by hub id, the merged model, or the whole model as it is."""
    source = Path(start.path)
    if settings.merge:
        half = {"bf16": torch.bfloat16, "fp32": torch.float32}
        dtype = half[settings.precision] if settings.precision != "auto" else getattr(torch, start.dtype or "float32")
        load_model(start).to(dtype).save_pretrained(staging)  # merged in fp32, rounded once
        return
    if start.adapter:
        assert base is not None
        shutil.copyfile(source / "adapter_model.safetensors", staging / "adapter_model.safetensors")
        config = json.loads((source / "adapter_config.json").read_text("utf-8"))
        name, revision = split_revision(base)
        write_json(staging / "adapter_config.json", {**config, "base_model_name_or_path": name, "revision": revision})
        return
    for file in sorted({file for pattern in WEIGHTS for file in source.glob(pattern)}):
        shutil.copyfile(file, staging / file.name)


def origin(source: Path) -> str | None:
    """The hub id that a run of this project descends from, followed from run.json to run.json; None if it is not
    known."""
    seen: list[str] = []
    start: str | None = str(source)
    while start and start not in seen:
        seen.append(start)
        record = next((found for folder in (Path(start), ROOT / start) if (found := read_record(folder))), None)
        if record is None:
            return start if is_hub_id(start) else None
        settings: Mapping[str, Any] = record["settings"]
        start = settings.get("model_path") or load_family(settings["model_family"]).hf_key
    return None
