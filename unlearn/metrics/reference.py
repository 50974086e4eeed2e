"""The numbers of the released scripts, computed from the same log (facts: the checkout of 2025-08-06, docs/metrics.md).

Kept beside the `paper` numbers so that a row can be compared with published ones. They differ in that mm takes one mean
over all wrong losses of a split, c / w instead of w / c, min(r, 1/r) on forget tasks, and raw vectors row by row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import ks_2samp

from unlearn.metrics.aggregates import Released, Track
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.metrics.probability import answer_probability, choice_probability


@dataclass(frozen=True)
class TaskLosses:
    """One task of a log: nats per token [N] of exact and base answers, N lists for the wrong ones, ROUGE-L recall
    [N]."""

    right: NDArray[np.float64]
    base: NDArray[np.float64]
    wrong: Sequence[NDArray[np.float64]]
    rouge: NDArray[np.float64]


def reference_numbers(tasks: Mapping[str, TaskLosses], gold: TaskLosses, track: Track) -> dict[str, float]:
    """Every number of the released scripts under its published key; none where the track has no such scripts.

    tasks: by label; gold: the gold model's forget task, rows in the same order as the model's.
    """
    if (released := track.released) is None:
        return {}
    numbers: dict[str, float] = {}
    for task in track.tasks:
        losses = tasks[task.label]
        probability = (
            answer_probability(losses.right) if task.caption else choice_probability(losses.right, losses.wrong)
        )
        numbers[f"Prob. {task.label}"] = float(np.mean(probability))
        numbers[f"ROUGE {task.label}"] = float(np.mean(losses.rouge))
        numbers[f"Truth Ratio {task.label}"] = _truth_ratio_score(_log_ratio(losses, released), task.to_forget)
    numbers["Model Utility"] = harmonic_mean(value for name, value in numbers.items() if "Forget" not in name)

    log_model, log_gold = _log_ratio(tasks[track.forget.label], released), _log_ratio(gold, released)
    p_value = float(ks_2samp(_exp(log_model), _exp(log_gold)).pvalue)
    if track.quality == "ks":
        return {**numbers, "Forget Quality": p_value}
    numbers["KS test p-value"] = p_value
    numbers["JS metric"] = _vector_distance(log_model, log_gold)
    for name, parts in released.composites.items():
        numbers[name] = harmonic_mean(numbers[part] for part in parts)
    numbers["Forget Quality"] = 1.0 - numbers["JS metric"]
    return numbers


def _log_ratio(losses: TaskLosses, released: Released) -> NDArray[np.float64]:
    """ln r [N], r = c / w: over one mean of all wrong losses of the task (mm), or over each item's own mean (nlp).

    Where rows have different numbers of wrong answers the released code raises; here all losses have the same weight.
    """
    if released.wrong_losses == "split":
        return np.concatenate(losses.wrong).mean() - losses.base
    return np.array([wrong.mean() for wrong in losses.wrong]) - losses.base


def _truth_ratio_score(log_ratio: NDArray[np.float64], forget: bool) -> float:
    """Mean min(r, 1/r) on forget tasks, mean max(0, 1 - 1/r) on the others."""
    if forget:
        return float(np.mean(np.exp(-np.abs(log_ratio))))
    return float(np.mean(np.maximum(0.0, 1.0 - _exp(-log_ratio))))


def _vector_distance(log_model: NDArray[np.float64], log_gold: NDArray[np.float64]) -> float:
    """scipy's base-e Jensen-Shannon distance of the raw vectors; where they overflow, of the same vectors rescaled."""
    model, gold = _exp(log_model), _exp(log_gold)
    if not all(np.isfinite(vector).all() and 0 < vector.sum() < np.inf for vector in (model, gold)):
        model, gold = softmax(log_model), softmax(log_gold)
    with np.errstate(invalid="ignore"):
        distance = float(jensenshannon(model, gold))
    return 0.0 if np.isnan(distance) else distance  # the root of a zero that rounding made negative


def _exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.exp(values)
