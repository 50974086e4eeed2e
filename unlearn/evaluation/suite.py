"""The evaluation of one model on several tasks, on any number of processes, resumable, to a folder of logs.

    <save_dir>/<task>.json, <task>.tokens.json where asked for, eval_log_aggregated.json, eval_meta.json, thumbnails/

Batches are made of rows of like length over the whole task and then dealt to the processes, so a log does not depend on
how many there were. Each finished batch is appended to a partial file; the same command continues after the last one.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unlearn.atomic import content_hash
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.distributed.processes import from_main, peak_memory_mb, process_state
from unlearn.evaluation.ahead import one_ahead
from unlearn.evaluation.batches import InParts, cut, items_together, lengths_of
from unlearn.evaluation.eco import Eco
from unlearn.evaluation.measure import Prepared, Row, measure_prepared, prepare_batch, task_log
from unlearn.evaluation.partial import PartialRows
from unlearn.evaluation.recorded import Steps
from unlearn.models.loading import weights_fingerprint
from unlearn.results import (
    AGGREGATE,
    META,
    META_VERSION,
    EvalMeta,
    TaskMeta,
    read_meta,
    write_aggregate,
    write_meta,
    write_task,
)
from unlearn.runs.cleaning import remove_thumbnails
from unlearn.runs.locks import hold
from unlearn.runs.made_from import Changed, changed
from unlearn.token_log import ENDING, complete, tokens_path, write_tokens

__all__ = ["EvalItem", "EvalTask", "evaluate_suite", "process_state", "weights_fingerprint"]
logger = logging.getLogger(__name__)
PARTIAL = ".partial"


@dataclass(frozen=True)
class EvalTask:
    """A named list of items. `items` may be lazy: an item is made, and its picture opened, only when its turn comes.

    `lengths` is a rough cost of each item (say, characters, plus a large constant for a picture), by which like is
    batched with like; None asks the items themselves, once, which opens every picture. An earlier result is kept or
    continued only if it has the same `identity` (which rows of what are asked for) and the same `content` (what these
    rows, questions and pictures are).
    """

    name: str
    items: Sequence[EvalItem]
    lengths: Sequence[int] | None = None
    identity: str = ""
    content: str = ""


def items_of(task: EvalTask) -> str:
    """Which items a task asks about, as eval_meta.json records it."""
    return f"{len(task.items)} rows {task.identity}"


def evaluate_suite(
    model: Any, collator: Collator, tasks: Sequence[EvalTask], *, save_dir: str | Path, batch_size: int | str,
    max_new_tokens: int, overwrite: bool = True, token_scores: bool = False, run: Mapping[str, Any] | None = None,
    made_from: Mapping[str, str] | None = None, eco: Eco | None = None,
) -> Path:  # fmt: skip
    """Evaluates `model` on `tasks` and returns the path of `eval_log_aggregated.json`.

    With `overwrite=False` tasks that are finished in `save_dir` are kept; either way they are part of the aggregate as
    long as the same weights made them. An interrupted evaluation of the same weights continues where it stopped.

    Args:
        batch_size: items at a time, or "auto": as many as fit (batches.py). Where memory runs out they are halved.
        token_scores: also score each token of the exact answers (token_log.py); a task without them is not finished.
        run: what identifies the model (results.EvalMeta); the fingerprint of the weights is added.
        made_from: digests of the model's files and of its processor with the chat template (runs/made_from.py).
        eco: disturbs the prompts that it flags; `run` says how.
    Raises:
        ValueError: no task, an empty task, two of one name, a `save_dir` of another model (without `overwrite`), and
            whatever prepare_batch and measure_prepared refuse.
    """
    _check_request(tasks, batch_size, max_new_tokens)
    state, folder = process_state(), Path(save_dir)
    lock = hold(folder) if state.is_main_process else None
    facts = {**(run or {}), "weights": weights_fingerprint(model), "max_new_tokens": max_new_tokens}
    meta = EvalMeta(schema_version=META_VERSION, run=facts, tasks={})
    kept: list[str] = []
    if state.is_main_process:
        facts["made_from"] = _made_from(folder, tasks, made_from or {})
        facts["items"] = _known_items(folder) | {task.name: items_of(task) for task in tasks}
        meta["tasks"] = _earlier_tasks(folder, facts, tasks, overwrite)
        kept = [] if overwrite else [name for name in meta["tasks"] if complete(folder, name, token_scores)]
    kept = from_main(kept)
    was_training = model.training
    model.eval()
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "token_scores": token_scores, "eco": eco}
    measure = partial(measure_prepared, model, collator, **how)
    together = partial(items_together, batch_size, model, collator, max_new_tokens)
    for task in tasks:
        if task.name in kept:
            logger.info("%s: kept (overwrite=false)", task.name)
            continue
        key = content_hash(facts["weights"], str(max_new_tokens), *(made_from or {}).values(), *[ENDING] * token_scores)
        rows, task_meta = _evaluate_task(InParts(measure, Steps()), together, collator, task, folder, key)
        if state.is_main_process:
            _write(folder, task.name, rows, token_scores)
            meta["tasks"][task.name] = task_meta
            write_meta(folder, meta)
    model.train(was_training)
    if state.is_main_process:
        _close(folder, meta)
    state.wait_for_everyone()
    if lock is not None:
        lock.release()
    return folder / AGGREGATE


def _write(folder: Path, task_name: str, rows: Sequence[Row], token_scores: bool) -> None:
    """The files of a task; scores of tokens that an earlier evaluation left do not stay beside another log."""
    if token_scores:
        write_tokens(folder, task_name, {row["row_id"]: row["by_token"] for row in rows})
    else:
        tokens_path(folder, task_name).unlink(missing_ok=True)
    write_task(folder, task_name, task_log(task_name, rows))


def _close(folder: Path, meta: EvalMeta) -> None:
    """Joins the tasks, and removes what no result names any more: rows in part, and faces of results that are gone."""
    write_meta(folder, meta)  # also where all are kept: what they are of may be known only now
    write_aggregate(folder, list(meta["tasks"]))
    pictures = [row["thumbnail"] for task in meta["tasks"].values() for row in task["rows"].values()]
    remove_thumbnails(folder, [name for name in pictures if name is not None])
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def _evaluate_task(
    measure: Callable[..., list[Row]], together: Callable[..., int], collator: Collator, task: EvalTask, folder: Path,
    model_key: str,
) -> tuple[list[Row], TaskMeta]:  # fmt: skip
    """All rows of a task in the order of its items (on every process), and what they cost."""
    from accelerate.utils import gather_object

    state = process_state()
    lengths = lengths_of(task.items, task.lengths)
    key = content_hash(task.name, task.identity, task.content, model_key, json.dumps(lengths))
    saved = PartialRows(folder / PARTIAL, task.name, key)
    earlier: dict[int, Row] = saved.collect() if state.is_main_process else {}
    done = set(from_main(list(earlier)))
    if done:
        logger.info("%s: continuing after %d of %d rows", task.name, len(done), len(lengths))
    batches = cut(lengths, together(task.name, task.items, lengths), done)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()

    def prepare(batch: list[int]) -> Prepared:
        return prepare_batch(collator, [task.items[place] for place in batch], task=task.name, folder=folder)

    own: dict[int, Row] = {}
    total = len(lengths) - len(done)
    with saved.writer(state.process_index) as write, _progress(task.name, total, state.is_main_process) as bar:
        mine = batches[state.process_index :: state.num_processes]
        for batch, began, prepared in one_ahead(prepare, mine):
            measured = dict(zip(batch, measure(prepared, began=began), strict=True))
            write(measured)
            own |= measured
            bar.update(min(len(batch) * state.num_processes, total - bar.n))
    everything = earlier | dict(gather_object(list(own.items())))
    memory = max(gather_object([peak_memory_mb()]))
    rows = [everything[place] for place in sorted(everything)]
    meta = TaskMeta(
        rows={row["row_id"]: row["meta"] for row in rows},
        seconds=sum(row["seconds"] for row in rows) / state.num_processes,
        peak_memory_mb=memory,
        generation_tokens={row["row_id"]: row["generation_tokens"] for row in rows},
    )
    logger.info("%s: %d rows, %.2f rows/s", task.name, len(rows), len(rows) / max(meta["seconds"], 1e-9))
    return rows, meta


def _earlier_tasks(
    folder: Path, facts: Mapping[str, Any], tasks: Sequence[EvalTask], overwrite: bool
) -> dict[str, TaskMeta]:
    """What earlier evaluations of the same weights left in `folder`. Files of another model are removed, or refused."""
    names = {task.name for task in tasks}
    old = read_meta(folder)
    known = old["tasks"] if old else {}
    fresh = not any((folder / name).exists() for name in [AGGREGATE, *(f"{task}.json" for task in names | set(known))])
    same = old is not None and all(
        old["run"].get(key) == facts.get(key) for key in ("weights", "max_new_tokens", "eco")
    )
    noted = _noted(old)
    other_model = changed({"": noted}, {"": {key: value for key, value in facts["made_from"].items() if key != "data"}})
    if same and not other_model:
        if not overwrite:
            _check_kept(folder, noted, facts, names & known.keys())
        return {name: task for name, task in known.items() if (folder / f"{name}.json").exists()}
    if fresh or (folder / PARTIAL).exists():
        return {}
    if not overwrite:
        why = f"made with something else: {', '.join(other_model)} changed since" if same else (
            f"of another model or of other generation settings, or of a program that wrote no {META}"
        )  # fmt: skip
        raise Changed(f"{folder} holds results {why}; set overwrite=true to replace them, or choose another save_dir.")
    for name in [*(f"{task}{ending}.json" for task in known for ending in ("", ENDING)), AGGREGATE, META]:
        (folder / name).unlink(missing_ok=True)
    return {}


def _check_kept(folder: Path, noted: Mapping[str, Any], facts: Mapping[str, Any], names: Set[str]) -> None:
    """ValueError if results that are to be kept are of other rows, by what was asked for or by what was found there."""
    before, content = _known_items(folder), noted.get("data", {})
    for name in sorted(names):
        if before.get(name) != facts["items"][name]:
            raise Changed(
                f"{folder}: {name} was evaluated on other rows, questions or pictures ({before.get(name)}, "
                f"now {facts['items'][name]}); set overwrite=true or another save_dir."
            )
        if content.get(name) not in (None, facts["made_from"]["data"].get(name)):
            raise Changed(
                f"{folder}: the data of {name} changed since it was evaluated (rows, questions or pictures are others "
                "under the same names); set overwrite=true or another save_dir."
            )
    if names and not noted:
        logger.warning(
            "%s: evaluated before the content of data and processor was noted; taken to be the same, and noted now.",
            folder,
        )


def _noted(old: EvalMeta | None) -> Mapping[str, Any]:
    """What earlier results were made from; empty where that was not noted."""
    noted = old["run"].get("made_from") if old else None
    return noted if isinstance(noted, dict) else {}


def _made_from(folder: Path, tasks: Sequence[EvalTask], model: Mapping[str, str]) -> dict[str, Any]:
    """What the results in `folder` are made from, with those of earlier tasks: the model's digests, and by task its
    data's."""
    before = _noted(read_meta(folder))
    return {**model, "data": {**before.get("data", {}), **{task.name: task.content for task in tasks if task.content}}}


def _known_items(folder: Path) -> dict[str, str]:
    """Which items the results in `folder` are of, by task."""
    return dict(old["run"].get("items", {})) if (old := read_meta(folder)) else {}


def _check_request(tasks: Sequence[EvalTask], batch_size: int | str, max_new_tokens: int) -> None:
    if (batch_size != "auto" and int(batch_size) < 1) or max_new_tokens < 1:
        raise ValueError(f"batch_size={batch_size} and max_new_tokens={max_new_tokens} must be at least 1.")
    names = [task.name for task in tasks]
    if not names:
        raise ValueError("There is no task to evaluate; check tasks and eval_task_ids.")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two tasks are called {name!r}: their logs would be one file. Rename one (eval_task).")
        if name.endswith(ENDING):
            raise ValueError(f"{name}: no task may end in {ENDING}, which other files end in. Rename it (eval_task).")
    for task in tasks:
        if len(task.items) == 0:
            raise ValueError(f"{task.name} has no rows; check its split and ds_size.")


def _progress(name: str, total: int, main: bool) -> Any:
    """A bar with items per second and time left, on the main process and only on a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=name, unit="row", disable=None if main else True, mininterval=0.5)
