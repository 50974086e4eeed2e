import numpy as np
import pytest

from unlearn.metrics.bootstrap import interval, resample_weights, resampled_means


def test_every_resample_holds_as_many_people_as_there_are():
    units = ["a", "b", "b", "c", "c", "c"]
    weights = resample_weights(units, draws=500)
    assert weights.shape == (500, 6)
    assert (weights[:, 1] == weights[:, 2]).all(), "items of one person go together"
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_draws_are_seeded():
    assert (resample_weights("abcdef", seed=1) == resample_weights("abcdef", seed=1)).all()
    assert (resample_weights("abcdef", seed=1) != resample_weights("abcdef", seed=2)).any()


def test_width_of_the_interval_of_a_mean():
    """A mean of 400 values: 2 * 1.96 * sd / sqrt(400). If they are 20 people with 20 equal values each: sqrt(20)."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=400)
    low, high = interval(resampled_means(resample_weights([str(i) for i in range(400)]), values))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)

    people = np.repeat(draw.normal(size=20), 20)
    names = [f"person {i // 20}" for i in range(400)]
    low, high = interval(resampled_means(resample_weights(names), people))
    assert high - low == pytest.approx(2 * 1.96 * people.std() / np.sqrt(20), rel=0.1)


def test_unequal_people_weigh_by_their_items():
    weights = np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert resampled_means(weights, [3.0, 6.0, 9.0]).tolist() == [3.0, 6.0]


def test_interval_by_hand_and_centred():
    draws = np.arange(101.0)
    assert interval(draws) == pytest.approx([2.5, 97.5])
    assert interval(draws, level=0.5) == pytest.approx([25.0, 75.0])
    assert interval(draws, centre=10.0) == pytest.approx([-37.5, 57.5])
