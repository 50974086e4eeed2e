"""Knowledge holes by hand."""

import math

import numpy as np
import pytest

from unlearn.metrics.holes import knowledge_hole, nearest, nearness, tfidf


def test_tfidf_by_hand():
    """Three texts; "a" is in two of them, "b" and "c" in one: idf ln(4/3) + 1 and ln(4/2) + 1."""
    common, rare = math.log(4 / 3) + 1, math.log(4 / 2) + 1
    length = math.hypot(2 * common, rare)
    assert tfidf(["A, a! b", "a", "c"]) == pytest.approx(np.array([
        [2 * common / length, rare / length, 0], [1, 0, 0], [0, 0, 1],
    ]))  # fmt: skip
    assert np.isfinite(tfidf(["", "?"])).all()


def test_nearness_is_the_closest_of_the_forget_rows():
    assert nearness([[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 5.0]]) == pytest.approx(
        [1.0, math.sqrt(0.5), 0.0]
    )


def test_the_hole_by_hand():
    """Twenty rows: the two nearest lose .6 and .4, the others nothing, one of them .9."""
    near = np.linspace(0, 1, 20)
    drop = np.zeros(20)
    drop[[19, 18, 3]] = 0.6, 0.4, 0.9
    assert nearest(near).tolist() == [False] * 18 + [True] * 2
    assert knowledge_hole(drop, near) == pytest.approx(0.5 - 0.9 / 18)
    assert knowledge_hole(np.full(20, 0.3), near) == pytest.approx(0.0), "the same loss everywhere is no hole"
    assert nearest([0.5] * 5).tolist() == [True] + [False] * 4 and knowledge_hole([0.1], [1.0]) is None
