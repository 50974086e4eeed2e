"""The evaluation of one model on several tasks, on any number of processes, resumable, to a folder of logs.

    <save_dir>/<task>.json, eval_log_aggregated.json, eval_meta.json, thumbnails/

Batches are made of rows of like length over the whole task and then dealt to the processes, so a log does not depend on
how many there were. Each finished batch is appended to a partial file; the same command continues after the last one.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearn.atomic import content_hash
from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.distributed.processes import from_main, peak_memory_mb, process_state
from unlearn.evaluation.measure import Row, measure_batch, task_log
from unlearn.evaluation.partial import PartialRows
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
from unlearn.runs.locks import hold

__all__ = ["EvalItem", "EvalTask", "evaluate_suite", "process_state", "weights_fingerprint"]
logger = logging.getLogger(__name__)
PARTIAL = ".partial"


@dataclass(frozen=True)
class EvalTask:
    """A named list of items. `items` may be lazy: an item is made, and its picture opened, only when its turn comes.

    `lengths` is a rough cost of each item (say, characters, plus a large constant for a picture), by which like is
    batched with like; None asks the items themselves, once, which opens every picture. `identity`: an earlier result is
    kept or continued only if it has the same (which rows, questions and pictures these are).
    """

    name: str
    items: Sequence[EvalItem]
    lengths: Sequence[int] | None = None
    identity: str = ""


def items_of(task: EvalTask) -> str:
    """Which items a task asks about, as eval_meta.json records it."""
    return f"{len(task.items)} rows {task.identity}"


def evaluate_suite(
    model: Any,
    collator: Collator,
    tasks: Sequence[EvalTask],
    *,
    save_dir: str | Path,
    batch_size: int,
    max_new_tokens: int,
    overwrite: bool = True,
    run: Mapping[str, Any] | None = None,
) -> Path:
    """Evaluates `model` on `tasks` and returns the path of `eval_log_aggregated.json`.

    With `overwrite=False` tasks that are finished in `save_dir` are kept; either way they are part of the aggregate as
    long as the same weights made them. An interrupted evaluation of the same weights continues where it stopped.

    Args:
        run: what identifies the model (results.EvalMeta); the fingerprint of the weights is added.
    Raises:
        ValueError: no task, an empty task, two of one name, a `save_dir` of another model (without `overwrite`), and
            whatever measure_batch refuses.
    """
    _check_tasks(tasks)
    if batch_size < 1 or max_new_tokens < 1:
        raise ValueError(f"batch_size={batch_size} and max_new_tokens={max_new_tokens} must be at least 1.")
    state, folder = process_state(), Path(save_dir)
    lock = hold(folder) if state.is_main_process else None
    facts = {**(run or {}), "weights": weights_fingerprint(model), "max_new_tokens": max_new_tokens}
    meta = EvalMeta(schema_version=META_VERSION, run=facts, tasks={})
    kept: list[str] = []
    if state.is_main_process:
        facts["items"] = _known_items(folder) | {task.name: items_of(task) for task in tasks}
        meta["tasks"] = _earlier_tasks(folder, facts, tasks, overwrite)
        kept = [] if overwrite else list(meta["tasks"])
    kept = from_main(kept)
    was_training = model.training
    model.eval()
    for task in tasks:
        if task.name in kept:
            logger.info("%s: kept (overwrite=false)", task.name)
            continue
        rows, task_meta = _evaluate_task(model, collator, task, folder, batch_size, max_new_tokens, facts["weights"])
        if state.is_main_process:
            write_task(folder, task.name, task_log(task.name, rows))
            meta["tasks"][task.name] = task_meta
            write_meta(folder, meta)
    model.train(was_training)
    if state.is_main_process:
        write_aggregate(folder, list(meta["tasks"]))
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    state.wait_for_everyone()
    if lock is not None:
        lock.release()
    return folder / AGGREGATE


def _evaluate_task(
    model: Any, collator: Collator, task: EvalTask, folder: Path, batch_size: int, max_new_tokens: int, weights: str
) -> tuple[list[Row], TaskMeta]:
    """All rows of a task in the order of its items (on every process), and what they cost."""
    from accelerate.utils import gather_object

    state = process_state()
    places = range(len(task.items))  # asked by number: a lazy sequence need not know where to stop
    lengths = [_length(task.items[place]) for place in places] if task.lengths is None else list(task.lengths)
    key = content_hash(task.name, task.identity, weights, json.dumps([max_new_tokens, lengths]))
    partial = PartialRows(folder / PARTIAL, task.name, key)
    earlier: dict[int, Row] = partial.collect() if state.is_main_process else {}
    done = set(from_main(list(earlier)))
    if done:
        logger.info("%s: continuing after %d of %d rows", task.name, len(done), len(lengths))
    batches = _batches(lengths, batch_size, done)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    own: dict[int, Row] = {}
    total = len(lengths) - len(done)
    with partial.writer(state.process_index) as write, _progress(task.name, total, state.is_main_process) as bar:
        for batch in batches[state.process_index :: state.num_processes]:
            items = [task.items[place] for place in batch]
            rows = measure_batch(model, collator, items, task=task.name, max_new_tokens=max_new_tokens, folder=folder)
            measured = dict(zip(batch, rows, strict=True))
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


def _batches(lengths: Sequence[int], batch_size: int, done: set[int]) -> list[list[int]]:
    """Places of like length together, the longest first (what does not fit in memory shows at once), without those
    `done`."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    left = [[place for place in batch if place not in done] for batch in batches]
    return [batch for batch in left if batch]


def _length(item: EvalItem) -> int:
    sample = item.sample
    return 10**6 * (sample["image"] is not None) + len(sample["question"]) + len(str(sample["answer"]))


def _earlier_tasks(
    folder: Path, facts: Mapping[str, Any], tasks: Sequence[EvalTask], overwrite: bool
) -> dict[str, TaskMeta]:
    """What earlier evaluations of the same weights left in `folder`. Files of another model are removed, or refused."""
    names = {task.name for task in tasks}
    old = read_meta(folder)
    known = old["tasks"] if old else {}
    fresh = not any((folder / name).exists() for name in [AGGREGATE, *(f"{task}.json" for task in names | set(known))])
    same = old is not None and all(old["run"].get(key) == facts[key] for key in ("weights", "max_new_tokens"))
    if same:
        before = _known_items(folder)
        other = [name for name in sorted(names & known.keys()) if before.get(name) != facts["items"][name]]
        if other and not overwrite:
            raise ValueError(
                f"{folder}: {other[0]} was evaluated on other rows, questions or pictures ({before.get(other[0])}, "
                f"now {facts['items'][other[0]]}); set overwrite=true or another save_dir."
            )
        return {name: task for name, task in known.items() if (folder / f"{name}.json").exists()}
    if fresh or (folder / PARTIAL).exists():
        return {}
    if not overwrite:
        raise ValueError(
            f"{folder} holds results of another model or of other generation settings, or of a program that wrote no "
            f"{META}; "
            "set overwrite=true to replace them, or choose another save_dir."
        )
    for name in [*(f"{task}.json" for task in known), AGGREGATE, META]:
        (folder / name).unlink(missing_ok=True)
    return {}


def _known_items(folder: Path) -> dict[str, str]:
    """Which items the results in `folder` are of, by task."""
    old = read_meta(folder)
    return dict(old["run"].get("items", {})) if old else {}


def _check_tasks(tasks: Sequence[EvalTask]) -> None:
    names = [task.name for task in tasks]
    if not names:
        raise ValueError("There is no task to evaluate; check tasks and eval_task_ids.")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two tasks are called {name!r}: their logs would be one file. Rename one (eval_task).")
    for task in tasks:
        if len(task.items) == 0:
            raise ValueError(f"{task.name} has no rows; check its split and ds_size.")


def _progress(name: str, total: int, main: bool) -> Any:
    """A bar with items per second and time left, on the main process and only on a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=name, unit="row", disable=None if main else True, mininterval=0.5)
