"""UNDIAL: distil the original model with the true token's logit lowered.

Dong et al., "UNDIAL: self-distillation with adjusted logits" (2024, 2402.10052):

    L = token mean of CE(softmax(z_teacher - beta * onehot(y)), student)

The teacher is the original model and stays fixed. The minimum is the entropy of the target, not 0. beta 0 is plain
self-distillation: no gradient at the start.

Departure from public code: only answer tokens count (it averages over prompt and padding too, and indexes the
vocabulary with -100). Published: beta 3, 10 or 30, LoRA 8/16, lr 1e-4, no retain term.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import masked_mean
from unlearn.methods.forget_only import ForgetOnly
from unlearn.registry import at_least, register
from unlearn.scoring import Scored
from unlearn.vocabulary import token_distillation


@register("undial")
@dataclass(frozen=True)
class Undial(ForgetOnly):
    """Args: beta, nats by which the true token's logit is lowered."""

    beta: float = 10.0

    _compares = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, beta=self.beta)

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        return undial_loss(student, teacher, beta=self.beta)


def undial_loss(student: Scored, teacher: Scored | None, *, beta: float) -> Tensor:
    """Scalar, token mean over the answers; no gradient reaches the teacher.

    Raises:
        ValueError: no teacher, only its sums, or a teacher that scores other answers.
    """
    if teacher is None or teacher.answer_logits().shape != student.logits.shape:
        raise ValueError("undial needs the teacher's logits of the forget view, of the student's shape [B, T, V]")
    per_token = token_distillation(teacher.logits, student.logits, student.labels, student.mask, beta=beta)
    return masked_mean(per_token, student.mask)
