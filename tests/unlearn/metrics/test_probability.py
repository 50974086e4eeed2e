import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.metrics.probability import answer_probability, choice_probability

losses = st.floats(0.0, 80.0)
steady = settings(derandomize=True, deadline=None, max_examples=60)


def test_by_hand():
    """Right answer: 2 nats over 2 tokens = 1 nat per token. Wrong: 2 and ln 4 nats per token."""
    right, wrong = [1.0], [[2.0, math.log(4)]]
    p, w1, w2 = 0.36787944117144233, 0.1353352832366127, 0.25
    assert answer_probability(right)[0] == pytest.approx(p)
    assert choice_probability(right, wrong)[0] == pytest.approx(p / (p + w1 + w2))


def test_ragged_lists_and_duplicates():
    got = choice_probability([0.0, 0.0, 0.0], [[0.0], [0.0, 0.0, 0.0], [0.0, 50.0]])
    assert got == pytest.approx([1 / 2, 1 / 4, 1 / 2])


def test_collapsed_models_do_not_divide_zero_by_zero():
    """At 900 nats every probability underflows to 0; their ratio is still e."""
    assert choice_probability([900.0], [[901.0]])[0] == pytest.approx(math.e / (math.e + 1))
    assert choice_probability([5000.0], [[1.0]])[0] == 0.0


@steady
@given(losses, st.lists(losses, min_size=1, max_size=6), st.floats(-5, 5))
def test_order_and_common_factor_do_not_matter(right, wrong, shift):
    value = choice_probability([right], [wrong])[0]
    assert 0.0 <= value <= 1.0
    assert choice_probability([right], [wrong[::-1]])[0] == pytest.approx(value)
    assert choice_probability([right + shift], [[loss + shift for loss in wrong]])[0] == pytest.approx(value, rel=1e-9)
    assert choice_probability([right], [[*wrong, right]])[0] <= value


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="item 1 has no wrong answer"):
        choice_probability([1.0, 1.0], [[1.0], []])
    with pytest.raises(ValueError, match="1 lists of wrong answers for 2"):
        choice_probability(np.ones(2), [[1.0]])
