"""View: training curves: the loss, its named parts and whatever else was logged, by optimiser step."""

from collections.abc import Mapping, Sequence
from typing import Any

from unlearn.report.board import Board
from unlearn.report.training import Training

MAX_POINTS = 400  # of one curve; a longer one keeps every n-th point and its last
_TIMES = ("step", "epoch")


def curves(board: Board, trainings: Mapping[str, Training]) -> dict[str, Any] | None:
    """For each run its quantities by name, each {"step": [...], "value": [...]}; None where no run has any."""
    series = []
    for run in board.readable:
        quantities = quantities_of(trainings[run.label].lines) if run.label in trainings else {}
        if quantities:
            series.append({"label": run.label, "method": run.method, "role": run.role, "quantities": quantities})
    names = sorted({name for one in series for name in one["quantities"]}, key=_reading_order)
    return {"names": names, "runs": series, "max_points": MAX_POINTS} if series else None


def quantities_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """{"loss": {"step": [...], "value": [...]}, ...} of the lines of a step or an evaluation; about MAX_POINTS
    points each."""
    found: dict[str, dict[str, list[float]]] = {}
    for place, line in enumerate(lines, start=1):
        for name, value in line.items() if "loss" in line or any(key.startswith("eval_") for key in line) else ():
            if name not in _TIMES and isinstance(value, (int, float)) and not isinstance(value, bool):
                curve = found.setdefault(name, {"step": [], "value": []})
                curve["step"].append(line.get("step", place))
                curve["value"].append(float(f"{value:.5g}"))
    return {name: {axis: thin(points) for axis, points in curve.items()} for name, curve in found.items()}


def thin(points: list[float], limit: int = MAX_POINTS) -> list[float]:
    """Every n-th point and the last one, `limit` + 1 at most."""
    every = -(-len(points) // limit)
    return points if every <= 1 else points[:-1:every] + points[-1:]


def _reading_order(name: str) -> tuple[int, str]:
    return (0 if name == "loss" else 1 if name.startswith("parts/") else 2, name)
