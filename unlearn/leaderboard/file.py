"""The leaderboard on disk: a JSON list of rows (or a CSV by its name) into which rows are merged, one writer at a
time."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from unlearn.atomic import finite, read_json, write_json, write_text

KEY = ("method", "model", "forget_split", "modality", "seed", "settings_hash", "evaluation", "contents")
_ANCHOR_KEY = ("track", "model_family", "forget_split", "evaluation")  # one gold and one base for each
_TEXT = {*KEY, "role", "submitted_by", "track", "model_family", "variant", "commit", "log"} - {
    "seed"
}  # CSV cells that are no numbers
_SEPARATOR = "/"  # joins nested names in a CSV header: "reference/Prob. Retain"


def merge_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Adds `rows` to the leaderboard under `path`, in place of rows with the same role and KEY; returns all of it.

    There is one gold and one base for each evaluation: a new one takes the old one's place. A row of before rows said
    what they were made from (`contents`) is replaced once, by the first one that agrees in the rest of KEY.

    A lock file beside it and an atomic write: of two processes writing at once neither loses a row, and a reader never
    sees half a file. ValueError if what is there is not a leaderboard.
    """
    path = Path(path)
    with board_lock(path):
        merged: dict[tuple[str, ...], dict[str, Any]] = {}
        for row in [*read_rows(path), *rows]:
            key, before = _key(row), _key({**row, "contents": None})
            if key not in merged and before in merged:
                merged = {key if old == before else old: one for old, one in merged.items()}  # in its place
            merged[key] = dict(row)
        board = [finite(row) for row in merged.values()]
        if path.suffix == ".csv":
            write_text(path, _to_csv(board))
        else:
            write_json(path, board)
    return board


def board_lock(path: str | Path) -> FileLock:
    """One writer at a time for the leaderboard and what is drawn from it; the holder may take it again."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"), is_singleton=True)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a leaderboard file; none if there is no file yet."""
    path = Path(path)
    if not path.exists():
        return []
    remedy = "Choose another save_file, or move this one away."
    rows = _from_csv(path, remedy) if path.suffix == ".csv" else read_json(path, remedy)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "method" in row for row in rows):
        raise ValueError(f"{path}: not a leaderboard, which is a list of rows with a method each. {remedy}")
    return rows


def role_of(row: Mapping[str, Any]) -> str:
    """gold, base or method; where a row does not say that it is an anchor, its logs tell."""
    if row.get("role") in ("gold", "base"):
        return str(row["role"])
    logs = row.get("logs")
    logs = logs if isinstance(logs, Mapping) else {}
    return next((role for role in ("gold", "base") if logs.get("model") and logs.get(role) == logs["model"]), "method")


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    role = role_of(row)
    if role == "method":
        return (role, *(str(row.get(name)) for name in KEY))
    own = row.get("model") if row.get("evaluation") is None else None  # a foreign log does not say what was asked
    return (role, *(str(row.get(name)) for name in _ANCHOR_KEY), str(own))


def _to_csv(rows: list[dict[str, Any]]) -> str:
    """One column per number, nested names joined by '/', lists as JSON, null as an empty cell."""
    flat = [_flatten(row) for row in rows]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def _from_csv(path: Path, remedy: str) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}). {remedy}") from None
    rows = []
    for flat in csv.DictReader(io.StringIO(text, newline="")):
        row: dict[str, Any] = {}
        for name, cell in flat.items():
            *outer, last = name.split(_SEPARATOR)
            place = row
            for part in outer:
                if not isinstance(place.get(part), dict):  # null in one row may be numbers by name in another
                    place[part] = {}
                place = place[part]
            if not isinstance(place.get(last), dict):
                place[last] = _parse(name, cell)
        rows.append(row)
    return rows


def _flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    cells: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            cells |= _flatten(value, f"{prefix}{name}{_SEPARATOR}")
        else:
            cells[prefix + name] = "" if value is None else value if isinstance(value, str) else json.dumps(value)
    return cells


def _parse(name: str, cell: str) -> Any:
    """A cell as the value it was written from: names stay text even where they look like numbers."""
    *path, last = name.split(_SEPARATOR)
    last = last.lower().replace(" ", "_")  # the released nlp script writes Method and Submitted By
    if not cell:
        return "" if last == "submitted_by" else None
    if last in _TEXT or path == ["logs"]:
        return cell
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        return cell
