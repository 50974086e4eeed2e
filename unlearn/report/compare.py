"""View: any two models that the reader chooses, person by person: how sure their difference is, and how many people it
would take."""

from itertools import combinations
from typing import Any

from unlearn.leaderboard.comparison import MARGIN, leakage_of
from unlearn.leaderboard.pair import Pair, compared, numbers_of
from unlearn.leaderboard.scores import Scores
from unlearn.report.board import Board, Run

MOST = 20  # runs: 190 pairs, two seconds


def compare(board: Board) -> dict[str, Any] | None:
    """Numbers of each run, and of every pair of runs [difference, low, high, verdict, people needed] by number (p is
    for the command: it takes thousands of swaps). None with fewer than two readable logs."""
    runs = [(run, run.measured.scores) for run in board.readable if run.measured]
    if board.units is None or len(runs) < 2:
        return None
    shown, names = runs[:MOST], compared(board.track)
    pairs = {}
    for (i, (_, ours)), (j, (_, theirs)) in combinations(enumerate(shown), 2):
        pair = Pair(board.track, board.units, [ours], [theirs])
        pairs[f"{i}-{j}"] = {name: _cells(numbers_of(name, pair, MARGIN)) for name in names}
    return {
        "names": names, "margin": MARGIN, "pairs": pairs, "left_out": len(runs) - len(shown),
        "runs": [{**_run(run, scores, names), "leakage": _leakage(board, scores, names)} for run, scores in shown],
    }  # fmt: skip


def _cells(one: dict[str, Any]) -> list[Any]:
    low, high = one["interval"] or (None, None)
    return [_round(one["difference"]), _round(low), _round(high), one["verdict"], one["people needed"]]


def _run(run: Run, scores: Scores, names: list[str]) -> dict[str, Any]:
    means = [_round(scores.means[name]) for name in names]
    return {"label": run.label, "method": run.method, "role": run.role, "means": means}


def _leakage(board: Board, scores: Scores, names: list[str]) -> list[float | None]:
    """By number: 0 as gold, 1 as base; None for what is not to be forgotten, or where these cannot be told apart."""
    gold, base = (run.measured if (run := board.run_of(role)) else None for role in ("gold", "base"))
    if gold is None or base is None or board.units is None:
        return [None] * len(names)
    ends = Pair(board.track, board.units, [base.scores], [gold.scores])
    found = [leakage_of(name, ends, scores.means[name], scores.means[name]) for name in names]
    return [None if one is None else _round(one["A"]) for one in found]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
