"""Splits of a Hugging Face dataset, on disk or on the hub, with errors that say what is wrong before a model loads."""

import difflib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash
from unlearn.config.build import ALIASES

logger = logging.getLogger(__name__)


def load_split(path: str, split: str, *, revision: str | None = None, columns: Sequence[str] = ()) -> Any:
    """The rows of one configuration of a dataset (its single split is always called `train`); images stay undecoded.

    Args:
        path: a folder, or a hub id; `split`: the configuration, e.g. "full"; `columns`: what the caller reads.
    Raises:
        ValueError: no such dataset or configuration, a missing column, or an empty split.
    """
    import datasets

    path = ALIASES.get(path, path)
    names = _config_names(path, revision)
    if split not in names:
        near = difflib.get_close_matches(split, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{path} has no split {split!r}.{hint} It has: {', '.join(names)}.")
    try:
        rows = datasets.load_dataset(path, split, split="train", revision=None if Path(path).is_dir() else revision)
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:  # a file without rows gives this too
        reason = error.__cause__ or error
        raise ValueError(f"{path}, split {split} is empty or damaged ({reason}); rebuild or fetch it again.") from error
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{path}, split {split}: no column {missing[0]!r}; its columns are {', '.join(rows.column_names)}."
        )
    if len(rows) == 0:
        raise ValueError(f"{path}, split {split} is empty; check data_path, or rebuild the dataset.")
    return rows


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


def open_image(cell: Any, row: str) -> Any:
    """The RGB picture of an undecoded image cell, or None for an empty one. ValueError names a row that cannot be
    opened."""
    from PIL import Image

    if cell is None:
        return None
    try:
        with Image.open(io.BytesIO(cell["bytes"]) if cell.get("bytes") else cell["path"]) as picture:
            return picture.convert("RGB")
    except Exception as error:  # PIL's many, as in check_images
        raise ValueError(f"The image of {row} cannot be opened ({error}); replace or remove that row.") from error


def check_images(rows: Any, name: str) -> None:
    """ValueError that names the first row whose image is broken: found before a model loads, not hours into a run."""
    from PIL import Image

    for index, cell in enumerate(rows["image"] if "image" in rows.column_names else []):
        if cell is None:
            continue
        try:
            with Image.open(io.BytesIO(cell["bytes"]) if cell.get("bytes") else cell["path"]) as picture:
                picture.verify()
        except (
            Exception
        ) as error:  # PIL raises SyntaxError, OSError, ValueError ... for the many ways a file can be broken
            raise ValueError(
                f"The image of row {index} of {name} is broken ({error}); replace or remove it."
            ) from error


def row_hashes(rows: Any, columns: Sequence[str]) -> Iterator[str]:
    """The content hash of each row over `columns`, image bytes included. A column that a split lacks counts as empty,
    so that a row of forget10 (image, caption) is recognised in retain90+tofu (which has questions and answers too)."""
    present = [column for column in columns if column in rows.column_names]
    for row in rows.select_columns(present):
        yield content_hash(*(_raw(row.get(column)) for column in columns))


def _raw(value: Any) -> str | bytes | None:
    if isinstance(value, dict):  # an undecoded image
        return value["bytes"] if value.get("bytes") else Path(value["path"]).read_bytes()
    return value if value is None else str(value)


def check_disjoint(forget: Any, retain: Any, columns: Sequence[str], names: tuple[str, str]) -> None:
    """ValueError when forget and retain share rows; under 1 % of the forget rows is a warning (the published data
    has two)."""
    kept = set(row_hashes(retain, columns))
    shared = [index for index, digest in enumerate(row_hashes(forget, columns)) if digest in kept]
    if not shared:
        return
    message = f"{len(shared)} rows of {names[0]} are also in {names[1]} (first: row {shared[0]})"
    if len(shared) < 0.01 * len(forget):
        logger.warning("%s; under 1 %%, so the run goes on.", message)
        return
    raise ValueError(f"{message}: what is to be forgotten would be trained again. Choose a retain split without them.")
