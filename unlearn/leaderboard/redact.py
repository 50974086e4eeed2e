"""Eval logs without what they hold of people: ids and numbers stay, texts, names and pictures go (docs/privacy.md).

What is made of texts (ROUGE, BLEU, accuracy, refusals) is computed before and kept in the meta file under `kept`.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from unlearn.atomic import write_json
from unlearn.leaderboard.scores import answers_of, rows_of
from unlearn.leaderboard.tracks import tracks
from unlearn.metrics.aggregates import Task
from unlearn.metrics.columns import per_item
from unlearn.metrics.rouge import rouge_recall
from unlearn.results import (
    AGGREGATE,
    META_VERSION,
    EvalLog,
    EvalMeta,
    RowMeta,
    TaskLog,
    TaskMeta,
    read_log,
    write_aggregate,
    write_meta,
)


def is_redacted(log: EvalLog) -> bool:
    """Whether any of its tasks is."""
    return log.meta is not None and any("kept" in task for task in log.meta["tasks"].values())


def alike(*logs: EvalLog | None) -> list[EvalLog | None]:
    """The logs as they are, or all redacted where one of them is: texts can be compared with texts alone."""
    if not any(log is not None and is_redacted(log) for log in logs):
        return list(logs)
    return [None if log is None else redacted(log) for log in logs]


def redacted(log: EvalLog, refusals: Sequence[str] | None = None) -> EvalLog:
    """The log with ids and numbers only; people are numbered as they appear. `refusals`: the bank by which refusals are
    counted before the texts go; None leaves their rate out. A redacted log stays as it is."""
    known = {task.name: task for track in tracks() for task in (*track.beside, *track.tasks)}
    facts = log.meta["tasks"] if log.meta else {}
    people: dict[str, str] = {}
    tasks, metas = {}, {}
    for name, data in log.tasks.items():
        own = facts.get(name) or _meta(data)
        task = known.get(name, Task(name, name, ""))
        kept = own.get("kept") or _numbers(log, task, own, refusals)
        rows = {row: _row(own["rows"][row], people) for row in rows_of(data)}
        tasks[name] = _without_texts(data)
        metas[name] = cast(TaskMeta, {**own, "rows": rows, "kept": kept})
    run = log.meta["run"] if log.meta else {}
    return replace(log, tasks=tasks, meta=EvalMeta(schema_version=META_VERSION, run=run, tasks=metas))


def redact_folder(log: Path, refusals: Sequence[str] | None = None) -> None:
    """Redacts an evaluation where it lies; removes its thumbnails. The numbers are safe before the first text goes."""
    found, folder = redacted(read_log(log), refusals), log.parent
    assert found.meta is not None
    write_meta(folder, found.meta)
    for name, task in found.tasks.items():
        write_json(folder / f"{name}.json", task)
    assert log.name == AGGREGATE
    write_aggregate(folder, list(found.tasks))
    shutil.rmtree(folder / "thumbnails", ignore_errors=True)


def _numbers(log: EvalLog, task: Task, own: TaskMeta, refusals: Sequence[str] | None) -> dict[str, dict[str, float]]:
    """By column, by row: every number per item that is made of texts."""
    data = log.tasks[task.name]
    compared = "average_perturb_loss" in data
    rows = rows_of(data)
    answers = answers_of(log, task, own["rows"], refusals) if compared else None
    return {
        column.name: dict(zip(rows, map(float, column.per_item(answers)), strict=True))
        for column in per_item()
        if answers
        and column.texts
        and column.per_item
        and (column.needs is None or getattr(answers, column.needs) is not None)
    }


def _without_texts(data: TaskLog) -> TaskLog:
    texts = data["generated_text"]
    rows = list(texts)
    filled: dict[str, Any] = {}
    if not data.get("rougeL_recall") and any(any(text) for text in texts.values()):
        recalls = rouge_recall([texts[row][1] for row in rows], [texts[row][2] for row in rows], unicode=False)
        filled = {
            key: dict(zip(rows, map(float, recalls[key]), strict=True)) for key in ("rouge1_recall", "rougeL_recall")
        }
    return cast(TaskLog, {**data, **filled, "generated_text": {row: ["", "", ""] for row in rows}})


def _row(row: RowMeta, people: dict[str, str]) -> RowMeta:
    author = row["author"]
    number = None if author is None else people.setdefault(author, f"person {len(people) + 1}")
    flagged: dict[str, Any] = {"flagged": row["flagged"]} if "flagged" in row else {}
    return RowMeta(
        question="", answer="", base_answer="", wrong_answers=[""] * len(row["wrong_answers"]),
        wrong_equals_right=row["wrong_equals_right"], author=number, thumbnail=None, picture=None,
        **flagged,  # type: ignore[typeddict-item]
    )  # fmt: skip


def _meta(data: TaskLog) -> TaskMeta:
    """Of a log that has no meta file."""
    wrong = data.get("average_perturb_loss", {})
    rows = {
        row: RowMeta(question="", answer="", base_answer="", wrong_answers=[""] * len(wrong.get(row, ())),
                     wrong_equals_right=[False] * len(wrong.get(row, ())), author=None, thumbnail=None)
        for row in rows_of(data)
    }  # fmt: skip
    return TaskMeta(rows=rows, seconds=0.0, peak_memory_mb=None, generation_tokens={})
