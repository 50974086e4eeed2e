"""Evaluation tasks as a config says them: one mapping per task, or the published configs' parallel lists."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from unlearn.atomic import content_hash
from unlearn.config.build import ALIASES
from unlearn.config.settings import EvalSettings

KEYS = ("eval_task", "data_path", "split", "question", "answer", "base_answer", "wrong_answers")


def from_lists(lists: Mapping[str, Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """One tuple per task, in the order of `names`, from parallel lists; a text stands for a list that repeats it.

    ValueError for half of the lists, or lists of different lengths.
    """
    columns = {key: value for key, value in lists.items() if not isinstance(value, str)}
    lengths = {key: len(value) for key, value in columns.items()}
    if missing := [key for key in names if key not in lists]:
        raise ValueError(
            f"The task lists {', '.join(columns)} need {', '.join(missing)} beside them, of the same length."
        )
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ValueError(f"The task lists differ in length ({said}); give every task an entry in each.")
    count = max(lengths.values(), default=1)
    full = [[lists[key]] * count if isinstance(lists[key], str) else lists[key] for key in names]
    return list(zip(*full, strict=True))


def check_task(task: Mapping[str, Any], *, also: Sequence[str]) -> dict[str, Any]:
    """The task, if it has all of KEYS and beyond them only keys of `also`. ValueError that names the key otherwise.

    `wrong_answers: null` is said, not left out: a task that compares nothing.
    """
    known = (*KEYS, *also)
    for key in task:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise ValueError(f"Unknown key {key!r} in a task. {hint}")
    bare = "wrong_answers" in task and task["wrong_answers"] is None
    if missing := [key for key in KEYS if not task.get(key) and not (bare and key == "wrong_answers")]:
        raise ValueError(f"The task {task.get('eval_task', dict(task))} lacks {', '.join(missing)}.")
    return {**task, "data_path": ALIASES.get(task["data_path"], task["data_path"])}


def chosen_tasks(settings: EvalSettings) -> list[Mapping[str, Any]]:
    """The tasks of `eval_task_ids` in that order, all by default. ValueError for an id without a task."""
    ids = range(len(settings.tasks)) if settings.eval_task_ids is None else settings.eval_task_ids
    for number in ids:
        if not 0 <= number < len(settings.tasks):
            known = ", ".join(f"{i}: {task['eval_task']}" for i, task in enumerate(settings.tasks))
            raise ValueError(f"eval_task_ids has {number}, but the tasks are {known}.")
    return [settings.tasks[number] for number in ids]


def wrong_columns(task: Mapping[str, Any]) -> list[str]:
    """The column, or columns, that hold a task's wrong answers; none where they are null."""
    if task["wrong_answers"] is None:
        return []
    return [task["wrong_answers"]] if isinstance(task["wrong_answers"], str) else list(task["wrong_answers"])


def identity(task: Mapping[str, Any], settings: EvalSettings, places: Sequence[int]) -> str:
    """What tells two evaluations of different items apart: the task, the data's revision and the rows taken."""
    return content_hash(json.dumps([dict(task), settings.data_revision, list(places), settings.seed], sort_keys=True))
