import zlib

import numpy as np
import pytest

from unlearn.metrics.membership import (
    attack_auc,
    blind_auc,
    min_k,
    min_k_plus_plus,
    person_means,
    privacy_numbers,
    reference_score,
    resampled_auc,
    tpr_at_fpr,
    zlib_score,
)

FORGET, HOLDOUT = [0.8, 1.1, 1.1, 0.5, 1.9, 2.2], [1.1, 2.0, 2.4, 1.5, 0.9, 3.1, 2.2]


def test_auc_by_hand_and_its_symmetries():
    assert attack_auc(FORGET, HOLDOUT) == pytest.approx(0.75)
    assert attack_auc(HOLDOUT, FORGET) == pytest.approx(0.25)
    assert attack_auc(np.exp(FORGET), np.exp(HOLDOUT)) == pytest.approx(0.75)
    assert attack_auc([1.0, 1.0], [1.0]) == 0.5
    with pytest.raises(ValueError, match="empty"):
        attack_auc([], [1.0])


def test_resampled_auc_repeats_rows_as_often_as_the_weights_say():
    weights_f, weights_h = (
        np.array([[1, 1, 1, 1, 1, 1], [2, 0, 1, 0, 0, 3]]),
        np.array([[1] * 7, [0, 1, 0, 2, 0, 0, 1]]),
    )
    by_hand = attack_auc([0.8, 0.8, 1.1, 2.2, 2.2, 2.2], [2.0, 1.5, 1.5, 2.2])
    assert resampled_auc(FORGET, HOLDOUT, weights_f, weights_h) == pytest.approx([0.75, by_hand])


def test_true_positives_at_few_false_ones():
    assert tpr_at_fpr(FORGET, HOLDOUT, 0.15) == pytest.approx(1 / 3)  # one of seven: below 1.1 are .8 and .5
    assert tpr_at_fpr(FORGET, HOLDOUT, 0.14) is None
    assert tpr_at_fpr([1.0], list(range(100)), 0.29) == 1.0  # 29 of 100, though 100 * .29 is 28.999...
    assert tpr_at_fpr([28.5], list(range(100)), 0.29) == 1.0 and tpr_at_fpr([29.0], list(range(100)), 0.29) == 0.0


def test_min_k_by_hand():
    assert min_k([[-0.7, -1.9], []], 0.4) == [1.9, None]
    seven = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0]
    assert min_k([seven], 0.3) == [6.5]  # n = 2
    assert min_k([seven], 1.0) == [pytest.approx(4.0)]
    with pytest.raises(ValueError, match="k=0"):
        min_k([seven], 0)


def test_min_k_plus_plus_by_hand():
    uniform = [[-np.log(4)] * 3]
    assert min_k_plus_plus(uniform, uniform, [[0.0] * 3]) == [pytest.approx(0.0)]
    # (-3 + 1) / 2 = -1 and (-1 + 1) / 1 = 0; the lower one alone at k .4
    assert min_k_plus_plus([[-3.0, -1.0]], [[-1.0, -1.0]], [[4.0, 1.0]]) == [1.0]


def test_zlib_reference_and_people():
    size = len(zlib.compress("Vásquez".encode()))
    assert zlib_score([2.0], ["Vásquez"]) == pytest.approx([2.0 / size])
    assert reference_score([2.0, 1.0], [0.5, 3.0]).tolist() == [1.5, -2.0]
    assert person_means([1.0, 2.0, 6.0], ["b", "a", "b"]).tolist() == [3.5, 2.0]


@pytest.mark.parametrize(
    ("auc", "gold", "score", "privleak"),
    [(0.75, 11 / 21, 0.568182, -47.5), (0.0, 0.98, 0.0, 4900.0), (0.9, 0.4, 1 / 6, -500 / 6), (0.5, 0.5, 1.0, 0.0)],
)
def test_privacy_numbers_by_hand(auc, gold, score, privleak):
    found = privacy_numbers(auc, gold)
    assert found["score"] == pytest.approx(score, abs=1e-6) and found["privleak"] == pytest.approx(privleak)
    assert found["gap"] == pytest.approx(abs(auc - gold)) and found["advantage"] == pytest.approx(abs(2 * auc - 1))


def test_privacy_numbers_at_the_ends():
    assert privacy_numbers(0.9, 0.4)["reference"] == {"privleak": pytest.approx(-80.0), "score": 0.0}
    assert privacy_numbers(0.9, 1.0)["privleak"] is None and privacy_numbers(0.0, 0.0)["reference"]["score"] is None


def test_blind_auc_of_exchangeable_people_is_a_half_on_average():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    found = [blind_auc(*([" ".join(rng.choice(words, 12)) for _ in range(5)] for _ in range(2))) for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_blind_auc_sees_sets_that_differ_in_their_words():
    assert blind_auc(["red apple", "red pear", "red plum"], ["blue car", "blue bus", "blue van"]) == 1.0
    assert blind_auc(["same text", "same text"], ["same text", "same text"]) == 0.5


def test_blind_auc_by_hand():
    # others of each side: forget person 0 leaves {a, b}, holdout person 0 leaves {b}; both sides' counts + 1
    # person "a a" : w(a) = ln(2/1); "b": w(b) = ln(2/2) = 0 -> the forget person scores higher
    assert blind_auc(["a a", "a b"], ["b", "b"]) == pytest.approx(1.0)
