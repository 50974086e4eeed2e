"""Whether two logs say something about one another: same track, same rows, asked in the same way, of the same base."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearn.leaderboard.tracks import track_of
from unlearn.metrics.aggregates import Track
from unlearn.results import EvalLog, RowMeta, check_same_rows, plain_text, require_tasks, some_rows

REMEDY = "Evaluate both models in the same way (data, split, images, generation.max_new_tokens)."
LIMIT = "generation limit (max_new_tokens)"
UNKNOWN = "unknown"
_BY_CONTENT = re.compile(r"thumbnails/[0-9a-f]{16}\.jpg")


def check_comparable(log: EvalLog, other: EvalLog, track: Track) -> list[str]:
    """What could not be compared because an eval_meta.json does not say it ("picture", ...).

    ValueError names what differs, where, and what it is in both logs.
    """
    if track_of(other.tasks, other.name) is not track:
        raise ValueError(
            f"{log.name} is an {track.name} evaluation and {other.name} is not: compare logs of one track."
        )
    require_tasks(log, track.task_names)
    require_tasks(other, track.task_names)
    check_same_rows(log, other, track.task_names)
    return check_asked_alike(log, other, track.task_names)


def check_asked_alike(log: EvalLog, other: EvalLog, names: Iterable[str]) -> list[str]:
    """Question, base answer and picture row by row, and how long a generation may be; see `check_comparable`.

    A model that was shown other pictures or cut short is no yardstick, although its rows have the same references.
    """
    limits = [log.meta["run"].get("max_new_tokens") if log.meta else None for log in (log, other)]
    unknown = [LIMIT] if None in limits else []
    if not unknown and limits[0] != limits[1]:
        raise ValueError(f"{log.name} and {other.name}: another {LIMIT}, {limits[0]} against {limits[1]}. {REMEDY}")
    for name in names:
        ours, theirs = _rows(log, name), _rows(other, name)
        for fact in ("question", "base answer", "picture"):
            pairs = {row: _pair(ours[row], theirs[row], fact) for row in ours if row in theirs}
            if not pairs or any(UNKNOWN in pair for pair in pairs.values()):
                unknown.append(fact)
            elif differ := [row for row, pair in pairs.items() if pair[0] != pair[1]]:
                one, two = (_shown(rows[differ[0]], fact) for rows in (ours, theirs))
                raise ValueError(
                    f"{log.name} and {other.name}, task {name}: another {fact} in rows {some_rows(differ)} "
                    f"(row {differ[0]}: {one} against {two}). {REMEDY}"
                )
    return list(dict.fromkeys(unknown))


def check_same_start(log: EvalLog, base: EvalLog) -> None:
    """ValueError if the model of `base` was trained anew, in its folder, after `log`'s model had started from it."""
    ours, theirs = (one.meta["run"] if one.meta else {} for one in (log, base))
    start, now = ours.get("start"), theirs.get("settings_hash")
    if start and now and start != now and _same_place(ours.get("start_path"), theirs.get("model_path")):
        raise ValueError(
            f"{log.name} is of a model that started from {ours['start_path']} as run {start} had made it, but "
            f"{base.name} is of another run there, {now}: the base was trained anew since. Make the old base again, or "
            "unlearn and evaluate again from the new one."
        )


def _rows(log: EvalLog, name: str) -> Mapping[str, RowMeta]:
    return log.meta["tasks"][name]["rows"] if log.meta and name in log.meta["tasks"] else {}


def _pair(ours: RowMeta, theirs: RowMeta, fact: str) -> tuple[Any, Any]:
    """What both rows say. An older meta knows a picture by its thumbnail alone, named by its content."""
    if fact != "picture":
        key = "question" if fact == "question" else "base_answer"
        return plain_text(ours[key]), plain_text(theirs[key])  # type: ignore[literal-required]
    if "picture" in ours and "picture" in theirs:
        return ours["picture"], theirs["picture"]
    names = ours["thumbnail"], theirs["thumbnail"]
    return names if all(name is None or _BY_CONTENT.fullmatch(name) for name in names) else (UNKNOWN, UNKNOWN)


def _shown(row: RowMeta, fact: str) -> str:
    if fact != "picture":
        return repr(row["question"] if fact == "question" else row["base_answer"])
    return f"{row.get('picture', '')} ({row['thumbnail']})".strip() if row["thumbnail"] else "none"


def _same_place(one: Any, other: Any) -> bool:
    return isinstance(one, str) and isinstance(other, str) and Path(one).resolve() == Path(other).resolve()
