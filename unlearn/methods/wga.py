"""WGA: gradient ascent with each token weighted by its own probability, so that what is forgotten stops counting.

Wang et al., "Rethinking LLM unlearning objectives: a gradient perspective and go beyond" (2025, 2502.19301):

    L = token mean of sg[p_t ^ beta] * log p_t

with p_t the student's probability of the answer's token t. The weight carries no gradient, so dL / d log p_t = w_t / N
exactly. beta 0 is gradient ascent. The released code falls back to beta 5 where it is unset; the paper's sweep and
other libraries use 1. Published: retain_weight 1, lr 1e-5, 5 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import masked_mean
from unlearn.methods.forget_only import ForgetOnly
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


def wga_loss(logps: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    """Scalar: mean over `mask` of sg[p ^ beta] * log p, p ^ beta taken as exp(beta * log p).

    Args:
        logps: [B, T] log-probabilities of the answers' tokens, nats; mask: [B, T] bool, the scored ones.
    """
    return masked_mean((beta * logps.detach()).exp() * logps, mask)


@register("wga")
@dataclass(frozen=True)
class WGA(ForgetOnly):
    """Args: beta, the exponent of the weight."""

    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, beta=self.beta)

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        return wga_loss(student.token_logps(), student.mask, beta=self.beta)
