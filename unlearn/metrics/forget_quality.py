"""Forget Quality: how close the truth ratios of an unlearned model are to those of the gold model, as distributions.

CLEAR (5.1) takes 1 - the Jensen-Shannon distance, TOFU the p-value of a two-sample Kolmogorov-Smirnov test. R is
unbounded, so distances are taken on u = R / (1 + R) in [0, 1]. The released code compares raw vectors: reference.py.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp

from unlearn.metrics.intervals import Names, unit_numbers

BINS = 20
ORIGINS = 8  # one fixed grid has an edge at R = 1 (u = 1/2), just where gold lies
FINE = BINS * ORIGINS


def bounded_ratio(R: ArrayLike) -> NDArray[np.float64]:
    """u = R / (1 + R), in [0, 1]; 1 where R is infinite. u(1/R) = 1 - u(R)."""
    R = np.asarray(R, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        return 1.0 / (1.0 + 1.0 / R)


def js_forget_quality(R_model: ArrayLike, R_gold: ArrayLike) -> float:
    """1 - JSD in [0, 1], 1 for equal distributions. R: truth ratios [N], [M].

    Both models' u are histogrammed on the same 20-bin grid of [0, 1], at 8 shifted origins, without smoothing; JSD is
    the base-2 Jensen-Shannon distance, averaged over the grids. Two samples of one distribution differ too: null_floor.
    """
    model, gold = fine_counts(_checked(R_model)), fine_counts(_checked(R_gold))
    return float(js_quality_of_counts(model, gold))


def fine_counts(R: ArrayLike) -> NDArray[np.float64]:
    """Counts of u in the 160 cells [160] of which every shifted 20-bin grid is made. R: [N]."""
    return counts_by_unit(R, np.zeros(np.size(R), dtype=np.intp))[0]


def counts_by_unit(R: ArrayLike, units: NDArray[np.intp]) -> NDArray[np.float64]:
    """The counts of each unit's own items [units, 160]. R: [N]; units: [N] 0, 1, ..."""
    cells = np.minimum((bounded_ratio(R) * FINE).astype(np.intp), FINE - 1)  # u = 1 belongs to the last cell
    count = int(units.max()) + 1
    return np.bincount(units * FINE + cells, minlength=count * FINE).reshape(count, FINE).astype(np.float64)


def js_quality_of_counts(model: NDArray[np.float64], gold: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - JSD [...] from fine counts [..., 160] of both models (any positive totals)."""
    distances = [_js_distance(_coarse(model, shift), _coarse(gold, shift)) for shift in range(ORIGINS)]
    return 1.0 - np.mean(distances, axis=0)


def _coarse(counts: NDArray[np.float64], shift: int) -> NDArray[np.float64]:
    """Probabilities [..., 21] of the bins of width 1/20 that start `shift`/160 before 0."""
    edges = [(0, 0)] * (counts.ndim - 1) + [(shift, ORIGINS - shift)]
    bins = np.pad(counts, edges).reshape(*counts.shape[:-1], BINS + 1, ORIGINS).sum(axis=-1)
    with np.errstate(invalid="ignore"):  # NaN where no item is left
        return bins / bins.sum(axis=-1, keepdims=True)


def _js_distance(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the base-2 Jensen-Shannon divergence of distributions [..., B], in [0, 1]."""
    middle = (p + q) / 2

    def kl_to_middle(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sum(x * np.log2(np.divide(x, middle, out=np.ones_like(x), where=x > 0)), axis=-1)

    divergence = (kl_to_middle(p) + kl_to_middle(q)) / 2
    return np.sqrt(np.clip(divergence, 0.0, 1.0))


def ks_forget_quality(R_model: ArrayLike, R_gold: ArrayLike) -> tuple[float, float]:
    """(statistic, p-value) of the two-sample Kolmogorov-Smirnov test (TOFU's forget quality is the p-value).

    The test takes items as independent; they come in few people, so that a small p overstates.
    """
    result = ks_2samp(_checked(R_model), _checked(R_gold))
    return float(result.statistic), float(result.pvalue)


def wasserstein_distance(R_model: ArrayLike, R_gold: ArrayLike) -> float:
    """Wasserstein-1 distance of the two samples of u, in [0, 1]: the area between their distribution functions."""
    model, gold = np.sort(bounded_ratio(_checked(R_model))), np.sort(bounded_ratio(_checked(R_gold)))
    points = np.sort(np.concatenate([model, gold]))
    gap = np.searchsorted(model, points, "right") / len(model) - np.searchsorted(gold, points, "right") / len(gold)
    return float(np.sum(np.abs(gap[:-1]) * np.diff(points)))


def null_floor(
    R_model: ArrayLike,
    R_gold: ArrayLike,
    *,
    people: Names | None = None,
    draws: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Mean and 5 % quantile of 1 - JSD when model and gold are swapped at random within people, or within items.

    This is what no difference looks like at this sample size. Where truth ratios vary by person, swapping items apart
    mixes what belongs together and promises too much. Few people can be swapped in few ways (2^(P - 1)), and one way is
    the two models themselves: below six people no model can fall under the 5 % quantile.

    Args:
        R_model, R_gold: [N] of the same items in the same order.
        people: [N] whose item each is; None, or None among them: not known, and items are swapped one by one.
    """
    model, gold = _checked(R_model), _checked(R_gold)
    if len(model) != len(gold):
        raise ValueError(f"{len(model)} truth ratios of the model for {len(gold)} of gold: the rows must be the same")
    if people is not None and len(people) != len(model):
        raise ValueError(f"{len(people)} names of people for {len(model)} truth ratios: each item needs one")
    unit = np.arange(len(model)) if people is None or None in list(people) else unit_numbers(people)
    swap = np.random.default_rng(seed).integers(0, 2, size=(draws, int(unit.max()) + 1)).astype(np.float64)
    ours, theirs = counts_by_unit(model, unit), counts_by_unit(gold, unit)
    first = (1 - swap) @ ours + swap @ theirs
    second = swap @ ours + (1 - swap) @ theirs
    quality = js_quality_of_counts(first, second)
    return float(quality.mean()), float(np.quantile(quality, 0.05))


def quality_without(R_model: ArrayLike, R_gold: ArrayLike, units: NDArray[np.intp]) -> NDArray[np.float64]:
    """1 - JSD without each unit in turn: [units]; NaN where nothing would be left. R, units: [N] of the same items."""
    model, gold = (counts_by_unit(_checked(R), units) for R in (R_model, R_gold))
    return js_quality_of_counts(model.sum(axis=0) - model, gold.sum(axis=0) - gold)


def _checked(R: ArrayLike) -> NDArray[np.float64]:
    R = np.asarray(R, dtype=np.float64)
    if R.ndim != 1 or not R.size or np.isnan(R).any() or (R < 0).any():
        raise ValueError("truth ratios must be a non-empty vector of numbers >= 0")
    return R
