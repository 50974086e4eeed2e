"""TNPO: NPO token by token. A token weighs less the further it has fallen below the original model.

Wang et al., "Rethinking LLM unlearning objectives" (2025, 2502.19301):

    L = token mean of sg[p_t ^ alpha * 2 sigmoid(beta * (log p_t - log p_t^o))] * log p_t

alpha 0 is the plain form, alpha 1.5 the paper's weighted one. At student = teacher with alpha 0 every weight is 1:
gradient ascent.

Departure from public code: the weight is taken through the sigmoid. The released code divides powers of p and adds 1e-5
to the denominator, which switches tokens of small p off. Published: lr 1e-5, 5 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import masked_mean
from unlearn.methods.forget_only import ForgetOnly
from unlearn.registry import above, at_least, register
from unlearn.scoring import Scored


def tnpo_loss(logps: Tensor, ref_logps: Tensor, mask: Tensor, *, beta: float, alpha: float = 0.0) -> Tensor:
    """Scalar: mean over `mask` of sg[p ^ alpha * 2 sigmoid(beta * (log p - log p^o))] * log p.

    Args:
        logps, ref_logps: [B, T] log-probabilities of the answers' tokens under student and teacher, nats.
        mask: [B, T] bool, the scored ones.

    Raises:
        ValueError: the shapes differ.
    """
    if logps.shape != ref_logps.shape:
        raise ValueError(f"tnpo_loss: student {tuple(logps.shape)} and teacher {tuple(ref_logps.shape)} differ")
    now = logps.detach()
    weight = (alpha * now).exp() * 2 * (beta * (now - ref_logps.detach())).sigmoid()
    return masked_mean(weight * logps, mask)


@register("tnpo")
@dataclass(frozen=True)
class TNPO(ForgetOnly):
    """Args: beta, how soon a fallen token stops counting; alpha, the exponent of p in the weight."""

    beta: float = 4.0
    alpha: float = 0.0

    _compares = True

    def __post_init__(self) -> None:
        super().__post_init__()
        above(0, beta=self.beta)
        at_least(0, alpha=self.alpha)

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        assert teacher is not None, "declared in teacher_views"
        return tnpo_loss(student.token_logps(), teacher.token_logps(), student.mask, beta=self.beta, alpha=self.alpha)
