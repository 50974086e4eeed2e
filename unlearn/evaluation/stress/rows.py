"""Rows measured batch by batch on any number of processes, kept as they come, whatever is measured of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash
from unlearn.data.samples import EvalItem
from unlearn.distributed.processes import from_main, process_state
from unlearn.evaluation.partial import PartialRows
from unlearn.evaluation.suite import EvalTask

PARTIAL = ".partial"


def measure_rows(
    task: EvalTask,
    measure: Callable[[list[EvalItem]], Sequence[Any]],
    *,
    folder: Path,
    key: str,
    batch_size: int,
) -> dict[str, Any]:
    """{row id: what `measure` returns of it, plain JSON}, rows in the order of the task, on every process.

    Batches are dealt to the processes and appended to a file as they are finished; what an interrupted run of the same
    `key` has left there is not measured again. What is measured must depend on the row alone.
    """
    from accelerate.utils import gather_object
    from tqdm import tqdm

    state = process_state()
    partial = PartialRows(folder / PARTIAL, task.name, content_hash(key, task.identity, task.content))
    earlier: dict[int, Any] = partial.collect() if state.is_main_process else {}
    done = set(from_main(list(earlier)))
    left = [place for place in by_length(task) if place not in done]
    batches = [left[start : start + batch_size] for start in range(0, len(left), batch_size)]
    own: dict[int, Any] = {}
    quiet = None if state.is_main_process else True
    with partial.writer(state.process_index) as write, tqdm(total=len(left), desc=task.name, disable=quiet) as bar:
        for batch in batches[state.process_index :: state.num_processes]:
            items = [task.items[place] for place in batch]
            measured = {
                place: (item.row_id, value) for place, item, value in zip(batch, items, measure(items), strict=True)
            }
            write(measured)
            own |= measured
            bar.update(min(len(batch) * state.num_processes, len(left) - bar.n))
    everything = earlier | dict(gather_object(list(own.items())))
    return {row: value for _, (row, value) in sorted(everything.items())}


def by_length(task: EvalTask) -> list[int]:
    """Places of a task's items, the longest first where their lengths are known."""
    places = range(len(task.items))
    if task.lengths is None:
        return list(places)
    lengths = task.lengths
    return sorted(places, key=lambda place: -lengths[place])


def people_of(task: EvalTask) -> dict[str, str | None]:
    """{row id: whose it is}, None where the data does not say."""
    items = [task.items[place] for place in range(len(task.items))]
    return {item.row_id: item.author for item in items}
