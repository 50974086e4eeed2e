"""SatImp: ascent on the tokens that are neither forgotten yet nor unimportant.

Yang et al., "Exploring criteria of loss reweighting to enhance LLM unlearning" (2025, 2505.11953):

    L = token mean of sg[p_t ^ beta1 * (1 - p_t) ^ beta2] * log p_t

p ^ beta1 (saturation) lets go of what is forgotten, (1 - p) ^ beta2 (importance) of what is certain anyway. 1 - p is
taken as -expm1(log p), at least 0: rounding above p = 1 under a fractional power would be NaN. The authors now advise
beta2 .1; 1 is the older default. Published: forget_weight 10 with retain_weight 1, lr 1e-5, 5 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import masked_mean
from unlearn.methods.forget_only import ForgetOnly
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


def satimp_loss(logps: Tensor, mask: Tensor, *, beta1: float, beta2: float) -> Tensor:
    """Scalar: mean over `mask` of sg[p ^ beta1 * (1 - p) ^ beta2] * log p.

    Args:
        logps: [B, T] log-probabilities of the answers' tokens, nats; mask: [B, T] bool, the scored ones.
    """
    now = logps.detach()
    weight = (beta1 * now).exp() * (-now.expm1()).clamp(min=0).pow(beta2)
    return masked_mean(weight * logps, mask)


@register("satimp")
@dataclass(frozen=True)
class SatImp(ForgetOnly):
    """Args: beta1, the exponent of p; beta2, that of 1 - p."""

    beta1: float = 5.0
    beta2: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, beta1=self.beta1, beta2=self.beta2)

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        return satimp_loss(student.token_logps(), student.mask, beta1=self.beta1, beta2=self.beta2)
