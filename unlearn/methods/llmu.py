"""LLMU: unlearn by ascent, give the forget questions another answer, and hold the retain set in place.

Yao, Xu and Liu, "Large language model unlearning" (2023), equation 5; CLEAR (2025), Appendix B:

    L = -w_f * CE(F) + w_r * CE(F with other answers) + w_n * KL(teacher || student; R)

The other answers are refusals (`answers: idk`, CLEAR) or k answers of retain items (`answers: random`, the original).

Departure: KL(teacher || student), as in the method's own paper; Appendix B prints KL(student || teacher).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored, mean_over_answers


@register("LLMU")
@dataclass(frozen=True)
class LLMU(Method):
    """-w_f * CE(F) + w_r * CE(other answers) + w_n * KL(R).

    Args:
        w_f, w_r, w_n: weights of the three terms (the original method: 0.5, 1, 1).
        answers: "idk" or "random".
        k: answers per forget item with "random".
    """

    w_f: float = 1.0
    w_r: float = 1.0
    w_n: float = 1.0
    answers: Literal["idk", "random"] = "idk"
    k: int = 5

    teacher_views = (View("retain"),)
    forget_parts = ("forget", "idk", "random")
    retain_parts = ("kl",)

    def __post_init__(self) -> None:
        at_least(0, w_f=self.w_f, w_r=self.w_r, w_n=self.w_n)
        at_least(1, k=self.k)

    @property
    def student_views(self) -> tuple[View, ...]:
        other = View("idk") if self.answers == "idk" else View("random", k=self.k, source="retain")
        return (View("forget"), other, View("retain"))

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        other, parts = self.student_views[1], {}
        if "forget" in student:
            parts["forget"] = -self.w_f * student["forget"].cross_entropy()
            parts[other.name] = self.w_r * mean_over_answers(student[other.name], other.k)
        if "retain" in student:
            parts["kl"] = self.w_n * teacher_kl(teacher["retain"], student["retain"])
        return parts
