"""Gradient difference: ascend on the forget set, descend on the retain set. Six names, one per pair of terms.

Liu et al., "Continual learning and private unlearning" (2022); Maini et al., TOFU (2024); CLEAR (2025), Appendix B:

    L = -beta * f + r,   f = CE(F) | H(F) | KL(teacher || student; F),   r = CE(R) | KL(teacher || student; R)

so the entropy variant *raises* the entropy H of the answers (the published code added it with the other sign, as a
sum over every position and the vocabulary).

`KL_retain_KL` is exactly stationary at student = teacher: a fresh LoRA stands still. Start it from noise
(`init_noise`) or take another variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unlearn.divergences import entropy, teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored

Term = Literal["ce", "entropy", "KL"]


def divergence_term(term: Term, student: Scored, teacher: Scored | None) -> Tensor:
    """Scalar of one view: its cross-entropy, its entropy, or KL(teacher || student). `teacher` is read for KL only."""
    match term:
        case "ce":
            return student.cross_entropy()
        case "entropy":
            return entropy(student.logits, student.mask)
        case "KL":
            if teacher is None:
                raise ValueError("the KL term needs the teacher's scores")
            return teacher_kl(teacher, student)


@register("grad_diff", forget="ce", retain="ce")
@register("grad_diff_forget_ce_retain_ce", forget="ce", retain="ce")
@register("grad_diff_forget_ce_retain_KL", forget="ce", retain="KL")
@register("grad_diff_forget_entropy_retain_ce", forget="entropy", retain="ce")
@register("grad_diff_forget_entropy_retain_KL", forget="entropy", retain="KL")
@register("grad_diff_forget_KL_retain_ce", forget="KL", retain="ce")
@register("grad_diff_forget_KL_retain_KL", forget="KL", retain="KL")
@dataclass(frozen=True)
class GradientDifference(Method):
    """-beta * f(F) + r(R). The name fixes `forget` and `retain`; `beta` weighs the forget term."""

    forget: Term
    retain: Literal["ce", "KL"]
    beta: float = 1.0

    student_views = (View("forget"), View("retain"))
    loss_beta_option = "beta"

    def __post_init__(self) -> None:
        at_least(0, beta=self.beta)

    @property
    def teacher_views(self) -> tuple[View, ...]:
        terms = zip(self.student_views, (self.forget, self.retain), strict=True)
        return tuple(view for view, term in terms if term == "KL")

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = -self.beta * divergence_term(self.forget, student["forget"], teacher.get("forget"))
        if "retain" in student:
            parts["retain"] = divergence_term(self.retain, student["retain"], teacher.get("retain"))
        return parts
