"""Meta-evaluation by hand."""

import pytest

from unlearn.metrics import meta


def test_faithfulness_counts_pairs() -> None:
    assert meta.faithfulness([0.9, 0.8], [0.1, 0.8]) == pytest.approx(3.5 / 4)
    assert meta.faithfulness([0.1], [0.9]) == 0.0


def test_gains_by_hand() -> None:
    assert meta.relearning(0.6, 0.3) == pytest.approx(2 / 3)
    assert meta.relearning_one_sided(0.6, 0.3) == pytest.approx(1 / 2)
    assert meta.relearning(0, 0) == 1.0 and meta.relearning_one_sided(0.2, 0.5) == 1.0
    assert meta.relearning_one_sided(-0.1, -0.2) == 1.0 and meta.relearning_one_sided(0.1, -0.2) == 0.0


def test_rounding_by_hand() -> None:
    assert meta.quantisation(0.2, 0.4) == pytest.approx(2 / 3) and meta.quantisation(0.4, 0.2) == pytest.approx(2 / 3)
    assert meta.quantisation_one_sided(0.2, 0.4) == pytest.approx(0.5)
    assert meta.quantisation_one_sided(0.4, 0.2) == 1.0 and meta.quantisation_one_sided(0.0, 0.0) == 1.0


def test_robustness_is_the_harmonic_mean() -> None:
    assert meta.robustness(0.5, 1.0) == pytest.approx(2 / 3) and meta.robustness(0.0, 1.0) == 0.0
