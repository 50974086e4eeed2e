"""The tasks of the text evaluation: which rows, which question, which answers. Four by default, as published for TOFU.

A task is a mapping: `eval_task` (its name), `data_path`, `split`, the columns `question`, `answer`, `base_answer` and
`wrong_answers` (a list column, or several columns), and `rows_per_author` where the rows of one author stand together
(known for TOFU). The published eval_everything.yaml says the same in parallel lists, which are read as they are.
"""

from collections.abc import Mapping
from typing import Any

from nlp.tofu import load_rows, rows_per_author
from unlearn.config.settings import EvalSettings, read_settings
from unlearn.data.items import TableItems, select_rows, with_authors
from unlearn.data.task_specs import KEYS, check_task, chosen_tasks, from_lists, identity, wrong_columns
from unlearn.evaluation.suite import EvalTask

PUBLISHED = (
    "eval_task", "data_path", "split_list", "question_key", "answer_key", "base_answer_key", "perturbed_answer_key",
)  # fmt: skip
# published keys without a meaning here: accepted at the published value
INERT = {
    "use_pretrained": (False, "set model_path to the family's hub id to evaluate the model before finetuning"),
    "max_length": (200, "answers are never cut; generation.max_new_tokens bounds what is generated"),
}


def default_tasks(data_path: str, split: str) -> list[dict[str, Any]]:
    """The four tasks of TOFU in the published order. `split` is the forget split, e.g. forget10_perturbed; one of
    tuning (forget10_tuning_perturbed) has retained authors of its own."""
    retain = "retain_tuning_perturbed" if split.endswith("_tuning_perturbed") else "retain_perturbed"

    def task(name: str, rows: str, base: str) -> dict[str, Any]:
        return dict(zip(KEYS, (name, data_path, rows, "question", "answer", base, "perturbed_answer"), strict=True))

    return [
        task("eval_log", retain, "paraphrased_answer"),
        task("eval_real_author_wo_options", "real_authors_perturbed", "answer"),
        task("eval_real_world_wo_options", "world_facts_perturbed", "answer"),
        task("eval_log_forget", split, "paraphrased_answer"),
    ]


def holdout_task(data_path: str, split: str) -> dict[str, Any]:
    """The twin of `eval_log_forget` on authors whom nobody was trained on; without wrong answers unless `split` has
    some (`_perturbed`)."""
    base, wrong = ("paraphrased_answer", "perturbed_answer") if split.endswith("_perturbed") else ("answer", None)
    return dict(zip(KEYS, ("eval_holdout", data_path, split, "question", "answer", base, wrong), strict=True))


def eval_settings(config: Mapping[str, Any]) -> EvalSettings:
    """The settings of `nlp/eval.py` from its composed config; what describes tasks is gathered under `tasks`.

    Raises ValueError: half of the published lists or lists of different lengths, an unknown or missing key of a task,
        an
    inert key that asks for something.
    """
    own = (*PUBLISHED, "tasks", "split", "holdout")
    rest = {key: value for key, value in config.items() if key not in own}
    known = {key: config[key] for key in own if config.get(key) is not None}
    path, split = known.get("data_path", "data/tofu-mini"), known.get("split", "forget10_perturbed")
    lists = {key: value for key, value in known.items() if key in PUBLISHED and not isinstance(value, str)}
    if lists and "tasks" in known:
        raise ValueError(f"Both tasks and {', '.join(lists)} are set; keep one of the two ways to describe the tasks.")
    if lists:
        tasks = [dict(zip(KEYS, entry, strict=True)) for entry in from_lists({**lists, "data_path": path}, PUBLISHED)]
    elif "tasks" in known:
        tasks = [{"data_path": path, **task} for task in known["tasks"]]
    else:
        tasks = default_tasks(path, split)
    if "holdout" in known:
        tasks.append(holdout_task(path, known["holdout"]))
    rest["tasks"] = [_check(task) for task in tasks]
    rest["generation"] = _without_inert(rest.get("generation") or {}, "max_length", "generation.")
    return read_settings(EvalSettings, _without_inert(rest, "use_pretrained"))


def _check(task: Mapping[str, Any]) -> dict[str, Any]:
    """Question and answer stand in columns of that name if not said."""
    return check_task(
        {"question": "question", "answer": "answer", "rows_per_author": None, **task}, also=("rows_per_author",)
    )


def _without_inert(values: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    published, why = INERT[key]
    if values.get(key, published) != published:
        raise ValueError(
            f"{where}{key}={values[key]!r} has no effect here ({why}); remove it or set it to {published}."
        )
    return {name: value for name, value in values.items() if name != key}


def load_tasks(settings: EvalSettings) -> list[EvalTask]:
    """The tasks chosen by `eval_task_ids` (all by default), every row of theirs checked, nothing tokenised yet.

    Raises ValueError for an id without a task, and for whatever is wrong with a split, a column or a row.
    """
    return [_load_task(task, settings) for task in chosen_tasks(settings)]


def _load_task(task: Mapping[str, Any], settings: EvalSettings) -> EvalTask:
    wrong = wrong_columns(task)
    columns = (task["question"], task["answer"], task["base_answer"], *wrong)
    rows = load_rows(task["data_path"], task["split"], settings.data_revision, columns)
    size = task["rows_per_author"] or rows_per_author(task["data_path"], task["split"])
    if size:  # authors are the unit of intervals and null floor
        rows = with_authors(rows, int(size), task["split"])
    items = TableItems(
        rows, select_rows(len(rows), settings.ds_size, settings.selection, settings.seed),
        lambda row, place: row[task["question"]], name=f"{task['data_path']}/{task['split']}", answer=task["answer"],
        base_answer=task["base_answer"], wrong_answers=wrong,
    )  # fmt: skip
    return EvalTask(task["eval_task"], items, items.lengths(), identity(task, settings, items.places))
