import math

import numpy as np
import pytest

from unlearn.metrics.memorisation import choice_rank, exact_memorisation, exposure, extraction_strength

T, F = True, False


def test_by_hand():
    hits = [[T, T, F, T, T], [T, F], [F], [T], []]
    assert extraction_strength(hits) == [0.4, 0.0, 0.0, 1.0, None]
    assert exact_memorisation(hits) == [0.8, 0.5, 0.0, 1.0, None]


def test_strength_never_exceeds_exact_memorisation():
    rng = np.random.default_rng(0)
    hits = [rng.random(rng.integers(1, 12)) < 0.6 for _ in range(200)]
    for strength, exact in zip(extraction_strength(hits), exact_memorisation(hits), strict=True):
        assert strength is not None and exact is not None and 0 <= strength <= exact <= 1


def test_rank_and_exposure_by_hand():
    assert choice_rank([1.0], [[0.9, 1.0, 2.0]]).tolist() == [2.5]
    assert exposure([1.0], [[0.9, 1.0, 2.0]])[0] == pytest.approx(0.678072, abs=1e-6)


def test_ragged_lists_and_the_ends_of_the_scale():
    right, wrong = [0.1, 5.0, 1.0], [[1.0, 2.0, 3.0], [1.0], []]
    assert choice_rank(right, wrong).tolist() == [1.0, 2.0, 1.0]
    assert exposure(right, wrong).tolist() == [2.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="2 right losses for 1 lists"):
        choice_rank([1.0, 2.0], [[1.0]])
    assert not math.isnan(exposure([1.0], [[1.0, 1.0]])[0])
