"""View: how the truth ratios of each model lie beside gold's, as distribution functions of u = R / (1 + R)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearn.metrics.forget_quality import bounded_ratio
from unlearn.report.board import Board


def ecdf(board: Board) -> dict[str, Any] | None:
    """Sorted u of gold, and of each other run with its Kolmogorov-Smirnov distance; None without gold's log."""
    gold = board.run_of("gold")
    if gold is None or gold.measured is None:
        return None
    label = board.track.forget.label
    ours = bounded_ratio(gold.measured.scores.ratios[label])
    panels = []
    for run in board.readable:
        if run.measured and run is not gold:
            u = bounded_ratio(run.measured.scores.ratios[label])
            panels.append(
                {"label": run.label, "method": run.method, "role": run.role, "u": _sorted(u), "ks": ks_gap(u, ours)}
            )
    return {"gold": _sorted(ours), "task": label, "panels": panels}


def ks_gap(model: ArrayLike, gold: ArrayLike) -> dict[str, float]:
    """Where the two distribution functions lie furthest apart: {"at", "model", "gold", "distance"}.

    `at` is the observation after which the gap is largest; `distance` is the two-sample Kolmogorov-Smirnov statistic.
    """
    model, gold = np.sort(np.asarray(model, dtype=np.float64)), np.sort(np.asarray(gold, dtype=np.float64))
    points = np.concatenate([model, gold])
    ours = np.searchsorted(model, points, "right") / len(model)
    theirs = np.searchsorted(gold, points, "right") / len(gold)
    widest = int(np.argmax(np.abs(ours - theirs)))
    return {
        "at": float(points[widest]), "model": float(ours[widest]), "gold": float(theirs[widest]),
        "distance": float(abs(ours[widest] - theirs[widest])),
    }  # fmt: skip


def _sorted(u: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in np.sort(u)]
