"""View: a heat map of what each model still knows about each person."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.aggregates import Task
from unlearn.metrics.columns import per_item
from unlearn.report.board import Board, Run
from unlearn.results import row_order

MAX_AUTHORS = 60  # lines of a heat map that can still be read


def authors(board: Board) -> dict[str, Any] | None:
    """Per task whose rows all have an author: the authors, and per metric their mean in each run; None without such
    a task."""
    runs = board.readable
    order = sorted(board.track.tasks, key=lambda task: not task.to_forget)  # what should be forgotten comes first
    tasks = [shown for task in order if (shown := _task(board, runs, task))]
    names = {column.name: column.meaning for column in per_item()}
    return {"runs": [run.label for run in runs], "tasks": tasks, "meanings": names} if tasks and runs else None


def means_by_author(values: NDArray[np.float64], people: list[str]) -> dict[str, float]:
    """The mean of `values` [N] over the items of each person, for `people` [N], the person of each item."""
    everyone = np.array(people)
    return {person: float(values[everyone == person].mean()) for person in dict.fromkeys(people)}


def _task(board: Board, runs: list[Run], task: Task) -> dict[str, Any] | None:
    people = _people(board.facts.get(task.name, {}))
    if len(set(people)) < 2:
        return None
    scores = [run.measured.scores for run in runs if run.measured]
    names = [column.name for column in per_item() if column.bounded]
    metrics = {
        name: [means_by_author(one.items[key], people) for one in scores]
        for name in sorted(names, key=lambda name: name != "ROUGE")  # what says most at a glance comes first
        if all((key := f"{name} {task.label}") in one.items for one in scores)
    }
    names = sorted(set(people))
    # With too many people, those on whom the runs differ most.
    differ = {name: float(np.ptp([column[name] for column in metrics["ROUGE"]])) for name in names}
    shown = sorted(sorted(names, key=lambda name: (-differ[name], name))[:MAX_AUTHORS])
    return {
        "label": task.label, "authors": shown, "total": len(names), "items": [people.count(name) for name in shown],
        "metrics": {name: [[round(column[author], 4) for column in columns] for author in shown]
                    for name, columns in metrics.items()},
    }  # fmt: skip


def _people(facts: Mapping[str, Any]) -> list[str]:
    """The author of every row in the order of `Scores.items`; empty unless every row has one."""
    people = [facts[row]["author"] for row in sorted(facts, key=row_order)]
    return people if None not in people else []
