from itertools import combinations

import numpy as np
import pytest

from unlearn.metrics.leak import leak_at_k


def test_by_hand():
    values = [0.1, 0.9, 0.4, 0.4]
    assert [leak_at_k(values, k) for k in (1, 2, 3, 4)] == pytest.approx([0.45, 0.65, 0.775, 0.9])


@pytest.mark.parametrize("k", [1, 3, 6])
def test_equals_the_mean_over_all_subsets(k):
    values = np.random.default_rng(k).random(6)
    slow = np.mean([max(subset) for subset in combinations(values, k)])
    assert leak_at_k(values, k) == pytest.approx(slow)


def test_of_ones_and_zeros_it_is_pass_at_k():
    # n 64, c 1: 1 - C(63, 16) / C(64, 16) = 16 / 64
    assert leak_at_k([1.0] + [0.0] * 63, 16) == pytest.approx(0.25)
    assert leak_at_k([1.0] + [0.0] * 63, 64) == 1.0


@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_samples_is_refused(k):
    with pytest.raises(ValueError, match=f"leak@{k} of 4 samples"):
        leak_at_k([0.0] * 4, k)
