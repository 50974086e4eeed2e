"""CE-U: learn the model's own distribution without the true token.

Yang, "CE-U: cross entropy unlearning" (2025, 2503.01224):

    L = token mean of CE(sg[softmax(z with z_y = -inf)], student)  =  token mean of H(target) - log(1 - p_t)

Its gradient in z is p_t at y and -q_v p_t / (1 - p_t) elsewhere: bounded, and gone once p_t is 0. `skip` leaves the
first tokens of each answer out of numerator and denominator (a one-word answer keeps its end token); a batch with
nothing left gives 0. -inf is put on a copy without gradient: on logits that carry one it gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearn.methods.forget_only import ForgetOnly
from unlearn.registry import at_least, register
from unlearn.scoring import Scored
from unlearn.vocabulary import token_exclusion


def ceu_loss(logits: Tensor, labels: Tensor, mask: Tensor, *, skip: int = 1) -> Tensor:
    """Scalar over the scored tokens after the first `skip` of each row; 0, with a graph, where none is left.

    Args:
        logits: [B, T, V]; labels: [B, T]; mask: [B, T] bool, the scored positions.
    """
    kept = mask & (mask.cumsum(1) > skip)
    return token_exclusion(logits, labels, kept).sum() / kept.sum().clamp(min=1)


@register("ceu")
@dataclass(frozen=True)
class CEU(ForgetOnly):
    """Args: skip, the first tokens of each answer that are left alone."""

    skip: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, skip=self.skip)

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        return ceu_loss(student.logits, student.labels, student.mask, skip=self.skip)
