"""View: what was kept (Retain metric) against what is still known (Forget metric), with the Pareto line."""

from collections.abc import Sequence
from typing import Any

from unlearn.leaderboard.entries import Entry, entries
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.columns import FORGET, QUALITY, RETAIN
from unlearn.report.board import Board

X, Y = RETAIN.name, FORGET.name


def tradeoff(board: Board) -> dict[str, Any]:
    """Points and Pareto line for each definition: {"paper": ..., "reference": ...}, None where it has no such
    numbers."""
    return {"paper": _picture(entries(board.rows)), "reference": _picture(entries(board.reference_rows()))}


def pareto(points: Sequence[tuple[float, float]], goal: float | None) -> list[tuple[float, float]]:
    """The points (retain, forget) that no other point beats, by falling retain.

    A point beats another if it keeps more and knows less of what should be forgotten. Forgetting beyond `goal` (gold's
    value) is no gain: all values below count as equal to it, so of those only the one that keeps most is on the line.
    """
    line: list[tuple[float, float]] = []
    best = float("inf")
    for retain, forget in sorted(points, key=lambda point: (-point[0], point[1])):
        effective = forget if goal is None else max(forget, goal)
        if effective < best:
            line.append((retain, forget))
            best = effective
    return line


def _picture(lines: Sequence[Entry]) -> dict[str, Any] | None:
    shown = [line for line in lines if {X, Y} <= line.numbers.keys()]
    if not shown:
        return None
    goal = next((line.numbers[Y] for line in shown if line.role == "gold"), None)
    models = [line for line in shown if line.role == "model" and not line.low_retain]
    return {
        "points": [_point(line) for line in shown],
        "line": pareto([(line.numbers[X], line.numbers[Y]) for line in models], goal),
        "low_retain": LOW_RETAIN,
    }


def _point(line: Entry) -> dict[str, Any]:
    return {
        "label": line.label,
        "role": line.role,
        "modality": line.modality,
        "seeds": line.seeds,
        "x": line.numbers[X],
        "y": line.numbers[Y],
        "x_bar": bar(line, X),
        "y_bar": bar(line, Y),
        "low_retain": line.low_retain,
        "quality": line.numbers.get(QUALITY.key(track_named(line.track))),
    }


def bar(line: Entry, name: str) -> list[float] | None:
    """[low, high]: the 95 % interval of one run, mean -+ standard deviation of several seeds; None if unknown."""
    if line.seeds > 1:
        spread = line.spread.get(name)
        return None if spread is None else [line.numbers[name] - spread, line.numbers[name] + spread]
    ends = line.intervals.get(name)
    return list(ends) if ends and None not in ends else None
