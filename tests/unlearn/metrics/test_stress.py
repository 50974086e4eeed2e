import numpy as np
import pytest

from unlearn.metrics.stress import depth_score, first_half, first_step, relearning_area, ridge_hits


def test_area_by_hand():
    # log2(1 + step): 0, 1, 2 (step 3); trapezoids (.1 + .5) / 2 + (.5 + .7) / 2 = .3 + .6, over 2
    assert relearning_area([0, 1, 3], [0.1, 0.5, 0.7]) == pytest.approx(0.45)
    assert relearning_area([0, 1, 3], [[0.1, 1], [0.5, 1], [0.7, 1]]) == pytest.approx([0.45, 1])
    assert relearning_area([0, 32], [0.2, 0.4]) == pytest.approx(0.3)
    for steps in ([0], [1, 2], [0, 2, 2]):
        with pytest.raises(ValueError, match="steps that increase from 0"):
            relearning_area(steps, [0.1] * len(steps))
    with pytest.raises(ValueError, match="2 values for 3 steps"):
        relearning_area([0, 1, 2], [0.1, 0.2])


def test_the_first_step_at_nine_tenths_of_base():
    assert first_step([0, 1, 2, 4], [0.1, 0.3, 0.72, 0.9], base=0.8) == 2
    assert first_step([0, 1], [0.1, 0.3], base=0.8) is None and first_step([0, 1], [0.9, 0.1], base=0.8) == 0


def test_depth_by_hand():
    # .02 is below .05; .5 * .5 + 1 * 1 + 2 * 0 = 1.25 of 3.5
    assert depth_score([0.02, 0.5, 1, 2], [0.5, 0.25, 1.5, -1]) == pytest.approx(0.357143, abs=1e-6)
    gold = [0.3, 0.01, 2.0]
    assert depth_score(gold, gold) == 1 and depth_score(gold, [0, 0, 0]) == 0
    assert depth_score([0.01, 0.05], [1, 1]) is None
    with pytest.raises(ValueError, match="2 layers of gold and 1"):
        depth_score([1, 1], [1])


def slow_ridge(x, people, y):
    """The same from the normal equations in the features."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    names = sorted(set(people))
    target = np.array([[float(p == n) for n in names] for p in people])
    target = target - target.mean(0)
    centred = x - x.mean(0)
    penalty = 0.1 * np.trace(centred.T @ centred) / x.shape[1]
    weights = np.linalg.inv(centred.T @ centred + penalty * np.eye(x.shape[1])) @ centred.T @ target
    return [names[place] for place in ((y - x.mean(0)) @ weights).argmax(1)]


def test_the_probe_against_its_normal_equations():
    rng = np.random.default_rng(0)
    people = [f"p{number % 4}" for number in range(20)]
    centres = rng.normal(size=(4, 7))
    rows = np.array([centres[int(p[1])] for p in people]) + rng.normal(size=(20, 7)) * 0.8
    test = np.array([centres[int(p[1])] for p in people]) + rng.normal(size=(20, 7)) * 0.8
    hits = ridge_hits(rows, people, test, people)
    assert hits is not None and 0.4 < hits.mean() < 1
    assert hits.tolist() == [a == b for a, b in zip(slow_ridge(rows, people, test), people, strict=True)]
    moved = ridge_hits(rows * 3 + 5, people, test * 3 + 5, people)
    assert moved is not None and moved.tolist() == hits.tolist(), "scale and place of the features do not matter"


def test_what_a_probe_cannot_tell():
    assert ridge_hits(np.ones((4, 3)), list("aabb"), np.ones((2, 3)), list("ab")) is None
    assert ridge_hits(np.eye(3), list("aaa"), np.eye(3), list("aaa")) is None
    with pytest.raises(ValueError, match="about c, of whom it has seen no picture"):
        ridge_hits(np.eye(2), list("ab"), np.eye(2), list("ac"))


def test_the_first_half_of_each_person_trains():
    assert first_half(list("ababa")) == [True, True, False, False, False]
    assert first_half(list("a")) == [False] and first_half(list("aabb")) == [True, False, True, False]
