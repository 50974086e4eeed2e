"""How good is a metric? Whether it tells models that saw the forget set from models that did not, and whether it holds
under relearning and quantisation (after OpenUnlearning's meta-evaluation, Dorna et al. 2025).

All metrics here grow with what is known. `model` is unlearned, `gold` never saw the forget set.
"""

from collections.abc import Sequence

from unlearn.metrics.membership import attack_auc
from unlearn.metrics.model_utility import harmonic_mean


def faithfulness(trained: Sequence[float], never: Sequence[float]) -> float:
    """Share of pairs in which a model trained with the forget set has the higher value, half for equal ones: 1 is
    perfect, 1/2 says nothing."""
    return attack_auc(never, trained)  # low scores look trained on there


def agreement(a: float, b: float) -> float:
    """1 - |a - b| / (|a| + |b|), 1 for two zeros: how alike two changes, or two values, are."""
    return 1.0 if a == b == 0 else 1.0 - abs(a - b) / (abs(a) + abs(b))


def relearning(model_gain: float, gold_gain: float) -> float:
    """Relearning lifts a metric for gold too; it is robust where it lifts the unlearned model's as much."""
    return agreement(model_gain, gold_gain)


def relearning_one_sided(model_gain: float, gold_gain: float) -> float:
    """min(gold's gain / the model's, 1), at least 0: only a larger gain than gold's counts against the metric."""
    if model_gain <= max(gold_gain, 0.0):
        return 1.0
    return max(0.0, min(gold_gain / model_gain, 1.0))


def quantisation(before: float, after: float) -> float:
    """Whether the metric of an unlearned model stays under rounding of its weights."""
    return agreement(before, after)


def quantisation_one_sided(before: float, after: float) -> float:
    """min(before / after, 1): only knowledge that comes back counts."""
    return 1.0 if after <= before else max(0.0, min(before / after, 1.0))


def robustness(quantised: float, relearned: float) -> float:
    """The harmonic mean of both."""
    return harmonic_mean([quantised, relearned])
