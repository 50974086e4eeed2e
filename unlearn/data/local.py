"""Folders and files of the user's own as datasets: which splits they hold, and their rows as the files are now."""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash

KINDS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
NO_DATA = ("dataset_infos.json", "dataset_info.json", "state.json", "dataset_dict.json")
SEPARATORS = (";", "\t", "|")
Parts = Mapping[str, Mapping[str, Sequence[Path]]]  # split -> part ("train", ...) -> files


def splits_by_name(path: Path) -> Parts | None:
    """What a file, or a folder whose README names no configs, holds: a file `forget10.jsonl` and a sub folder
    `forget10/` are the split forget10, and files within a sub folder are its parts.

    None where `datasets` knows better (a README with configs, folders of pictures). ValueError for a file of another
    kind, or a split of several kinds.
    """
    if path.is_file():
        if path.suffix.lower() not in KINDS:
            raise ValueError(f"data_path={path} is a file of another kind than {', '.join(KINDS)}.")
        return {path.stem: {"train": [path]}}
    if card_names_configs(path) or any(path.glob("metadata.*")):
        return None
    found: dict[str, dict[str, list[Path]]] = {}
    for entry in sorted(path.iterdir()):
        if _is_data(entry):
            found.setdefault(_part(entry), {}).setdefault("train", []).append(entry)
        elif entry.is_dir() and not entry.name.startswith(".") and not any(entry.glob("metadata.*")):
            for file in filter(_is_data, sorted(entry.iterdir())):
                found.setdefault(entry.name, {}).setdefault(_part(file), []).append(file)
    for name, parts in found.items():
        if len({KINDS[file.suffix.lower()] for files in parts.values() for file in files}) > 1:
            raise ValueError(f"{path}: the split {name} has files of several kinds; keep those of one kind.")
    return found or None


def card_names_configs(path: Path) -> bool:
    """Whether the YAML at the top of the folder's README.md lists configs."""
    card = path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = re.match(r"---\r?\n(.*?)^---\s*$", text.removeprefix("\ufeff"), re.DOTALL | re.MULTILINE)
    return bool(head and re.search(r"^(configs|dataset_info)\s*:", head[1], re.MULTILINE))


def _is_data(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in KINDS and file.name[0] != "." and file.name not in NO_DATA


def _part(file: Path) -> str:
    """The name of a file without its kind and shard: `train` of train-00000-of-00002.parquet and of train-0.parquet."""
    return re.sub(r"-\d{5}-of-\d{5}$|(?<=^train)[-_]\d+$", "", file.stem)


def read_parts(path: Path, config: str, parts: Mapping[str, Sequence[Path]] | None) -> Mapping[str, Any]:
    """The rows of each part of a split, memory-mapped from a cache that belongs to the files as they are now.

    `datasets` keys the cache of a folder by its name and its README alone, so that it would go on serving the rows of
    a file that was replaced, or of another folder of this name. Here path, size, times and inode of every file are in
    the key: a change that keeps size and time of the content still moves the time of change (ctime). Nothing is read
    for it, and a folder of 630 MB costs what a few `stat` cost. Old rows stay in the cache until it is emptied.
    """
    import datasets
    from datasets.packaged_modules.csv.csv import CsvConfig

    if parts is None:
        how: dict[str, Any] = {"path": str(path), "name": config}
        given = datasets.load_dataset_builder(**how).config.data_files or {}
        files = [Path(file) for several in given.values() for file in several]
    else:
        files = [file for several in parts.values() for file in several]
        numbered = {
            f"part{number}": [glob.escape(str(file.absolute())) for file in several]
            for number, several in enumerate(parts.values())
        }
        how = {"path": KINDS[files[0].suffix.lower()], "data_files": numbered}  # `datasets` takes not every name
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "local" / _stamp([*files, path / "README.md"])
    builder = datasets.load_dataset_builder(**how, cache_dir=str(cache))
    if isinstance(builder.config, CsvConfig):
        _set_dialect(builder.config, files)
    builder.download_and_prepare(verification_mode="no_checks")  # a card's row counts are of the files it came with
    read = builder.as_dataset()
    return read if parts is None else {part: read[f"part{number}"] for number, part in enumerate(parts)}


def _stamp(files: Sequence[Path]) -> str:
    facts = []
    for file in files:
        if file.is_file():
            stat = file.stat()
            facts.append(f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}")
    return content_hash(*facts)


def _set_dialect(config: Any, files: Sequence[Path]) -> None:
    """UTF-16 by its mark; a separator other than the comma by a header without one."""
    with files[0].open("rb") as file:
        start = file.read(65536)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        config.encoding = "utf-16"
    header = start.decode(config.encoding or "utf-8", errors="replace").lstrip("\ufeff").split("\n", 1)[0]
    if config.sep == "," and "," not in header and (found := [mark for mark in SEPARATORS if mark in header]):
        config.sep = max(found, key=header.count)
