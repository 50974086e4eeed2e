import numpy as np
import pytest

from unlearn.metrics.comparison import equivalence, holm, leakage, people_needed, person_differences, sign_flip_p


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
