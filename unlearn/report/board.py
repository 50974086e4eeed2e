"""What the page is made of: leaderboard rows that share a gold model, and what is left of their eval logs on disk."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.comparable import check_asked_alike
from unlearn.leaderboard.entries import by_gold, gold_of, keys_of
from unlearn.leaderboard.file import role_of
from unlearn.leaderboard.identity import contents
from unlearn.leaderboard.privacy import curve, twins
from unlearn.leaderboard.redact import redacted
from unlearn.leaderboard.scores import Facts, Scores, Units, known_rows, reference_losses, score_log, units_of
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.aggregates import Track
from unlearn.metrics.reference import reference_numbers
from unlearn.results import EvalLog, RowMeta, check_same_rows, read_log, require_tasks

logger = logging.getLogger(__name__)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the page needs of one eval log. `generations`: task name -> row id -> text; `cost`: task name -> facts;
    `membership`: label of a forget task -> losses (forget [F], holdout [H]), where the log has a holdout."""

    path: Path
    scores: Scores
    generations: dict[str, dict[str, str]]
    cost: dict[str, dict[str, Any]]
    run: Mapping[str, Any]  # eval_meta.json's `run`
    membership: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One model on the page. `role`: gold, base or model; `row`: its leaderboard row (a short one for gold and base);
    `measured` is None where the log is gone or no longer fits, and `problem` says why."""

    label: str
    method: str
    role: str
    row: Row
    measured: Measured | None
    problem: str | None = None


@dataclass(frozen=True)
class Board:
    """The rows compared with one gold model, and all runs: gold and base first. `references`: row ids -> texts by
    task."""

    title: str
    track: Track
    rows: list[Row]
    runs: list[Run]
    facts: Facts = field(default_factory=dict)
    references: dict[str, dict[str, str]] = field(default_factory=dict)
    units: Units | None = None  # whose the items are; None where no log can be read
    anchor_numbers: dict[str, dict[str, float]] = field(default_factory=dict)  # role -> what the released scripts say

    @property
    def readable(self) -> list[Run]:
        """Runs whose log can be read."""
        return [run for run in self.runs if run.measured]

    def run_of(self, role: str) -> Run | None:
        """The readable gold or base."""
        return next((run for run in self.readable if run.role == role), None)

    def reference_rows(self) -> list[Row]:
        """The rows with the released scripts' numbers in place of the paper's, for `leaderboard_table.entries`."""
        return [
            {**row, **_only(row["reference"], self.track), "intervals": {}}
            | {role: {**row[role], **_only(self.anchor_numbers.get(role, {}), self.track), "intervals": {}}
               for role in ("gold", "base") if row.get(role)}
            for row in self.rows if row.get("reference")
        ]  # fmt: skip


def _only(numbers: Row, track: Track) -> dict[str, Any]:
    """Reference numbers with every number that they lack set to None, so that no paper number shows through."""
    return {
        **dict.fromkeys(keys_of(track)),
        **{name: value for name, value in numbers.items() if isinstance(value, (int, float))},
    }


def load_boards(rows: Iterable[Row], root: str | Path, *, redact: bool = False) -> list[Board]:
    """One board per gold model, in the order of the rows. Log paths in the rows start from `root`. `redact`: without
    texts and pictures."""
    groups = by_gold(rows)
    titles = [_title(group) for group in groups]
    again = Counter(titles)
    return [
        _load_board(title if again[title] == 1 else f"{title}, gold: {gold_of(group[0])}", group, Path(root), redact)
        for title, group in zip(titles, groups, strict=True)
    ]


def distinct_labels(rows: Sequence[Row]) -> list[str]:
    """A name for each row: its method, and as much of modality, seed, settings hash and place as tells it from the
    others."""
    labels = [str(row["method"]) for row in rows]
    for name in ("modality", "seed", "settings_hash", "contents", "place"):
        values = [place + 1 if name == "place" else row.get(name) for place, row in enumerate(rows)]
        found: dict[str, set[Any]] = {}
        for label, value in zip(labels, values, strict=True):
            found.setdefault(label, set()).add(value)
        labels = [
            label
            if len(found[label]) == 1 or value is None
            else f"{label} · {'seed ' if name == 'seed' else ''}{value}"
            for label, value in zip(labels, values, strict=True)
        ]
    return labels


def _title(rows: Sequence[Row]) -> str:
    parts = [rows[0]["track"]]
    for name in ("model_family", "forget_split"):
        parts += [str(value) for value in dict.fromkeys(row.get(name) for row in rows) if value][:2]
    return " · ".join(parts)


def _load_board(title: str, rows: list[Row], root: Path, redact: bool) -> Board:
    reader = _Reader(root, track_named(rows[0]["track"]), redact)
    paths = {
        role: next((path for row in rows if (path := (row.get("logs") or {}).get(role))), None)
        for role in ("gold", "base")
    }
    runs = []
    for role, path in paths.items():
        own_row = next((row for row in rows if role_of(row) == role), None)
        anchor = own_row or next((row[role] for row in rows if row.get(role)), None)
        if anchor or path:
            runs.append(reader.run(role, f"{role} ({anchor['method']})" if anchor else role, anchor or {}, path))
    own = [row for row in rows if role_of(row) == "method"]
    for label, row in zip(distinct_labels(own), own, strict=True):
        runs.append(reader.run("model", label, row, (row.get("logs") or {}).get("model")))
    units = units_of(reader.first, reader.track, reader.facts) if reader.first else None
    return Board(title, reader.track, rows, runs, reader.facts, reader.references, units, reader.numbers)


class _Reader:
    """Reads the logs of one board one by one, gold first, and keeps what all of them share."""

    def __init__(self, root: Path, track: Track, redact: bool) -> None:
        self.root, self.track, self.redact = root, track, redact
        self.first: EvalLog | None = None
        self.facts: dict[str, Mapping[str, RowMeta]] = {name: {} for name in track.task_names}
        self.references: dict[str, dict[str, str]] = {}
        self.numbers: dict[str, dict[str, float]] = {}

    def run(self, role: str, label: str, row: Row, path: str | None) -> Run:
        """A run, with its log if that is still there and still fits the others."""
        measured, problem = None, None
        try:
            measured = self._measure(role, path, row)
        except (ValueError, OSError) as error:
            logger.warning("%s is left out of parts of the report: %s", label, error)
            problem = str(error)
        return Run(label, str(row.get("method", label)), role, row, measured, problem)

    def _measure(self, role: str, path: str | None, row: Row) -> Measured:
        """ValueError where the log is missing, damaged, of other rows than the first log, or not the row's any more."""
        if not path:
            raise ValueError("its row names no log")
        log = read_log(self.root / path)
        log = redacted(log) if self.redact else log
        require_tasks(log, self.track.task_names)
        now = contents(log.meta["run"], self.track) if log.meta else None
        if role == "model" and now is not None and row.get("contents") not in (None, now):
            raise ValueError(f"{path} is another evaluation than the row's: the model or its data are others since")
        if self.first:
            check_same_rows(log, self.first, self.track.task_names)
            check_asked_alike(log, self.first, self.track.task_names)
        facts = known_rows([log] if self.first is None else [log, self.first], self.track)
        for name in self.track.task_names:
            self.facts[name] = self.facts[name] or facts[name]
        if self.first is None:
            self.first = log
            texts = {name: log.tasks[name]["generated_text"] for name in self.track.task_names}
            self.references = {name: {row: text[2] for row, text in rows.items()} for name, rows in texts.items()}
        if role != "model":
            gold = reference_losses(self.first, self.track)[self.track.forget.label]
            self.numbers[role] = reference_numbers(reference_losses(log, self.track), gold, self.track)
        return Measured(
            path=self.root / path,
            scores=score_log(log, self.track, self.facts, None),
            generations={
                name: {row: text[1] for row, text in log.tasks[name]["generated_text"].items()}
                for name in self.track.task_names
            },
            cost={name: _cost(log, name) for name in self.track.task_names},
            run=log.meta["run"] if log.meta else {},
            membership={
                task.label: losses for task, twin in twins(self.track) if (losses := curve(log, (task.name, twin)))
            },
        )


def _cost(log: EvalLog, name: str) -> dict[str, Any]:
    """Items, seconds, peak MiB and generated tokens of one task; None where eval_meta.json does not say."""
    facts = log.meta["tasks"].get(name) if log.meta else None
    return {
        "items": len(log.tasks[name]["avg_gt_loss"]),
        "seconds": facts["seconds"] if facts else None,
        "memory": facts["peak_memory_mb"] if facts else None,
        "tokens": sum(facts["generation_tokens"].values()) if facts else None,
    }
