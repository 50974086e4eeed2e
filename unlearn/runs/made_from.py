"""What a run was made from, beyond its settings: the content of its data, its start model and its word lists.

In run.json as `made_from`: {"data": {"forget": ..}, "start": {"weights": .., "processor": ..}, "word lists": {..}},
each a digest of content. It stands beside the settings hash, not in it: hashes of earlier runs keep their meaning.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.atomic import content_hash
from unlearn.contents import folder_stamp, stamp
from unlearn.models.hub import commit_of

MadeFrom = dict[str, dict[str, str]]
WORDS = {
    "data": "the {} data", "word lists": "the word list {}", "weights": "the weights of the start model",
    "processor": "the processor or chat template", "reference": "the weights of the reference model",
    "model": "the weights of the model", "plugins": "the plugin {}", "photos": "the photos", "splits": "the splits",
    "eco": "ECO or what its classifier learns from",
}  # fmt: skip


class Changed(ValueError):
    """What a folder holds was made from something else under the same settings; `overwrite` replaces it."""


def changed(before: Mapping[str, Any], now: MadeFrom) -> list[str]:
    """What of `now` was another thing before, in words; what was not noted then counts as the same."""
    words = []
    for group, parts in now.items():
        old = before.get(group) or {}
        for name, digest in parts.items():
            if old.get(name) not in (None, digest):
                words.append(WORDS.get(name, WORDS.get(group, "{}")).format(name))
    return words


def word_lists(lists: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A digest of each list of lines that is not empty."""
    return {name: content_hash(*lines) for name, lines in lists.items() if lines}


def data_stamp(path: str, revision: str | None = None) -> str | None:
    """Sizes and times of a dataset's folder, or the commit of a hub dataset; None where neither is known."""
    folder = next((place for place in (Path(path), ROOT / path) if place.is_dir()), None)
    return folder_stamp(folder) if folder else commit_of(f"{path}@{revision}" if revision else path, "dataset")


def stamps(settings: Any) -> dict[str, str | None]:
    """The stamp of each dataset that the settings name, by key (data_path, forget_data_path, ...)."""
    paths = {key: value for key, value in vars(settings).items() if key.endswith("data_path")}
    return {key: data_stamp(path, settings.data_revision) for key, path in paths.items()}


def picture_stamps(folders: Iterable[Path], data_paths: Iterable[str]) -> dict[str, str]:
    """The stamp of each folder of pictures that lies in none of the datasets' folders, whose stamps hold it already."""
    inside = [place.resolve() for path in data_paths for place in (Path(path), ROOT / path) if place.is_dir()]
    outside = {folder.resolve() for folder in folders}
    return {
        str(folder): folder_stamp(folder, deep=False)
        for folder in sorted(outside) if not any(folder.is_relative_to(place) for place in inside)
    }  # fmt: skip


def same_pictures(stamps: Mapping[str, str]) -> bool:
    """Whether folders of pictures look as they did."""
    return all(folder_stamp(folder, deep=False) == stamp for folder, stamp in stamps.items())


def untouched(record: Mapping[str, Any]) -> bool:
    """Whether all that a run has noted of its data, its start model and its pictures looks as it did then, by sizes and
    times. False for a run that noted nothing: it must be looked at."""
    seen, settings = record.get("seen") or {}, record.get("settings") or {}
    data = {key: data_stamp(settings[key], settings.get("data_revision")) for key in seen.get("data", {})}
    if None in data.values() or data != seen.get("data") or not same_pictures(seen.get("pictures", {})):
        return False
    return all(
        Path(file).is_file() and stamp(Path(file)) == list(entry[:3]) for file, entry in seen.get("files", {}).items()
    )


def local_folders(settings: Any) -> list[str]:
    """The keys of the settings whose path is a folder now: once that is gone, it may look like a hub id."""
    paths = {key: value for key, value in vars(settings).items() if key.endswith("_path") and isinstance(value, str)}
    return sorted(key for key, path in paths.items() if path and (Path(path).is_dir() or (ROOT / path).is_dir()))
