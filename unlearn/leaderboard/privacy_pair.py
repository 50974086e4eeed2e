"""Membership inference against two models on the same rows: whose forgotten people stand out more?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unlearn.leaderboard.auc import auc_difference, aucs_without
from unlearn.leaderboard.comparable import check_asked_alike
from unlearn.leaderboard.privacy import FEWEST, SCORED, UNMEASURED, pairs_of, scores_of, sets_of
from unlearn.metrics.aggregates import Track
from unlearn.metrics.membership import attack_auc
from unlearn.results import EvalLog, check_same_rows


def compare_privacy(a: Sequence[EvalLog], b: Sequence[EvalLog], track: Track) -> dict[str, Any]:
    """{forget task: {attack: {"A", "B": AUC, the mean over a model's runs; "difference"; "interval": 95 %, people of
    both sets left out of both models}}, "unmeasured": why a task is missing though all logs have a holdout}; no task
    where a log has none."""
    found: dict[str, Any] = {}
    unmeasured: list[str] = []
    for task, twin in pairs_of(a[0], track):
        names = (task.name, twin)
        if not all(set(names) <= set(log.tasks) for log in (*a, *b)):
            continue
        try:
            for log in (*a[1:], *b):
                check_same_rows(a[0], log, names)
                check_asked_alike(a[0], log, names)
        except ValueError as error:  # the comparison of everything else stands
            unmeasured.append(f"{task.label}: {error}")
            continue
        people = sets_of(a[0], names).people
        if len(set(people[1])) < FEWEST:
            unmeasured.append(f"{task.label}: fewer than {FEWEST} people in {twin}")
            continue
        scores = [[scores_of(log, None, names) for log in side] for side in (a, b)]
        found[task.label] = {attack: _difference([[one[attack] for one in side] for side in scores], people)
                             for attack in SCORED}  # fmt: skip
    return {**found, UNMEASURED: unmeasured} if found or unmeasured else {}


def _difference(sides: Sequence[Sequence[Any]], people: tuple[list[str], list[str]]) -> dict[str, Any] | None:
    """None where a run has no scores of this attack."""
    if any(one is None for side in sides for one in side):
        return None
    a, b = (float(np.mean([attack_auc(*one) for one in side])) for side in sides)
    each = [[aucs_without(forget, holdout, *people) for forget, holdout in side] for side in sides]
    ours, theirs = ([np.mean(part, axis=0) for part in zip(*side, strict=True)] for side in each)
    difference, *ends = auc_difference(a, b, ours, theirs)
    return {"A": a, "B": b, "difference": difference, "interval": None if None in ends else ends}


def privacy_lines(found: Mapping[str, Any]) -> list[list[str]]:
    """Cells of a table: task, attack, A, B, their difference, its interval."""
    return [
        [task, attack, f"{one['A']:.3f}", f"{one['B']:.3f}", f"{one['difference']:+.3f}",
         f"[{one['interval'][0]:+.3f}, {one['interval'][1]:+.3f}]" if one["interval"] else ""]
        for task, attacks in found.items() if task != UNMEASURED
        for attack, one in attacks.items() if one is not None
    ]  # fmt: skip
