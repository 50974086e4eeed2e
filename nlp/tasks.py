"""The four tasks of the text evaluation, from a readable list of mappings or from the published parallel lists."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nlp.tofu import load_rows
from unlearn.evaluation import EvalTask
from unlearn.measure import EvalItem
from unlearn.settings import EvalSettings

# key of config/nlp/eval.yaml's `tasks` -> the published list that holds it, task by task
LISTS = {
    "eval_task": "eval_task", "split": "split_list", "question": "question_key", "answer": "answer_key",
    "base_answer": "base_answer_key", "wrong_answers": "perturbed_answer_key",
}  # fmt: skip
NEEDED = ("eval_task", "data_path", "split", "base_answer", "wrong_answers")
OPTIONAL = {"question": "question", "answer": "answer", "author": "name", "rows_per_author": None}
# published keys without a meaning here: accepted at the published value
INERT = {
    "use_pretrained": (False, "set model_path to the family's hub id to evaluate the model before finetuning"),
    "max_length": (200, "answers are never cut; generation.max_new_tokens bounds what is generated"),
}


def eval_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat keys of config/nlp/eval.yaml, or of the published eval_everything.yaml, as those of EvalSettings.

    The published lists, where set, define the tasks; else `tasks` does, and `data_path` serves every task without one.
    Raises ValueError: lists of different length, a missing or unknown key of a task, an inert key that asks for something.
    """
    values = {key: value for key, value in config.items() if key not in ("split", "rows_per_author")}
    path = values.pop("data_path", None)
    lists = {key: values.pop(name, None) for key, name in LISTS.items()}
    tasks = values.pop("tasks", None) or []
    if any(given is not None for given in lists.values()):
        tasks = _from_lists({**lists, "data_path": path})
    values["tasks"] = [_checked({"data_path": path, **task}) for task in tasks]
    values["generation"] = _without_inert(values.get("generation") or {}, "max_length", "generation.")
    return _without_inert(values, "use_pretrained")


def _from_lists(lists: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = {"data_path": "data_path", **LISTS}
    for key, given in lists.items():
        if not isinstance(given, list):
            raise ValueError(f"{names[key]}={given!r} must be a list with one entry a task, as the other lists are.")
    sizes = {names[key]: len(given) for key, given in lists.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"The lists that define the tasks differ in length: {sizes}; give one entry a task in each.")
    return [dict(zip(lists, entry, strict=True)) for entry in zip(*lists.values(), strict=True)]


def _checked(task: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in task if key not in (*NEEDED, *OPTIONAL)]
    missing = [key for key in NEEDED if not task.get(key)]
    if unknown or missing:
        what = f"unknown key {unknown[0]!r}" if unknown else f"no {missing[0]}"
        raise ValueError(f"tasks: {what} in {dict(task)}; a task has {', '.join((*NEEDED, *OPTIONAL))}.")
    return {**OPTIONAL, **task}


def _without_inert(values: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    published, why = INERT[key]
    if values.get(key, published) != published:
        raise ValueError(f"{where}{key}={values[key]!r} has no effect here ({why}); remove it or set it to {published}.")
    return {name: value for name, value in values.items() if name != key}


def load_tasks(settings: EvalSettings) -> list[EvalTask]:
    """The tasks of `settings.tasks`, those of `eval_task_ids` if given; every dataset is read and checked here."""
    ids = range(len(settings.tasks)) if settings.eval_task_ids is None else settings.eval_task_ids
    beyond = [index for index in ids if not 0 <= index < len(settings.tasks)]
    if beyond:
        names = ", ".join(f"{index}: {task['eval_task']}" for index, task in enumerate(settings.tasks))
        raise ValueError(f"eval_task_ids: there is no task {beyond[0]}; there are {names}.")
    return [build_task(settings.tasks[index], settings) for index in ids]


def build_task(task: Mapping[str, Any], settings: EvalSettings) -> EvalTask:
    """One task: its rows (`ds_size` of them: the first, or seeded ones) as items. ValueError names what a row lacks.

    Rows keep their number in the dataset as id, whatever is left out. Authors come from a column or, where the rows of
    one author stand together as in TOFU, from `rows_per_author`; they are the unit of the bootstrap.
    """
    wrong = task["wrong_answers"]
    wrong = tuple([wrong] if isinstance(wrong, str) else wrong)
    columns = (task["question"], task["answer"], task["base_answer"], *wrong)
    rows = load_rows(task["data_path"], task["split"], settings.data_revision, columns)
    chosen = np.arange(len(rows))
    if settings.ds_size is not None and settings.ds_size < len(rows):
        if settings.selection == "random":
            chosen = np.random.default_rng(settings.seed).permutation(chosen)
        chosen = np.sort(chosen[: settings.ds_size])
    items = [_item(rows[int(index)], int(index), task, wrong) for index in chosen]
    return EvalTask(task["eval_task"], items)


def _item(row: Mapping[str, Any], index: int, task: Mapping[str, Any], wrong: tuple[str, ...]) -> EvalItem:
    where = f"{task['split']}/{index}"
    for column in (task["question"], task["answer"], task["base_answer"]):
        if not isinstance(row[column], str) or not row[column]:
            raise ValueError(f"{task['eval_task']}, row {where}: {column} is {row[column]!r}, not a text; mend the row.")
    cells = [row[column] for column in wrong]
    answers = [text for cell in cells for text in ([cell] if isinstance(cell, str) else cell or ())]
    size, author = task["rows_per_author"], row.get(task["author"])
    if author is None and size:
        author = f"{task['split']} author {index // int(size) + 1}"
    return EvalItem(
        row_id=str(index),
        sample={"question": row[task["question"]], "answer": row[task["answer"]], "image": None, "id": where},
        base_answer=row[task["base_answer"]], wrong_answers=answers, author=author,
    )  # fmt: skip
