"""Intervals by hand, their coverage simulated, and what they do at the edges."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from unlearn.metrics.intervals import interval, interval_of_draws, means_without, unit_numbers

LINE = (-math.inf, math.inf)


def without_each(values):
    """The mean of equal people [.., P] without each of them."""
    return (values.sum(-1, keepdims=True) - values) / (values.shape[-1] - 1)


def test_means_without_by_hand():
    """People b (1, 3), a (5), c (0): without a 4/3, without b 5/2, without c 3."""
    units = unit_numbers(["b", "b", "a", "c"])
    assert units.tolist() == [1, 1, 0, 2]
    assert means_without([1.0, 3.0, 5.0, 0.0], units) == pytest.approx([4 / 3, 5 / 2, 3.0])
    assert means_without([2.0, 4.0], np.array([0, 2]), 4) == pytest.approx([4.0, 3.0, 2.0, 3.0])
    assert np.isnan(means_without([1.0, 2.0], np.array([0, 0]))).all(), "nothing is left"


def test_on_the_line_it_is_students_interval():
    """1, 2, 4, 5: mean 3, deviations -2, -1, 1, 2, s^2 = 10/3, no skewness; t of three degrees 3.18245."""
    values = np.array([1.0, 2.0, 4.0, 5.0])
    half = 3.1824463052842 * math.sqrt(10 / 3 / 4)
    assert interval(3.0, [without_each(values)], bounds=LINE) == pytest.approx([3 - half, 3 + half], rel=1e-6)
    half = t.ppf(0.95, 3) * math.sqrt(10 / 3 / 4)
    assert interval(3.0, [without_each(values)], bounds=LINE, level=0.9) == pytest.approx([3 - half, 3 + half])


def test_skewed_people_widen_it_by_hand():
    """0, 0, 0, 4: s^2 = 4, deviations -1, -1, -1, 3: skew^2 = 24^2 / 12^3 = 1/3."""
    x = norm.ppf(0.975)
    half = t.ppf(0.975, 3) * 1.0 * (1 + (x**4 + 2 * x**2 - 3) / 18 / 3)
    values = np.array([0.0, 0.0, 0.0, 4.0])
    assert interval(1.0, [without_each(values)], bounds=LINE) == pytest.approx([1 - half, 1 + half])


def test_two_samples_add_their_variances_with_welchs_degrees_of_freedom():
    rng = np.random.default_rng(0)
    a, b = np.array([-2.0, -1, 1, 2]), np.sort(rng.normal(size=6))
    b = (b - b[::-1]) / 2  # symmetric: no skewness
    va, vb = a.var(ddof=1) / 4, b.var(ddof=1) / 6
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 5)
    half = t.ppf(0.975, freedom) * math.sqrt(va + vb)
    found = interval(7.0, [7 + without_each(a), 7 - without_each(b)], bounds=LINE)
    assert found == pytest.approx([7 - half, 7 + half])


def test_it_stays_within_bounds_and_mirrors():
    values = np.array([0.001, 0.002, 0.9, 0.02, 0.03])
    low, high = interval(values.mean(), [without_each(values)])
    assert 0 < low < values.mean() < high < 1
    mirrored = interval(1 - values.mean(), [1 - without_each(values)])
    assert mirrored == pytest.approx([1 - high, 1 - low])
    percent = interval(100 * values.mean(), [100 * without_each(values)], bounds=(0.0, 100.0))
    assert percent == pytest.approx([100 * low, 100 * high])
    words = np.array([3.0, 90.0, 5.0, 400.0])
    assert interval(words.mean(), [without_each(words)], bounds=(0.0, math.inf))[0] > 0


@pytest.mark.parametrize("people", [[1.0, 0, 0, 0, 0], [0, 1.0, 1, 1, 1], [0, 0, 1.0, 1, 1]])
def test_zeros_and_ones_stay_in_bounds(people):
    values = np.array(people)
    low, high = interval(values.mean(), [without_each(values)])
    assert 0 <= low < values.mean() < high <= 1


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_no_spread_gives_the_number_itself(value):
    assert interval(value, [np.full(5, value)]) == [value, value]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_interval_below_four(count):
    assert interval(0.5, [np.linspace(0.4, 0.6, count)]) is None
    assert interval(0.5, [np.linspace(0.4, 0.6, 9), np.linspace(0.4, 0.6, count)]) is None
    assert interval_of_draws([0.4, 0.6], 0.5, [(9, 9), (9, count)]) is None
    assert interval(0.5, []) is None
    assert interval(0.5, [[0.4, 0.5, 0.6, math.nan]]) is None


def test_draws_are_stretched_by_hand():
    """Draws 0, .01, ..., 1; four units in either stratum: sqrt(4/3) t_6 / z about .5, from .025 and .975; then cut."""
    draws = np.linspace(0.45, 0.55, 101)
    stretch = math.sqrt(4 / 3) * t.ppf(0.975, 6) / norm.ppf(0.975)
    half = 0.0475 * stretch
    assert interval_of_draws(draws, 0.5, [(4, 4), (40, 40)]) == pytest.approx([0.5 - half, 0.5 + half])
    assert interval_of_draws(np.linspace(0, 1, 101), 0.5, [(4, 4)]) == [0.0, 1.0]
    assert interval_of_draws([1.0, 1.0], 1.0, [(4, 4)]) == [1.0, 1.0]


def beta(rng, mean, share, size):
    """Beta numbers of this mean whose variance is `share` * mean (1 - mean)."""
    mean = np.clip(mean, 1e-9, 1 - 1e-9)
    return rng.beta(mean * (1 - share) / share, (1 - mean) * (1 - share) / share, size=size)


@pytest.mark.parametrize(("people", "mean"), [(6, 0.5), (6, 0.05), (10, 0.95), (20, 0.5)])
def test_coverage_of_means_of_people_who_differ(people, mean):
    """17 items each, .8 of the variance between people: .93 to .97 hold the truth (a percentile bootstrap: .85 at
    six). A share of 2,000 studies is known to .005."""
    rng = np.random.default_rng(people)
    own = beta(rng, mean, 0.16, (2000, people, 1))
    studies = beta(rng, own, 0.04 / 0.84, (2000, people, 17)).mean(axis=2)
    rest = without_each(studies)
    ends = [interval(one, [other]) for one, other in zip(studies.mean(axis=1), rest, strict=True)]
    assert 0.93 <= np.mean([low <= mean <= high for low, high in ends]) <= 0.97


def test_a_gap_without_difference_is_rarely_above_nothing():
    """The memorisation gate at six people: .025 of studies, not the percentile bootstrap's .06."""
    rng = np.random.default_rng(1)
    gaps = beta(rng, 0.4, 0.1, (2000, 6)) - beta(rng, 0.4, 0.1, (2000, 6))
    ends = [
        interval(gap, [rest], bounds=(-1.0, 1.0)) for gap, rest in zip(gaps.mean(1), without_each(gaps), strict=True)
    ]
    assert 0.015 <= np.mean([low > 0 for low, _ in ends]) <= 0.035
