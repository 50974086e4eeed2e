"""What forgetting cost elsewhere, beside base: holes near the forgotten, and refusals where there was nothing to
refuse."""

from typing import Any

import numpy as np

from unlearn.leaderboard.scores import Scores, Units, kept_of, rows_of
from unlearn.metrics.aggregates import Task, Track
from unlearn.metrics.holes import knowledge_hole, nearest, nearness, tfidf
from unlearn.metrics.intervals import interval, means_without
from unlearn.results import EvalLog

REDACTED = "the log is redacted, and nearness is one of texts"
HOLE, OVER_REFUSAL = "Knowledge hole", "Over-refusal"


def collateral(log: EvalLog, scores: Scores, base: Scores, track: Track, units: Units) -> dict[str, Any]:
    """`knowledge holes`: {retain task: {"near", "rest": mean drop base - model of Prob., "hole": near - rest, its
    interval over people}}, "near" being the tenth of rows whose text is nearest to one to forget; `Knowledge hole`:
    that of the first of these tasks; `Over-refusal`: refusal rate outside the forget tasks, model minus base, mean over
    tasks (None without a refusal bank)."""
    parts = track.composites["Retain metric"]
    tasks = [task for task in track.tasks if any(part.endswith(f" {task.label}") for part in parts)]
    holes = {task.label: _hole(log, scores, base, track, units, task) for task in tasks}
    rates = [f"Refusal rate {task.label}" for task in track.tasks if not task.to_forget]
    more = [scores.means[name] - base.means[name] for name in rates if name in scores.means and name in base.means]
    return {
        "knowledge holes": holes,
        HOLE: next((hole["hole"] for hole in holes.values()), None),
        OVER_REFUSAL: float(np.mean(more)) if more else None,
    }


def _hole(log: EvalLog, scores: Scores, base: Scores, track: Track, units: Units, task: Task) -> dict[str, Any]:
    """Of one retain task, beside the forget task of the same kind ("Retain FaceRec", "Forget FaceRec")."""
    twin = next((one for one in track.tasks if one.label == task.label.replace("Retain", "Forget")), track.forget)
    texts = [
        [log.tasks[one.name]["generated_text"][row][2] for row in rows_of(log.tasks[one.name])] for one in (task, twin)
    ]
    if kept_of(log, task.name) is not None:  # nearness is one of texts
        return {"near": None, "rest": None, "hole": None, "interval": None, "unmeasured": REDACTED}
    table = tfidf([*texts[0], *texts[1]])
    near = nearness(table[: len(texts[0])], table[len(texts[0]) :])
    drop = base.items[f"Prob. {task.label}"] - scores.items[f"Prob. {task.label}"]
    chosen, people = nearest(near), units.numbers[task.label]
    hole, count = knowledge_hole(drop, near), int(people.max()) + 1
    if hole is None:
        return {"near": float(drop[0]), "rest": None, "hole": None, "interval": None}
    without = means_without(drop[chosen], people[chosen], count) - means_without(drop[~chosen], people[~chosen], count)
    return {
        "near": float(drop[chosen].mean()), "rest": float(drop[~chosen].mean()), "hole": hole,
        "interval": interval(hole, [without], bounds=(-2.0, 2.0)),
    }  # fmt: skip
