"""Tests between two models on the same rows. The unit is the person: rows of one person stand and fall together."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
