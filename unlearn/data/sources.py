"""Splits of a Hugging Face dataset, on disk or on the hub, with errors that say what is wrong before a model loads."""

import difflib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash
from unlearn.config.build import ALIASES
from unlearn.data.local import read_parts, splits_by_name
from unlearn.data.pictures import check_images, open_image, picture_column
from unlearn.data.texts import missing, same_text

__all__ = ["check_disjoint", "check_images", "load_split", "open_image", "row_hashes"]

logger = logging.getLogger(__name__)

PICTURES = frozenset({"images", "image_path", "image_file", "img", "picture", "pictures", "photo", "photos"})


def load_split(path: str, split: str, *, revision: str | None = None, columns: Sequence[str] = ()) -> Any:
    """The rows of one split of a dataset, as its files are now; images stay undecoded.

    What is called a split here is a configuration of the hub's datasets, of which the part `train` is taken, or the
    only part there is; for a dataset of one configuration also one of its parts; and in a folder without a README that
    names configurations the file or sub folder of that name (`local.splits_by_name`).

    Args:
        path: a folder, a file, or a hub id; `split`: e.g. "full"; `columns`: what the caller reads.
    Raises:
        ValueError: no such dataset or split, a missing column, or an empty split.
    """
    path = ALIASES.get(path, path)
    rows = raw_split(path, split, revision=revision)
    elsewhere = [] if "image" in rows.column_names else _picture_columns(rows)
    if elsewhere:
        raise ValueError(f"{path}, split {split}: its pictures are in column {elsewhere[0]!r}; call that column image.")
    if "image" in rows.column_names:
        local = Path(path).absolute() if Path(path).exists() else None
        rows = picture_column(rows, local.parent if local and local.is_file() else local, f"{path}, split {split}")
    absent = [column for column in columns if column not in rows.column_names]
    if absent:
        raise ValueError(
            f"{path}, split {split}: no column {absent[0]!r}; its columns are {', '.join(rows.column_names)}."
        )
    if len(rows) == 0:
        raise ValueError(f"{path}, split {split} is empty; check data_path, or rebuild the dataset.")
    return rows


def raw_split(path: str, split: str, *, revision: str | None = None) -> Any:
    """`load_split` without a word on what the columns hold: only that there is such a split. Pictures stay undecoded,
    those in lists too."""
    import datasets

    path = ALIASES.get(path, path)
    config, parts = _config_of(path, split, revision)
    try:
        if Path(path).exists():
            read = read_parts(Path(path), config, parts)
        else:
            read = datasets.load_dataset(path, config, revision=revision)
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:  # a file without rows gives this too
        reason = error.__cause__ or error
        hint = " JSON and CSV files must be UTF-8." if isinstance(reason, UnicodeError) or "JSON" in str(reason) else ""
        raise ValueError(
            f"{path}, split {split} is empty or damaged ({reason}); rebuild or fetch it again.{hint}"
        ) from error
    rows = read[_part(read, split, path)]
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            rows = rows.cast_column(name, datasets.List(datasets.Image(decode=False)))
    return rows


def _picture_columns(rows: Any) -> list[str]:
    """Columns that hold pictures, or say so: without a word their rows would be trained on as texts."""
    import datasets

    kinds = {name: getattr(feature, "feature", feature) for name, feature in rows.features.items()}
    return [name for name, kind in kinds.items() if isinstance(kind, datasets.Image) or name.lower() in PICTURES]


def _config_of(path: str, split: str, revision: str | None) -> tuple[str, Mapping[str, Any] | None]:
    """The configuration that holds `split`, and its files by part where no README lists them. ValueError lists what
    there is."""
    own = splits_by_name(Path(path)) if Path(path).exists() else None
    names = _config_names(path, revision) if own is None else list(own)
    if split in names:
        return split, own and own[split]
    parts: list[str] = []
    if len(names) == 1:
        parts = list(own[names[0]]) if own is not None else _part_names(path, names[0], revision)
        if split in (*parts, "default"):
            return names[0], own and own[names[0]]
    known = list(dict.fromkeys([*names, *(parts if names == ["default"] else ())]))
    near = difflib.get_close_matches(split, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{path} has no split {split!r}.{hint} It has: {', '.join(known)}.")


def _part_names(path: str, config: str, revision: str | None) -> list[str]:
    import datasets

    if Path(path).is_dir():
        return [str(part) for part in datasets.load_dataset_builder(path, config).config.data_files or ()]
    return [str(part) for part in datasets.get_dataset_split_names(path, config, revision=revision)]


def _part(parts: Mapping[str, Any], split: str, path: str) -> str:
    """The one asked for by name, else `train`, else the only one. ValueError lists several."""
    if (name := next((name for name in (split, "train") if name in parts), None)) is not None:
        return name
    if len(parts) > 1:
        raise ValueError(
            f"{path}, split {split} has the parts {', '.join(parts)} and none is called train; give each a "
            "configuration (or a file) of its own, or set the split to one of them where it is the only configuration."
        )
    return next(iter(parts))


def _config_names(path: str, revision: str | None) -> list[str]:
    import datasets

    if not Path(path).is_dir() and (path.count("/") != 1 or path.startswith((".", "/", "data/", "models/"))):
        raise ValueError(
            f"data_path={path} is neither a folder nor a hub id like owner/name. For the embedded benchmark run "
            "`python -m minibench.build` (it writes into data/)."
        )
    try:
        return list(datasets.get_dataset_config_names(path, revision=None if Path(path).is_dir() else revision))
    except (
        Exception
    ) as error:  # the hub client raises a different class for each of: offline, unknown, gated, no network
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", "") else ""
        raise ValueError(
            f"data_path={path} cannot be read{offline}: {type(error).__name__}: {error}\n"
            f"If it is a hub id, fetch it where there is a network with `hf download {path} --repo-type dataset`."
        ) from error


def row_hashes(rows: Any, columns: Sequence[str]) -> Iterator[str]:
    """The content hash of each row over `columns`, image bytes included. A column that a split lacks counts as empty,
    so that a row of forget10 (image, caption) is recognised in retain90+tofu (which has questions and answers too).
    Spelling does not count (`texts.same_text`)."""
    for row in _chosen(rows, columns):
        yield content_hash(*(_raw(row.get(column)) for column in columns))


def _chosen(rows: Any, columns: Sequence[str]) -> Any:
    return rows.select_columns([column for column in dict.fromkeys(columns) if column in rows.column_names])


def _digests(rows: Any, columns: Sequence[Any]) -> Iterator[set[str]]:
    """Of each row its hash over `columns`; or where these are several lists, one for each whose texts are all there."""
    if isinstance(columns[0], str):
        yield from ({digest} for digest in row_hashes(rows, columns))
        return
    for row in _chosen(rows, [column for kind in columns for column in kind]):
        held = [kind for kind in columns if not any(missing(row.get(name)) for name in kind if name != "image")]
        yield {content_hash(*(_raw(row.get(column)) for column in kind)) for kind in held}


def _raw(value: Any) -> str | bytes | None:
    if isinstance(value, dict):  # an undecoded image
        return value["bytes"] if value.get("bytes") else Path(value["path"]).read_bytes()
    return value if value is None else same_text(str(value))


def check_disjoint(
    forget: Any, retain: Any, columns: Sequence[str] | Sequence[Sequence[str]], names: tuple[str, str]
) -> None:
    """ValueError when forget and retain share rows, or a person of the `name` columns in two spellings.

    `columns` are those of a whole row, or a list of them for each kind of sample that a row may hold. Less than 1 % of
    the forget rows shared is a warning (the published data has two).
    """
    _check_people(forget, retain, names)
    kept = set().union(*_digests(retain, columns))
    shared = [index for index, digests in enumerate(_digests(forget, columns)) if digests & kept]
    if not shared:
        return
    message = f"{len(shared)} rows of {names[0]} are also in {names[1]} (first: row {shared[0]})"
    if len(shared) < 0.01 * len(forget):
        logger.warning("%s; under 1 %%, so the run goes on.", message)
        return
    raise ValueError(f"{message}: what is to be forgotten would be trained again. Choose a retain split without them.")


def _check_people(forget: Any, retain: Any, names: tuple[str, str]) -> None:
    """Two spellings of one person are a slip and an error; one spelling in both sets may be meant, and is told."""
    leaving, staying = _spellings(forget), _spellings(retain)
    both = sorted(leaving.keys() & staying.keys())
    for person in both:
        if len(found := sorted(leaving[person] | staying[person])) > 1:
            spelled = " and ".join(f"{name!r} ({ascii(name)[1:-1]})" for name in found)
            raise ValueError(
                f"One person of {names[0]} is also in {names[1]} and has two spellings in their name columns: "
                f"{spelled}. The person would be forgotten and trained again: write one spelling, and keep the rows "
                f"out of {names[1]}."
            )
    if both:
        count, some = len(both), next(iter(leaving[both[0]]))
        logger.warning("%d people of %s (%s, ...) are also in %s: what it holds of them is trained again.",
                       count, names[0], some, names[1])  # fmt: skip


def _spellings(rows: Any) -> dict[str, set[str]]:
    """Who the rows name, by what all spellings of a person share."""
    found: dict[str, set[str]] = {}
    for name in rows["name"] if "name" in rows.column_names else ():
        if not missing(name):
            found.setdefault(same_text(str(name)), set()).add(str(name))
    return found
