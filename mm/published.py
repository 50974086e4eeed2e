"""Published datasets as they lie on the hub or in a folder, before any benchmark has looked at them."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unlearn.data.sources import raw_split


def rows(path: str, split: str, revision: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of one configuration, pictures undecoded. ValueError for an unknown configuration or an empty one."""
    table = raw_split(path, split, revision=revision)
    for number in range(len(table)):
        yield table[number]


def folder(path: str, revision: str | None = None) -> Path:
    """The folder of a dataset that is no table: a local one, or the hub's, fetched whole.

    Raises ValueError where neither is there.
    """
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, repo_type="dataset", revision=revision))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"data_path={path} is neither a folder nor a dataset that can be fetched ({type(error).__name__}); where "
            f"there is a network, `hf download {path} --repo-type dataset` fetches it."
        ) from error


def nested(cell: Any, where: str) -> Any:
    """A cell that holds a structure: as it is, as JSON, or as the Python literal that a text of it was made from.

    ValueError that begins with `where` for a text that is neither.
    """
    if not isinstance(cell, str):
        return cell
    for read in (json.loads, ast.literal_eval):
        try:
            return read(cell)
        except (ValueError, SyntaxError, RecursionError):
            continue
    raise ValueError(f"{where} is {cell[:60]!r}, neither JSON nor a Python literal; mend the row.")


def picture(cell: Any, base: Path | None) -> bytes | Path | None:
    """The one picture of a cell (undecoded, a file name relative to `base`, or the first of a list), None without."""
    if isinstance(cell, (list, tuple)):
        cell = cell[0] if cell else None
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or isinstance(cell, bytes):
        return cell
    return (base or Path()) / str(cell)


def base_of(path: str) -> Path | None:
    """The folder that file names in a dataset's rows start from; None for one of the hub."""
    local = Path(path)
    return local if local.is_dir() else local.parent if local.is_file() else None
