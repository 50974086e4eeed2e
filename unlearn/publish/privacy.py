"""What of a run may be known to others: no folder of this machine, and no split that is called after a person."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.models.hub import is_hub_id
from unlearn.registry import options_of
from unlearn.runs.identity import CHOOSES, NOT_IDENTITY

LOCAL, LOCAL_SPLIT = "(a local folder)", "(a local split)"
SPLITS = {"split": "data_path", "forget_split": "forget_data_path", "retain_split": "retain_data_path"}
PEOPLE = ("forget", "holdout", "exclude_people")  # settings that name people
# What goes along of run.json; the command line and the folders stay here.
PUBLIC = (
    "kind",
    "status",
    "settings_hash",
    "variant",
    "seed",
    "commit",
    "versions",
    "steps",
    "stopped",
    "best",
    "saved",
)


def public_record(
    record: Mapping[str, Any], public_paths: Collection[str] = (), *, redact: bool = True
) -> dict[str, Any]:
    """What may be known of a run: its settings that change results, without the folders of this machine and, with
    `redact`, with the number of people in place of their names."""
    settings = dict(record["settings"])
    chooses = CHOOSES if settings.get("keep_best") or settings.get("stop_early") else set()
    settings = {key: value for key, value in settings.items() if key not in NOT_IDENTITY - chooses}
    if method := settings.get("forget_loss"):
        settings["method_args"] = {method: options_of(method, settings["method_args"])}
    folders = set((record.get("seen") or {}).get("folders", ()))
    settings = {k: LOCAL if k in folders and v not in public_paths else v for k, v in settings.items()}
    settings = _without_folders(settings, public_paths)
    settings = _without_people(settings) if redact else settings
    for key, path in SPLITS.items():
        if settings.get(path) == LOCAL and isinstance(settings.get(key), str):
            settings[key] = plain_split(settings[key])
    facts = {key: record[key] for key in PUBLIC if key in record}
    return {**facts, "settings": settings, "exported": True}


def _without_people(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of names as their length; a text is a name, or a file of some."""

    def count(names: Any) -> Any:
        return f"({len(names)} people)" if isinstance(names, list) and names else LOCAL if names else names

    kept = {key: count(value) if key in PEOPLE else value for key, value in settings.items()}
    if isinstance(own := kept.get("own_data"), dict):
        kept["own_data"] = {key: count(value) if key in PEOPLE else value for key, value in own.items()}
    return kept


def private_splits(record: Mapping[str, Any], public_paths: Collection[str] = ()) -> set[str]:
    """The splits of one's own data that a run names: in a folder without a README they are names of files."""
    shown = public_record(record, public_paths)["settings"]
    return {record["settings"][key] for key, path in SPLITS.items() if shown.get(path) == LOCAL} - {None}


def plain_split(name: str) -> str:
    """As much of a split's name as is of benchmarks: `forget10` of forget10+her_letters, nothing of jane_doe."""
    known = re.match(r"(full|train|default|(forget|retain)\d*)(?![A-Za-z])", name)
    return known[0] if known else LOCAL_SPLIT


def _without_folders(value: Any, public_paths: Collection[str], key: str = "") -> Any:
    """Texts that are, or can be, paths of this machine as `LOCAL`: the last part of one may be a person's name. Models
    and datasets of the hub keep theirs, and `public_paths`."""
    if isinstance(value, dict):
        return {name: _without_folders(item, public_paths, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item, public_paths, key) for item in value]
    if not isinstance(value, str) or not value or value in public_paths:
        return value
    path = key.endswith(("path", "dir")) or "/" in value or Path(value).is_absolute()
    return LOCAL if path and (not is_hub_id(value) or Path(value).exists() or (ROOT / value).exists()) else value


def check_private(folder: Path, source: Path, settings: Mapping[str, Any], public_paths: Collection[str] = ()) -> None:
    """ValueError if a file to be published names a folder of this machine: the guard behind all of the above."""
    places = {str(place.resolve()) for place in (source, source.parent, ROOT, Path.home())}
    places = {place for place in places if place.count("/") > 1}  # "/root" or "/app" may be a word of a tokenizer
    paths = [value for key, value in settings.items() if key.endswith(("_path", "_dir")) and isinstance(value, str)]
    places |= {path for path in paths if "/" in path and _without_folders(path, public_paths, "path") == LOCAL}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".md", ".jinja", ".txt"):
            text = file.read_text("utf-8")
            if named := [place for place in places if place in text]:
                raise ValueError(
                    f"{file.name} would tell the world about {named[0]}; remove it from the run's files first."
                )
