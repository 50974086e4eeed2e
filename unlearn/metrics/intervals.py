"""Intervals from people: what a number would be without each of them in turn (the jackknife; Tukey 1958).

Items of one person stand and fall together, so people are the sample, however many items each has. Nothing is drawn:
the same rows give the same interval, in any order, and leaving the same person out of two models pairs them.

A number between two bounds is taken to the whole line first (a logit), where the spread over few people is nearer to a
normal one and no end can leave the bounds. There the interval is the number -+ Student's t times the standard error,
times 1 + k skew^2: skewed people make t too narrow by that much, to first order (Hall 1992, section 2.6).
`python benchmarks/coverage.py` simulates how often it holds the truth.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri, stdtrit

FEWEST = 4  # people; the spread of fewer is not known well enough for any interval that says something
ROUNDING = 1e-12  # a smaller spread is none

Array = NDArray[np.float64]
Names = Sequence[Hashable] | NDArray[np.generic]


def unit_numbers(names: Names) -> NDArray[np.intp]:
    """[N] 0, 1, ... for the names [N], numbered in their sorted order, so that the order of rows does not matter."""
    return np.unique(np.asarray(names), return_inverse=True)[1].reshape(-1)


def means_without(values: ArrayLike, units: NDArray[np.intp], count: int | None = None) -> Array:
    """The mean of `values` [N] without each unit in turn: [count], NaN where nothing would be left.

    `units` [N]: the number of each value's unit; `count`: how many units there are (None: the largest number plus one).
    """
    sums = np.bincount(units, np.asarray(values, dtype=np.float64), minlength=count or 0)
    sizes = np.bincount(units, minlength=count or 0)
    with np.errstate(invalid="ignore"):
        return (sums.sum() - sums) / (sizes.sum() - sizes)


def interval(
    estimate: float,
    without: Sequence[ArrayLike],
    *,
    few: Sequence[ArrayLike] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> list[float] | None:
    """[low, high] within `bounds`, or None where a sample has fewer than four units or a number is not finite.

    Args:
        estimate: the number: a mean, a harmonic mean, a difference of two models on the same people, ...
        without: for each independent sample it rests on (the people of one group of tasks, the models of a study), the
            number without each unit of that sample [units].
        few: further samples that may be as small as two units: the seeds of a model.
        bounds: what the number can be at least and at most; infinite where there is no limit.
    The samples' variances add up; degrees of freedom are Welch's and Satterthwaite's. No spread gives [number, number].
    """
    samples = [np.asarray(one, dtype=np.float64) for one in (*without, *few)]
    people = samples[: len(without)]
    if min(map(len, people), default=0) < FEWEST or not np.isfinite([estimate, *np.concatenate(samples)]).all():
        return None
    if np.allclose(np.concatenate(samples), estimate, rtol=0, atol=ROUNDING):
        return [float(estimate)] * 2
    pulls = [line.mean() - line for line in (_to_line(one, bounds) for one in samples)]  # of each unit on the number
    sizes = np.array([len(one) for one in pulls])
    variances = np.array([pull @ pull for pull in pulls]) * (sizes - 1) / sizes
    variance = variances.sum()
    shares = variances / variance
    freedom = 1.0 / (shares**2 / (sizes - 1)).sum()
    everyone = np.concatenate(pulls)
    skew = (everyone**3).sum() / (everyone**2).sum() ** 1.5
    tail, z = (1 + level) / 2, ndtri((1 + level) / 2)
    half = stdtrit(freedom, tail) * np.sqrt(variance) * (1 + (z**4 + 2 * z**2 - 3) / 18 * skew**2)
    low, high = _from_line(_to_line(np.array(estimate), bounds) + np.array([-half, half]), bounds)
    return [float(min(low, estimate)), float(max(high, estimate))]


def interval_of_draws(
    draws: ArrayLike,
    estimate: float,
    units: Sequence[Sequence[int]],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> list[float] | None:
    """[low, high] from bootstrap draws, for numbers that leaving one out cannot judge (a quantile); None as `interval`.

    The central `level` of the draws, stretched about the estimate by sqrt(n / (n - 1)) t / z and cut at the bounds:
    drawing n of n units with replacement understates the spread by that root, and few units need Student's t.

    Args:
        units: for each way of drawing (models, people), how many units each stratum has; the way with the largest
            stretch counts.
    """
    if min(size for way in units for size in way) < FEWEST or not np.isfinite(estimate):
        return None
    tail = (1 + level) / 2
    stretch = max(
        np.sqrt(min(way) / (min(way) - 1)) * stdtrit(sum(way) - len(way), tail) / ndtri(tail) for way in units
    )
    ends = np.nanquantile(np.asarray(draws, dtype=np.float64), [1 - tail, tail])
    low, high = np.clip(estimate + stretch * (ends - estimate), *bounds)
    return [float(min(low, estimate)), float(max(high, estimate))]


def _to_line(x: Array, bounds: tuple[float, float]) -> Array:
    """A logit between two bounds, a logarithm above one, else x; never infinite."""
    low, high = bounds
    if np.isinf(low):
        return x
    if np.isinf(high):
        return np.log(np.maximum(x - low, np.finfo(np.float64).tiny))
    return logit(np.clip((x - low) / (high - low), np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps))


def _from_line(y: Array, bounds: tuple[float, float]) -> Array:
    low, high = bounds
    if np.isinf(low):
        return y
    if np.isinf(high):
        return low + np.exp(np.minimum(y, 700.0))
    return low + (high - low) * expit(y)
