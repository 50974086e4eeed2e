"""View: what each run cost, training and evaluation."""

from collections.abc import Mapping
from typing import Any

from unlearn.report.board import Board, Measured
from unlearn.report.training import Training


def cost(board: Board, trainings: Mapping[str, Training]) -> dict[str, Any] | None:
    """One line per readable run: seconds, MiB, items; None in a cell that the run's files do not say. None without
    runs."""
    lines = []
    for run in board.readable:
        assert run.measured is not None
        line = {"label": run.label, "method": run.method, "role": run.role, **_evaluation(run.measured)}
        training = trainings.get(run.label)
        lines.append({**line, **(_training(training) if training else {})})
    return {"lines": lines} if lines else None


def _evaluation(measured: Measured) -> dict[str, Any]:
    tasks = list(measured.cost.values())
    seconds = [task["seconds"] for task in tasks]
    tokens = [task["tokens"] for task in tasks]
    items = sum(task["items"] for task in tasks)
    total = None if None in seconds else sum(seconds)
    return {
        "items": items,
        "eval_seconds": total,
        "items_per_second": items / total if total else None,
        "eval_memory": max((task["memory"] for task in tasks if task["memory"] is not None), default=None),
        "tokens_per_item": None if None in tokens else sum(tokens) / items,
    }


def _training(training: Training) -> dict[str, Any]:
    """Steps and seconds as the last line of the log has them; peak MiB of a GPU as run.json has it."""
    last: Mapping[str, Any] = next((line for line in reversed(training.lines) if "train_runtime" in line), {})
    return {
        "train_seconds": last.get("train_runtime"),
        "train_steps": last.get("step", training.record.get("steps")),
        "train_memory": training.record.get("peak_memory_mb"),
    }
