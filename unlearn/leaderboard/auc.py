"""The uncertainty of an attack's AUC: people of both sets are drawn apart, so each is left out in turn."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.intervals import interval, unit_numbers
from unlearn.metrics.membership import resampled_auc

Array = NDArray[np.float64]


def aucs_without(
    forget: Array, holdout: Array, forget_people: Sequence[str], holdout_people: Sequence[str]
) -> tuple[Array, Array]:
    """The AUC of scores [F] and [H] (high = looks unseen) without each person to forget, and without each of the
    holdout; NaN where nobody would be left."""
    weights = []
    for people in (forget_people, holdout_people):
        units = unit_numbers(people)
        weights.append((units[None] != np.arange(units.max() + 1)[:, None]).astype(np.float64))
    left, right = weights
    every_f, every_h = np.ones((len(right), len(forget))), np.ones((len(left), len(holdout)))
    return resampled_auc(forget, holdout, left, every_h), resampled_auc(forget, holdout, every_f, right)


def auc_interval(auc: float, without: tuple[Array, Array]) -> list[float] | None:
    """[low, high] within 0 and 1; None below four people of either set.

    An AUC of few people often is 1 or 0, and without one person it is not: as a logit that would be infinitely far. So
    the logit is taken between bounds that are half a pair of people wider.
    """
    half = 0.5 / (len(without[0]) * len(without[1]))
    ends = interval(auc, without, bounds=(-half, 1 + half))
    return ends and [min(1.0, max(0.0, end)) for end in ends]


def auc_difference(auc: float, other: float, without: Sequence[Array], others: Sequence[Array]) -> list[float | None]:
    """[auc - other, low, high] of two models on the same people, who are left out of both; no ends below four."""
    ends = interval(auc - other, [a - b for a, b in zip(without, others, strict=True)], bounds=(-1.0, 1.0))
    return [auc - other, *(ends or (None, None))]
