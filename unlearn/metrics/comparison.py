"""Tests between two models on the same rows. The unit is the person: rows of one person stand and fall together."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearn.metrics.intervals import Names, interval, means_without, unit_numbers

Floats = NDArray[np.float64]
EXACT = 20  # people up to which all sign patterns are counted
DRAWS = 10_000
POWER = 8.564  # (1.645 + 1.2816)^2: two one-sided tests at 5 %, power .8


def person_differences(a: ArrayLike, b: ArrayLike, people: Sequence[str]) -> Floats:
    """[P]: the sum over a person's rows of a - b, in the order of first appearance. ValueError: other lengths."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(difference) != len(people):
        raise ValueError(f"{len(difference)} rows of {len(people)} people: both models need the same rows")
    names = list(dict.fromkeys(people))
    totals = np.zeros(len(names))
    np.add.at(totals, [names.index(person) for person in people], difference)
    return totals


def paired_interval(
    a: ArrayLike,
    b: ArrayLike,
    people: Names,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, float | None, float | None]:
    """(difference, low, high): the mean over rows of a - b [N] and its interval over people, the same person left out
    of both models (metrics/intervals.py). No ends below four people.

    Args:
        people: [N] whose each row is.
        bounds: what the difference can be at least and at most: (-1, 1) for numbers that lie in [0, 1].
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(difference) != len(people):
        raise ValueError(f"{len(difference)} rows of {len(people)} people: both models need the same rows")
    mean = float(difference.mean())
    ends = interval(mean, [means_without(difference, unit_numbers(people))], bounds=bounds, level=level)
    return (mean, None, None) if ends is None else (mean, ends[0], ends[1])


def sign_flip_p(a: ArrayLike, b: ArrayLike, people: Sequence[str], *, seed: int = 0) -> float:
    """p of "no difference": the share of sign patterns over people whose total is as far from 0 as the one seen.

    All 2^m patterns up to 20 people, else (1 + count) / (1 + 10,000) seeded draws. Never below 2^(1 - m): six people
    cannot give less than 1/32.
    """
    totals = person_differences(a, b, people)
    seen = abs(totals.sum()) - 1e-12
    if len(totals) <= EXACT:
        sums = np.zeros(1)
        for value in totals:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= seen))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(DRAWS, len(totals)))
    return (1 + int(np.sum(np.abs(signs @ totals) >= seen))) / (1 + DRAWS)


def swap_p(
    parts: Sequence[tuple[ArrayLike, ArrayLike, Sequence[Hashable]]],
    combine: Callable[[Floats], Floats],
    *,
    seed: int = 0,
) -> float:
    """The p of `sign_flip_p` for a number made of several means: a person's rows, in all parts, change models.

    For one mean this is the flip of the person's sign. Equal names are one person; both models keep all their rows.

    Args:
        parts: (a [N], b [N], people [N]) of each mean.
        combine: means [parts, D] -> numbers [D], such as their harmonic mean.
    """
    names = {person: place for place, person in enumerate(dict.fromkeys(one for part in parts for one in part[2]))}
    ours, theirs = np.zeros((2, len(parts), len(names)))
    for place, (a, b, people) in enumerate(parts):
        columns = [names[person] for person in people]
        np.add.at(ours[place], columns, np.asarray(a, dtype=np.float64) / len(columns))
        np.add.at(theirs[place], columns, np.asarray(b, dtype=np.float64) / len(columns))
    both = (ours + theirs).sum(1, keepdims=True)

    def distance(means: Floats) -> Floats:  # between a model with these means [parts, D] and the other one
        return np.abs(combine(means) - combine(both - means))

    seen = distance(ours.sum(1, keepdims=True))[0] - 1e-12
    if len(names) <= EXACT:
        means = np.zeros((len(parts), 1))
        for own, other in zip(ours.T, theirs.T, strict=True):
            means = np.concatenate([means + own[:, None], means + other[:, None]], axis=1)
        return float(np.mean(distance(means) >= seen))
    swapped = np.random.default_rng(seed).integers(0, 2, size=(len(names), DRAWS))
    count = np.sum(distance(ours @ (1 - swapped) + theirs @ swapped) >= seen)
    return (1 + int(count)) / (1 + DRAWS)


def smallest_p(people: int) -> float:
    """The smallest p that this many people can give, however far apart the models are."""
    return 2.0 ** (1 - people) if people <= EXACT else 1 / (1 + DRAWS)


def holm(p: ArrayLike) -> Floats:
    """[M]: p-values corrected for their number (Holm 1979): p_(r) (m - r + 1), running maximum, at most 1."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected


def equivalence(interval90: Sequence[float] | None, margin: float) -> Literal["equal", "different", "unknown"]:
    """What a 90 % interval of model - gold says: inside (-margin, margin) "equal", else without 0 "different".

    "No significant difference" is not "alike": an interval that is wide, or not there, is "unknown".
    """
    if margin <= 0:
        raise ValueError(f"margin={margin} must be above 0")
    if interval90 is None:
        return "unknown"
    low, high = interval90
    if -margin < low and high < margin:
        return "equal"
    return "different" if low > 0 or high < 0 else "unknown"


def people_needed(person_differences: ArrayLike, margin: float) -> int:
    """How many people it takes to call two equal models equal within `margin`, with power .8: from person means."""
    deviation = float(np.std(np.asarray(person_differences, dtype=np.float64), ddof=1))
    return math.ceil(POWER * (deviation / margin) ** 2)


def leakage(m: float, g: float, b: float) -> float | None:
    """(m - g) / (b - g), not clipped: 0 as gold, 1 as before unlearning. None where base and gold are equal; the caller
    leaves it out too where the 95 % interval of b - g holds 0."""
    return None if b == g else (m - g) / (b - g)
