import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.metrics.model_utility import harmonic_mean, harmonic_means


def test_by_hand():
    assert harmonic_mean([1.0, 0.5, 0.25]) == pytest.approx(3 / 7)
    assert harmonic_mean(iter([0.3])) == pytest.approx(0.3)


def test_a_zero_makes_it_zero():
    with np.errstate(all="raise"):
        assert harmonic_mean([0.9, 0.0]) == 0.0
        assert harmonic_mean([0.9, 1e-320]) == pytest.approx(0.0, abs=1e-300)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=12))
def test_between_the_smallest_and_the_arithmetic_mean(values):
    got = harmonic_mean(values)
    assert min(values) * (1 - 1e-12) <= got <= np.mean(values) * (1 + 1e-12)
    assert harmonic_mean(values[::-1]) == pytest.approx(got)
    columns = np.stack([np.array(values), np.ones(len(values))], axis=1)
    assert harmonic_means(columns) == pytest.approx([got, 1.0])


@pytest.mark.parametrize("values", [[], [0.5, -0.1]])
def test_nothing_and_negative_values_are_refused(values):
    with pytest.raises(ValueError, match="one or more values >= 0"):
        harmonic_mean(values)
