import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.metrics.truth_ratio import closeness_score, knowledge_score, truth_ratio

losses = st.floats(0.0, 80.0)
items = st.lists(st.tuples(losses, st.lists(losses, min_size=1, max_size=5)), min_size=1, max_size=8)
steady = settings(derandomize=True, deadline=None, max_examples=60)


def test_by_hand():
    """c = 1/2; w = 1/4 and 1/16: arithmetic mean 5/32, geometric 1/8."""
    base, wrong = [math.log(2)], [[math.log(4), math.log(16)]]
    assert truth_ratio(base, wrong)[0] == pytest.approx(5 / 16)
    assert truth_ratio(base, wrong, mean="geometric")[0] == pytest.approx(1 / 4)


def test_scores_by_hand():
    """R = 1/4, 1, 4: knowledge 3/4, 0, 0; closeness 1/4, 1, 1/4."""
    R = [0.25, 1.0, 4.0]
    assert knowledge_score(R) == pytest.approx(0.25)
    assert closeness_score(R) == pytest.approx(0.5)


def test_a_collapsed_model_keeps_a_finite_ratio():
    assert truth_ratio([60.0], [[61.0, 61.0]])[0] == pytest.approx(math.exp(-1))
    assert truth_ratio([900.0], [[901.0]])[0] == pytest.approx(math.exp(-1))
    with np.errstate(all="raise"):
        assert truth_ratio([2000.0], [[1.0]])[0] == math.inf
        assert knowledge_score([math.inf, 0.0]) == 0.5
        assert closeness_score([math.inf, 0.0, 1.0]) == pytest.approx(1 / 3)


@steady
@given(items, st.floats(-20, 20))
def test_a_common_factor_of_w_and_c_never_changes_R(rows, shift):
    base, wrong = [row[0] for row in rows], [row[1] for row in rows]
    for mean in ("arithmetic", "geometric"):
        moved = truth_ratio(
            [loss + shift for loss in base], [[loss + shift for loss in own] for own in wrong], mean=mean
        )
        assert moved == pytest.approx(truth_ratio(base, wrong, mean=mean), rel=1e-9)


@steady
@given(items)
def test_items_are_scored_alone_and_wrong_answers_in_any_order(rows):
    base, wrong = [row[0] for row in rows], [row[1] for row in rows]
    together = truth_ratio(base, wrong)
    alone = [truth_ratio([loss], [own[::-1]])[0] for loss, own in zip(base, wrong, strict=True)]
    assert together == pytest.approx(alone, rel=1e-9)
    assert truth_ratio(base[::-1], wrong[::-1]) == pytest.approx(together[::-1])
    doubled = truth_ratio(base, [own * 2 for own in wrong])
    assert doubled == pytest.approx(together, rel=1e-9)
    assert (truth_ratio(base, wrong, mean="geometric") <= together * (1 + 1e-9)).all()


@steady
@given(losses, losses)
def test_one_wrong_answer_has_one_mean(base, wrong):
    assert truth_ratio([base], [[wrong]]) == pytest.approx(truth_ratio([base], [[wrong]], mean="geometric"), rel=1e-9)


def test_an_unknown_mean_is_named():
    with pytest.raises(ValueError, match="'median'"):
        truth_ratio([1.0], [[1.0]], mean="median")
