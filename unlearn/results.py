"""The eval log: what an evaluation measured, item by item. Typed, validated, read and written as a whole.

A result folder holds `<task>.json`, `eval_log_aggregated.json` ({"<task>.json": task log}, the published schema) and
`eval_meta.json` (the rest). Losses are nats: `avg_*`, `average_*` per answer token. Dicts are keyed by row id (text).
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from unlearn.atomic import read_json, write_json

AGGREGATE = "eval_log_aggregated.json"
META, META_VERSION = "eval_meta.json", 1


class TaskLog(TypedDict):
    """One task. `generated_text` is [prompt, generation, reference]; the number of wrong answers may differ by row."""

    avg_gt_loss: dict[str, float]
    gt_loss: dict[str, float]
    num_token_gt: dict[str, int]
    avg_paraphrased_loss: dict[str, float]
    paraphrased_loss: dict[str, float]
    num_token_paraphrased: dict[str, int]
    average_perturb_loss: dict[str, list[float]]
    perturb_loss: dict[str, list[float]]
    num_token_perturb: dict[str, list[int]]
    truth_ratio: dict[str, float]
    generated_text: dict[str, list[str]]
    rouge1_recall: dict[str, float]
    rougeL_recall: dict[str, float]
    normalized_gt_loss: NotRequired[dict[str, float]]


class RowMeta(TypedDict):
    """What was asked of one row; `wrong_equals_right[k]` marks a wrong answer whose text is the right one."""

    question: str
    answer: str
    base_answer: str
    wrong_answers: list[str]
    wrong_equals_right: list[bool]
    author: str | None
    thumbnail: str | None
    picture: NotRequired[str | None]  # identity of the picture's pixels; not in older metas, as are keywords
    keywords: NotRequired[list[str]]
    flagged: NotRequired[bool]  # by ECO: its prompt was disturbed


class TaskMeta(TypedDict):
    """Rows of one task and what they cost: seconds of wall time, peak memory in MiB, tokens generated per row."""

    rows: dict[str, RowMeta]
    seconds: float
    peak_memory_mb: float | None
    generation_tokens: dict[str, int]
    kept: NotRequired[dict[str, dict[str, float]]]  # of a redacted task: column -> row -> what its texts gave


class EvalMeta(TypedDict):
    """`run` says which model it was: method, model, model_family, forget_split, modality, seed, settings_hash, commit,
    model_path, start (the run that made the model it started from); `variant` is shared by runs of several seeds."""

    schema_version: int
    run: dict[str, Any]
    tasks: dict[str, TaskMeta]


@dataclass(frozen=True, eq=False)
class EvalLog:
    """Tasks by name (no `.json`); `meta` is None for a log that other code made, `path` for one that is no file."""

    tasks: dict[str, TaskLog]
    meta: EvalMeta | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        return str(self.path) if self.path else "the eval log"


# The released scripts compute every number from these; a foreign log needs no more (its ROUGE may be empty).
_NEEDED = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "generated_text")
_LISTS = ("average_perturb_loss", "perturb_loss", "num_token_perturb")
COMPARED = (*_LISTS, "truth_ratio")  # what a task without wrong answers has none of
_ROW_FIELDS = {"question": str, "answer": str, "base_answer": str, "wrong_answers": list, "wrong_equals_right": list,
               "author": str | None, "thumbnail": str | None}  # fmt: skip
_TASK_FIELDS = {"rows": dict, "seconds": float | int, "peak_memory_mb": float | int | None, "generation_tokens": dict}
HUGE, ROUNDING = 1e300, 1e-4  # a loss of half precision may lie the second far below 0
_RERUN = "evaluate this task again (overwrite=true)"


def write_task(folder: str | Path, task_name: str, task_log: TaskLog) -> Path:
    """Writes `<folder>/<task_name>.json` atomically. ValueError names what is missing, NaN or infinite, and its row."""
    path = Path(folder) / f"{task_name}.json"
    check_task(task_log, f"{path}, task {task_name}", required=TaskLog.__required_keys__)
    write_json(path, task_log)
    return path


def write_aggregate(folder: str | Path, task_names: Sequence[str]) -> Path:
    """Joins the task files of `task_names`, finished now or earlier, into `eval_log_aggregated.json`."""
    write_json(path := Path(folder) / AGGREGATE, {f"{name}.json": read_task(folder, name) for name in task_names})
    return path


def write_meta(folder: str | Path, meta: EvalMeta) -> Path:
    """Writes `<folder>/eval_meta.json` atomically, after checking it."""
    _check_meta(meta, path := Path(folder) / META)
    write_json(path, meta)
    return path


def read_task(folder: str | Path, task_name: str) -> TaskLog:
    """One task file, validated."""
    check_task(task := read_json(path := Path(folder) / f"{task_name}.json"), f"{path}, task {task_name}")
    return cast(TaskLog, task)


def read_meta(folder: str | Path) -> EvalMeta | None:
    """`eval_meta.json` of a result folder, validated; None where there is none."""
    if not (path := Path(folder) / META).exists():
        return None
    _check_meta(meta := read_json(path), path)
    return cast(EvalMeta, meta)


def read_log(path: str | Path) -> EvalLog:
    """An aggregated log and the `eval_meta.json` beside it. ValueError names file, task, row and remedy."""
    return as_log(read_json(Path(path)), read_meta(Path(path).parent), Path(path))


def as_log(aggregated: Mapping[str, Any], meta: EvalMeta | None = None, path: Path | None = None) -> EvalLog:
    """An EvalLog from the plain mapping that `eval_log_aggregated.json` holds, validated."""
    name = path or "the eval log"
    if not isinstance(aggregated, Mapping) or not aggregated:
        raise ValueError(f'{name}: expected {{"<task>.json": task log}} with a task or more. Evaluate again.')
    tasks = {key.removesuffix(".json"): task for key, task in aggregated.items()}
    for task, log in tasks.items():
        check_task(log, f"{name}, task {task}")
        if meta and task in meta["tasks"]:
            _check_meta_fits(log, meta["tasks"][task], f"{name}, task {task}")
    return EvalLog(tasks, meta, path)


def check_task(task: Any, where: str, required: Collection[str] = _NEEDED) -> None:
    """ValueError unless `task` has the `required` keys, a row or more, and finite numbers for the same rows in each."""
    found = set(task if isinstance(task, Mapping) else ())
    needed = set(required) - (set() if found & set(COMPARED) else set(COMPARED))
    if missing := sorted(needed - found):
        raise ValueError(f"{where}: no {', '.join(missing)}; {_RERUN}.")
    rows = task["avg_gt_loss"]
    if isinstance(rows, Mapping) and not rows:
        raise ValueError(f"{where}: the task has no rows. Check its split and ds_size, then {_RERUN}.")
    for key in TaskLog.__annotations__:
        column = task.get(key, {})
        if not column and (key not in needed or key.startswith("rouge")):
            continue  # the published mm evaluation leaves ROUGE empty: it is recomputed from the texts
        if not isinstance(column, Mapping):
            raise ValueError(f"{where}: {key} is {_short(column)}, not values by row; {_RERUN}.")
        if set(column) != set(rows):
            raise ValueError(f"{where}: {key} and avg_gt_loss {_difference(column, rows)}; {_RERUN}.")
        for row, value in column.items():
            _check_cell(key, value, f"{where}, row {row}")


def require_tasks(log: EvalLog, names: Iterable[str]) -> None:
    """ValueError that names the tasks which `log` lacks, or has without wrong answers."""
    if missing := [name for name in names if name not in log.tasks]:
        raise ValueError(f"{log.name}: no task {', '.join(missing)}; it holds {', '.join(log.tasks)}. Evaluate the "
                         "missing ones too (eval_task_ids, overwrite=false).")  # fmt: skip
    if bare := [name for name in names if "average_perturb_loss" not in log.tasks[name]]:
        raise ValueError(f"{log.name}, task {bare[0]}: no average_perturb_loss (wrong_answers); {_RERUN} with them.")


def check_same_rows(log: EvalLog, gold: EvalLog, names: Iterable[str]) -> None:
    """ValueError that lists what differs unless both logs hold the same rows: id, reference, count of wrong answers."""
    for name in names:
        ours, theirs = log.tasks[name], gold.tasks[name]
        where = f"{log.name} and {gold.name}, task {name}"
        remedy = "Evaluate both models on the same split, selection and ds_size."
        if set(ours["avg_gt_loss"]) != set(theirs["avg_gt_loss"]):
            raise ValueError(f"{where}: the logs {_difference(ours['avg_gt_loss'], theirs['avg_gt_loss'])}. {remedy}")
        texts, gold_texts = ours["generated_text"], theirs["generated_text"]
        if other := [row for row in texts if plain_text(texts[row][2]) != plain_text(gold_texts[row][2])]:
            example = f"row {other[0]}: {texts[other[0]][2]!r} against {gold_texts[other[0]][2]!r}"
            raise ValueError(f"{where}: other reference texts in rows {some_rows(other)} ({example}). {remedy}")
        wrong, gold_wrong = ours.get("average_perturb_loss", {}), theirs.get("average_perturb_loss", {})
        if other := [row for row in texts if len(wrong.get(row, ())) != len(gold_wrong.get(row, ()))]:
            raise ValueError(f"{where}: another number of wrong answers in rows {some_rows(other)}. {remedy}")


def plain_text(text: str) -> str:
    """`text` without what a tokenizer's way of spacing changes: "word ." and "word.", "do n't" and "don't"."""
    closed = re.sub(r"\s*([^\w\s])\s*", r"\1", unicodedata.normalize("NFC", text)).replace(" n'", "n'")
    return " ".join(closed.split())


def _check_cell(key: str, value: Any, where: str) -> None:
    """One row's value under one key: three strings, a finite number, or a non-empty list of finite numbers."""
    if key == "generated_text":
        if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(isinstance(text, str) for text in value):
            raise ValueError(f"{where}: {key} must be three strings, [prompt, generation, reference]; {_RERUN}.")
        return
    if key in _LISTS and (not isinstance(value, (list, tuple)) or not value):
        raise ValueError(f"{where}: {key} must be a list with at least one wrong answer, found {value!r}; {_RERUN}.")
    for number in value if key in _LISTS else [value]:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < HUGE:
            why = "NaN or null comes from a broken checkpoint or half precision: check the model, then"
            raise ValueError(f"{where}: {key} is {_short(number)}, not a finite number. {why} {_RERUN}.")
        if number < (least := 1 if key.startswith("num_token") else 0) - ROUNDING:
            raise ValueError(
                f"{where}: {key} is {number!r}, which cannot be: it is at least {least}. The log is damaged or was "
                f"written by a program that means something else; {_RERUN}."
            )
        if key.startswith("rouge") and number > 1 + ROUNDING:
            raise ValueError(f"{where}: {key} is {number!r}, which cannot be: a recall is at most 1; {_RERUN}.")


def _short(value: Any) -> str:
    """A value in an error: Python refuses to print integers of thousands of digits."""
    huge = isinstance(value, int) and abs(value) >= HUGE
    return "an integer of hundreds of digits" if huge else repr(value)[:80]


def _check_meta(meta: Any, path: Path) -> None:
    remedy = "Delete it and evaluate again, or evaluate without it (the log alone can be read)."
    if not isinstance(meta, Mapping) or not {"schema_version", "run", "tasks"} <= set(meta):
        raise ValueError(f"{path}: expected schema_version, run and tasks. {remedy}")
    if meta["schema_version"] != META_VERSION:
        raise ValueError(f"{path}: schema_version {meta['schema_version']!r}, this code reads {META_VERSION}. {remedy}")
    _check_fields(meta, {"run": dict, "tasks": dict}, str(path), remedy)
    for name, task in meta["tasks"].items():
        _check_fields(task, _TASK_FIELDS, f"{path}, task {name}", remedy)
        if wrong := [row for row, count in task["generation_tokens"].items() if not isinstance(count, int)]:
            raise ValueError(f"{path}, task {name}, row {wrong[0]}: generation_tokens is no number. {remedy}")
        for row, facts in task["rows"].items():
            where = f"{path}, task {name}, row {row}"
            _check_fields(facts, _ROW_FIELDS, where, remedy)
            if len(facts["wrong_equals_right"]) != len(facts["wrong_answers"]):
                raise ValueError(f"{where}: wrong_equals_right has another length. {remedy}")


def _check_fields(facts: Any, fields: Mapping[str, Any], where: str, remedy: str) -> None:
    """ValueError unless `facts` has every field, each of its type."""
    if missing := sorted(set(fields) - set(facts if isinstance(facts, Mapping) else ())):
        raise ValueError(f"{where}: no {', '.join(missing)}. {remedy}")
    for name, kind in fields.items():
        if not isinstance(facts[name], kind):
            raise ValueError(f"{where}: {name} is {_short(facts[name])}, of another type. {remedy}")


def _check_meta_fits(log: TaskLog, meta: TaskMeta, where: str) -> None:
    """Log and meta must describe the same rows and wrong answers, or marks and authors would go to other rows."""
    remedy = f"{META} belongs to another evaluation: {_RERUN}"
    if set(meta["rows"]) != set(log["avg_gt_loss"]):
        raise ValueError(f"{where}: {META} and the log {_difference(meta['rows'], log['avg_gt_loss'])}; {remedy}.")
    for row, facts in meta["rows"].items():
        if len(log.get("average_perturb_loss", {}).get(row, ())) != len(facts["wrong_answers"]):
            raise ValueError(f"{where}, row {row}: {META} has another number of wrong answers than the log; {remedy}.")


def _difference(ours: Any, theirs: Any) -> str:
    """'hold other rows: ...' for two collections of row ids."""
    ours, theirs = set(ours or ()), set(theirs or ())
    first, second = some_rows(ours - theirs), some_rows(theirs - ours)
    return f"hold other rows: only the first has {first}; only the second has {second}"


def some_rows(rows: Collection[str], limit: int = 20) -> str:
    """Row ids in reading order, cut after `limit`."""
    ordered = sorted(rows, key=row_order)
    return ", ".join([*ordered[:limit], *[f"and {len(ordered) - limit} more"] * (len(ordered) > limit)]) or "none"


def row_order(row: str) -> tuple[int, int, str]:
    """Sort key that puts "2" before "10" and numbers before words."""
    return (0, int(row), row) if row.isdecimal() and len(row) < 20 else (1, 0, row)


def read_record(folder: Path) -> dict[str, Any] | None:
    """`run.json` of a folder, or None. ValueError if it is damaged, or JSON that is no record of a run."""
    file = folder / "run.json"
    if not file.is_file():
        return None
    remedy = "remove it or choose another save_dir"
    try:
        record = read_json(file, "")
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); {remedy}.") from None
    if not isinstance(record, dict):
        raise ValueError(f"{file} is no record of a run (it holds a {type(record).__name__}); {remedy}.")
    for key, kind in (("kind", str), ("status", str), ("settings", dict), ("made_from", dict), ("files", dict)):
        if not isinstance(record.get(key, kind()), kind):
            raise ValueError(f"{file} is no record of a run ({key} is {record[key]!r}); {remedy}.")
    return record
