import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance as scipy_wasserstein

from unlearn.metrics.forget_quality import (
    bounded_ratio,
    js_forget_quality,
    ks_forget_quality,
    null_floor,
    quality_without,
    wasserstein_distance,
)

ratios = st.lists(st.floats(0.0, math.inf), min_size=1, max_size=40)
steady = settings(derandomize=True, deadline=None, max_examples=60)


def slow_quality(R_model, R_gold):
    """The definition with numpy's histogram and scipy's distance, one grid after the other."""
    model, gold = ([1.0 if math.isinf(R) else R / (1 + R) for R in own] for own in (R_model, R_gold))
    distances = []
    for shift in range(8):
        edges = [float(Fraction(8 * i - shift, 160)) for i in range(21)] + [2.0]
        edges = edges if shift else [*edges[:20], 1.0]  # the unshifted grid ends at 1, and u = 1 is in its last bin
        p, q = (np.histogram(own, bins=edges)[0] for own in (model, gold))
        distances.append(jensenshannon(p, q, base=2))
    return 1 - float(np.mean(distances))


def test_by_hand():
    """u = 1/4 twice against u = 1/4 and 3/4: bins (1, 0) and (1/2, 1/2) on every grid.
    JSD^2 = H(3/4, 1/4) - H(1/2, 1/2) / 2 = 0.8112781 - 0.5."""
    assert js_forget_quality([1 / 3, 1 / 3], [1 / 3, 3.0]) == pytest.approx(1 - math.sqrt(0.8112781244591328 - 0.5))
    assert js_forget_quality([0.0, 0.0], [math.inf]) == pytest.approx(0.0)


def test_one_step_over_an_edge_costs_one_grid_of_eight():
    """u = .4999 and .5001 are parted by the grid with an edge at .5 alone: distance (1 + 7 * 0) / 8."""
    below, above = 0.4999 / 0.5001, 0.5001 / 0.4999
    assert js_forget_quality([below] * 3, [above] * 3) == pytest.approx(1 - 1 / 8)


@pytest.mark.parametrize("sizes", [(300, 300), (48, 20), (1, 5)])
def test_equals_the_slow_form(sizes):
    draw = np.random.default_rng(0)
    model, gold = (np.exp(draw.normal(size=n) * 2) for n in sizes)
    assert js_forget_quality(model, gold) == pytest.approx(slow_quality(model, gold), abs=1e-12)


@steady
@given(ratios, ratios, st.randoms(use_true_random=False))
def test_a_symmetric_similarity_of_distributions(model, gold, shuffle):
    quality = js_forget_quality(model, gold)
    assert 0.0 <= quality <= 1.0
    assert js_forget_quality(gold, model) == pytest.approx(quality, abs=1e-12)
    mixed = list(model)
    shuffle.shuffle(mixed)
    assert js_forget_quality(mixed, gold) == quality
    assert ks_forget_quality(mixed, gold) == ks_forget_quality(model, gold)
    assert wasserstein_distance(mixed, gold) == wasserstein_distance(model, gold)


@steady
@given(ratios)
def test_gold_against_itself(R):
    assert js_forget_quality(R, R) == 1.0
    assert ks_forget_quality(R, R) == (0.0, 1.0)
    assert wasserstein_distance(R, R) == 0.0


def test_bounded_ratio():
    with np.errstate(all="raise"):
        assert bounded_ratio([0.0, 1.0, math.inf, 3.0, 1e-320]).tolist() == [0.0, 0.5, 1.0, 0.75, 0.0]


def test_wasserstein_by_hand_and_against_scipy():
    """u = 0.25, 0.25 against 0.25, 0.75: half of the mass moves by a half."""
    assert wasserstein_distance([1 / 3, 1 / 3], [1 / 3, 3.0]) == pytest.approx(0.25)
    draw = np.random.default_rng(1)
    model, gold = np.exp(draw.normal(size=30)), np.exp(draw.normal(size=45))
    expected = scipy_wasserstein(bounded_ratio(model), bounded_ratio(gold))
    assert wasserstein_distance(model, gold) == pytest.approx(expected, abs=1e-12)


def test_ks_by_hand():
    """Model below every gold value: D = 1; two of four values swapped: D = 1/2. p = 2 / C(8, 4) for D = 1, n = 4."""
    assert ks_forget_quality([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx((1.0, 2 / math.comb(8, 4)))
    assert ks_forget_quality([1, 2, 5, 6], [3, 4, 7, 8])[0] == pytest.approx(0.5)


def test_null_floor_is_what_equal_models_score():
    """Two fresh samples of one distribution score near the floor, at n = 48 about .7; a shifted model scores below
    it."""
    draw = np.random.default_rng(2)
    pairs = [np.exp(draw.normal(size=(2, 48))) for _ in range(20)]
    scores = [js_forget_quality(*pair) for pair in pairs]
    floors = [null_floor(*pair) for pair in pairs]
    assert np.mean(scores) == pytest.approx(np.mean([mean for mean, _ in floors]), abs=0.03)
    assert 0.6 < np.mean(scores) < 0.75
    assert all(low < mean for mean, low in floors)
    model, gold = np.exp(draw.normal(size=400) - 1.5), np.exp(draw.normal(size=400))
    assert js_forget_quality(model, gold) < null_floor(model, gold)[1] - 0.1
    assert null_floor(model, gold) == null_floor(model, gold)
    assert null_floor(gold, gold) == (1.0, 1.0)


def test_null_floor_equals_a_slow_swap():
    draw = np.random.default_rng(3)
    model, gold = np.exp(draw.normal(size=25)), np.exp(draw.normal(size=25) + 1)
    swaps = np.random.default_rng(0).integers(0, 2, size=(200, 25)).astype(bool)
    scores = [slow_quality(np.where(swap, gold, model), np.where(swap, model, gold)) for swap in swaps]
    assert null_floor(model, gold) == pytest.approx((np.mean(scores), np.quantile(scores, 0.05)), abs=1e-12)


def test_null_floor_swaps_whole_people():
    """Against a slow swap; names in any order of rows; a name that is missing means that people are not known."""
    draw = np.random.default_rng(3)
    people = np.array(["b", "a", "c", "a", "b", "c", "d", "d"])
    model, gold = np.exp(draw.normal(size=8)), np.exp(draw.normal(size=8) + 1)
    swaps = (
        np.random.default_rng(0).integers(0, 2, size=(200, 4)).astype(bool)[:, np.searchsorted(list("abcd"), people)]
    )
    scores = [slow_quality(np.where(swap, gold, model), np.where(swap, model, gold)) for swap in swaps]
    found = null_floor(model, gold, people=list(people))
    assert found == pytest.approx((np.mean(scores), np.quantile(scores, 0.05)), abs=1e-12)
    order = draw.permutation(8)
    assert null_floor(model[order], gold[order], people=people[order]) == pytest.approx(found, abs=1e-12)
    assert null_floor(model, gold, people=[*people[:-1], None]) == null_floor(model, gold)
    assert null_floor(model, gold, people=["a"] * 8)[0] == pytest.approx(js_forget_quality(model, gold))
    with pytest.raises(ValueError, match="2 names of people for 8"):
        null_floor(model, gold, people=["a", "b"])


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_equal_models_fall_under_the_floor_by_people_one_time_in_twenty(share):
    """Ten people of 17 items, `share` of the variance between people and models: .05 by people, far more by items."""
    draw = np.random.default_rng(5)
    people = np.repeat(np.arange(10), 17)
    under = {"people": 0, "items": 0}
    for _ in range(100):
        model, gold = (
            np.exp(np.sqrt(share) * draw.normal(size=10)[people] + np.sqrt(1 - share) * draw.normal(size=170))
            for _ in range(2)
        )
        quality = js_forget_quality(model, gold)
        under["people"] += quality < null_floor(model, gold, people=people, draws=100)[1] - 1e-9
        under["items"] += quality < null_floor(model, gold, draws=100)[1] - 1e-9
    assert under["people"] <= 12 and under["items"] >= 20


def test_quality_without_each_unit():
    draw = np.random.default_rng(4)
    model, gold = np.exp(draw.normal(size=6)), np.exp(draw.normal(size=6))
    units = np.array([0, 1, 1, 2, 0, 2])
    expected = [slow_quality(model[units != one], gold[units != one]) for one in range(3)]
    assert quality_without(model, gold, units) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(quality_without(model, gold, np.zeros(6, dtype=int))).all()


@pytest.mark.parametrize("bad", [[], [-1.0], [math.nan]])
def test_what_is_no_ratio_is_refused(bad):
    with pytest.raises(ValueError, match="truth ratios must be"):
        js_forget_quality(bad, [1.0])
    with pytest.raises(ValueError, match="3 truth ratios of the model for 2"):
        null_floor([1.0] * 3, [1.0] * 2)
