import itertools

import numpy as np
import pytest

from unlearn.metrics.comparison import (
    equivalence,
    holm,
    leakage,
    paired_interval,
    people_needed,
    person_differences,
    sign_flip_p,
    smallest_p,
    swap_p,
)
from unlearn.metrics.model_utility import harmonic_mean, harmonic_means


def p_of(differences):
    people = [str(i) for i in range(len(differences))]
    return sign_flip_p(differences, [0.0] * len(differences), people)


def test_sign_flips_by_hand():
    assert p_of([1, 2, 3]) == 0.25
    assert p_of([1, -1, 2, 4]) == 0.375
    assert p_of([1] * 6) == 1 / 32


def test_the_unit_is_the_person():
    a, people = [1.0, 2.0, 5.0, 1.0], ["x", "y", "x", "y"]
    assert person_differences(a, [0.0] * 4, people).tolist() == [6.0, 3.0]
    assert sign_flip_p(a, [0.0] * 4, people) == p_of([6, 3])
    with pytest.raises(ValueError, match="2 rows of 1 people"):
        person_differences([1, 2], [0, 0], ["x"])


def test_many_people_are_drawn_and_agree_with_the_exact_count():
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 1, 20)
    exact = p_of(values)
    drawn = p_of([*values, 0.0])  # a person without a difference changes nothing but the way of counting
    assert drawn == pytest.approx(exact, abs=0.02) and drawn == p_of([*values, 0.0])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.5])
    assert holm([]).tolist() == [] and holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-0.04, 0.04), "equal"), ((0.01, 0.04), "equal"), ((0.01, 0.2), "different"), ((-0.2, -0.06), "different"),
     ((-0.2, 0.2), "unknown"), (None, "unknown"), ((-0.05, 0.01), "unknown")],
)  # fmt: skip
def test_equivalence(interval, verdict):
    assert equivalence(interval, 0.05) == verdict


def test_people_needed_and_leakage_by_hand():
    differences = [0.1, -0.1, 0.1, -0.1, 0.1, -0.1]
    spread = np.std(differences, ddof=1)
    assert people_needed(np.array(differences) * 0.1 / spread, 0.05) == 35
    assert leakage(0.5, 0.2, 0.8) == pytest.approx(0.5) and leakage(0.5, 0.3, 0.3) is None


def test_a_paired_interval_by_hand():
    """Differences 1, 2, 3, 4 of four people: s = 1.29099, standard error .645497, t(3) = 3.18245 (.975), 2.35336 (.95);
    they are not skewed."""
    a, b, people = [2.0, 4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0], ["a", "b", "c", "d"]
    assert paired_interval(a, b, people) == pytest.approx((2.5, 2.5 - 2.054262, 2.5 + 2.054262), abs=1e-5)
    assert paired_interval(a, b, people, level=0.9) == pytest.approx((2.5, 2.5 - 1.519089, 2.5 + 1.519089), abs=1e-5)
    assert paired_interval(b, a, people) == pytest.approx((-2.5, -4.554262, -0.445738), abs=1e-5)


def test_a_paired_interval_needs_four_people_and_rows_of_one_person_are_one():
    a, b = np.linspace(0, 1, 9) ** 2, np.linspace(0, 1, 9)
    mean = float(np.mean(a - b))
    assert paired_interval(a, b, ["a", "b", "c"] * 3) == (pytest.approx(mean), None, None)
    six = ["a", "b", "c", "d", "e", "f"]
    once = paired_interval(a[:6], b[:6], six)
    assert paired_interval(np.repeat(a[:6], 5), np.repeat(b[:6], 5), np.repeat(six, 5)) == pytest.approx(once)
    order = [3, 0, 5, 1, 4, 2]
    assert paired_interval(a[order], b[order], [six[i] for i in order]) == pytest.approx(once)
    _, low, high = paired_interval([1.0, 1, 1, 0.9, 1], [0.0, 0, 0, 0.1, 0.02], list("abcde"), bounds=(-1, 1))
    assert low < 0.95 < high <= 1
    with pytest.raises(ValueError, match="2 rows of 1 people"):
        paired_interval([1, 2], [0, 0], ["x"])


def test_swapping_people_in_one_mean_flips_their_signs():
    rng = np.random.default_rng(1)
    a, b, people = rng.random(14), rng.random(14), [str(i % 7) for i in range(14)]
    assert swap_p([(a, b, people)], lambda means: means[0]) == sign_flip_p(a, b, people)
    many = [str(i) for i in range(25)]
    a, b = rng.random(25), rng.random(25) + 0.1
    drawn = swap_p([(a, b, many)], lambda means: means[0])
    assert drawn == pytest.approx(sign_flip_p(a, b, many), abs=0.02)
    assert [smallest_p(6), smallest_p(1), smallest_p(25)] == [1 / 32, 1.0, 1 / 10_001]
    assert swap_p([(np.ones(25), np.zeros(25), many)], lambda means: means[0]) == smallest_p(25)


def test_a_composite_by_swapping_every_set_of_people():
    """The slow form: whole rows change models, harmonic means are taken anew. Two parts, of uneven rows per person."""
    rng = np.random.default_rng(2)
    people = [list("aabcd"), list("abbcce")]
    parts = [(rng.random(len(own)), rng.random(len(own)), own) for own in people]
    names = sorted({person for own in people for person in own})
    distances = []
    for chosen in itertools.product([False, True], repeat=len(names)):
        swap = dict(zip(names, chosen, strict=True))
        ours = [np.mean([b[i] if swap[who] else a[i] for i, who in enumerate(own)]) for a, b, own in parts]
        theirs = [np.mean([a[i] if swap[who] else b[i] for i, who in enumerate(own)]) for a, b, own in parts]
        distances.append(abs(harmonic_mean(ours) - harmonic_mean(theirs)))
    expected = np.mean(np.array(distances) >= distances[0] - 1e-12)
    assert swap_p(parts, harmonic_means) == expected
    assert 1 / 32 < expected < 1
