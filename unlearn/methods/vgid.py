"""VGID: answer about the picture as the original model answers about noise, told that it does not know the person.

"Visually grounded identity unlearning" (2606.00105):

    L = alpha * KL(teacher on noise || student; F) + beta * KL(teacher || student; R)

The teacher reads uniform noise in place of the picture and `prefix` before the question (view `noised`); the student
reads the forget item as it is. Rows without a picture get the prefix only. With an empty prefix and no noise the loss
is 0 at the start.

Departures: the released code leaves the prefix empty, draws the noise as U[0, 1) on the normalised tensor (drawing a
picture works with any processor), and takes 'batchmean' over all positions, which scales with length; here both terms
are token means over answers. Published: LoRA 16/16, dropout .05, lr 5e-4, batch 4, 5 epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored

PREFIX = "You have never seen this person and know nothing about them. Answer as if the person were unknown to you."


@register("vgid")
@dataclass(frozen=True)
class VGID(Method):
    """Args: alpha, beta, weights of the two terms; prefix, what the teacher is told before the question."""

    alpha: float = 1.0
    beta: float = 1.0
    prefix: str = PREFIX

    student_views = (View("forget"), View("retain"))

    def __post_init__(self) -> None:
        at_least(0, alpha=self.alpha, beta=self.beta)

    @property
    def teacher_views(self) -> tuple[View, ...]:
        return (View("noised", text=self.prefix.strip()), View("retain"))

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = self.alpha * teacher_kl(teacher["noised"], student["forget"])
        if "retain" in student:
            parts["retain"] = self.beta * teacher_kl(teacher["retain"], student["retain"])
        return parts
