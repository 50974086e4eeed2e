"""How much of the answers to forget a model has by heart, token by token, where `<task>.tokens.json` says it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.scores import Facts, Units, answers_of, rows_of
from unlearn.metrics.aggregates import Track
from unlearn.metrics.intervals import interval, means_without
from unlearn.metrics.memorisation import exact_memorisation, extraction_strength
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.metrics.probability import answer_probability
from unlearn.metrics.truth_ratio import truth_ratio
from unlearn.results import EvalLog
from unlearn.token_log import read_tokens, tokens_path

NUMBERS = {"ES": extraction_strength, "EM": exact_memorisation}
UNMEASURED = "unmeasured"


def memorisation(
    log: EvalLog, gold: EvalLog, base: EvalLog | None, track: Track, units: Units
) -> dict[str, dict[str, Any] | list[str] | None]:
    """{forget task: {"ES" | "EM": {mean, interval, gold, base}} | None, "unmeasured": why each None is one}.

    ES: extraction strength, EM: exact memorisation, means over rows without the end token. gold, base: theirs on the
    same rows, None where their scores of tokens are not there. The interval is over people.
    """
    found: dict[str, dict[str, Any] | list[str] | None] = {}
    unmeasured: list[str] = []
    for task in track.tasks:
        if not task.to_forget:
            continue
        ours, golds, bases = (None if one is None else _items(one, task.name) for one in (log, gold, base))
        if ours is None:
            file = tokens_path(".", task.name).name
            unmeasured.append(f"{task.label}: no {file} beside the log (evaluate with token_scores=true)")
        found[task.label] = None if ours is None else {
            name: {
                "mean": _mean(ours[name]),
                "interval": _interval(ours[name], units.numbers[task.label]),
                "gold": golds and _mean(golds[name]),
                "base": bases and _mean(bases[name]),
            }
            for name in NUMBERS
        }  # fmt: skip
    return {**found, UNMEASURED: unmeasured}


def memorisation_score(log: EvalLog, track: Track, facts: Facts) -> float | None:
    """The harmonic mean of 1 - ES, 1 - EM, 1 - p of the base answer and 1 - 1 / (1 + R), means over the forget task's
    rows with R geometric: high where little is known by heart. None without scores of tokens."""
    items = _items(log, track.forget.name)
    if items is None or not all(np.isfinite(values).any() for values in items.values()):
        return None
    answers = answers_of(log, track.forget, facts[track.forget.name])
    ratios = truth_ratio(answers.base, answers.wrong, mean="geometric")
    likely = answer_probability(answers.base)
    known = [np.nanmean(items["ES"]), np.nanmean(items["EM"]), likely.mean(), (1 / (1 + ratios)).mean()]
    return harmonic_mean([max(0.0, 1 - float(value)) for value in known])


def _items(log: EvalLog, task: str) -> dict[str, NDArray[np.float64]] | None:
    """[N] of each number, rows in their fixed order; NaN for an answer without a token of text."""
    tokens = read_tokens(log, task)
    if tokens is None:
        return None
    hits = [np.array(tokens[row]["hits"][:-1], dtype=bool) for row in rows_of(log.tasks[task])]
    return {name: np.array(number(hits), dtype=np.float64) for name, number in NUMBERS.items()}


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _interval(values: NDArray[np.float64], people: NDArray[np.intp]) -> list[float] | None:
    known = np.isfinite(values)
    if not known.any():
        return None
    numbers = np.unique(people[known], return_inverse=True)[1]
    return interval(float(values[known].mean()), [means_without(values[known], numbers)])
