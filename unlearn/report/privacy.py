"""View: how well a model's losses tell the forgotten people from people whom nobody was trained on (ROC curves)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unlearn.leaderboard.privacy import ATTACKS, twins
from unlearn.report.board import Board, Run

_CELLS = {"auc": "AUC", "interval": "interval", "person": "person AUC", "score": "score"}


def privacy(board: Board) -> dict[str, Any] | None:
    """Per forget task with a holdout, each run's ROC curve of LOSS and what its row says of every attack; None where no
    log has a holdout."""
    tasks = [shown for task, _ in twins(board.track) if (shown := _task(board, task.label))]
    return {"attacks": list(ATTACKS), "tasks": tasks} if tasks else None


def roc(forget: ArrayLike, holdout: ArrayLike) -> dict[str, list[float]]:
    """Shares found {"x": of the holdout, "y": of the forget rows} below each loss; the area under it is the attack's
    AUC, ties included."""
    found = [np.sort(np.asarray(scores, dtype=np.float64)) for scores in (holdout, forget)]
    levels = np.unique(np.concatenate(found))
    shares = ([0.0, *np.searchsorted(scores, levels, "right") / len(scores)] for scores in found)
    return dict(zip(("x", "y"), ([round(float(share), 4) for share in axis] for axis in shares), strict=True))


def _task(board: Board, label: str) -> dict[str, Any] | None:
    runs = [shown for run in board.readable if (shown := _run(run, label))]
    rows = [own for run in board.runs if (own := _own(run.row, label))]
    if not runs:
        return None
    facts = rows[-1] if rows else {}
    return {
        "label": label, "runs": runs, "blind": facts.get("blind AUC"), "people": facts.get("people"),
        "differs": list(facts.get("holdout differs") or ()),
    }  # fmt: skip


def _run(run: Run, label: str) -> dict[str, Any] | None:
    losses = run.measured.membership.get(label) if run.measured else None
    if losses is None:
        return None
    own = _own(run.row, label)
    attacks = {
        name: {short: numbers.get(key) for short, key in _CELLS.items()}
        for name in ATTACKS
        if isinstance(numbers := own.get(name), Mapping)
    }
    return {"label": run.label, "method": run.method, "role": run.role, **roc(*losses), "attacks": attacks}


def _own(row: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """What a row says of a task; empty for one of before, or of a log without a holdout."""
    found = row.get("privacy")
    own = found.get(label) if isinstance(found, Mapping) else None
    return own if isinstance(own, Mapping) else {}
