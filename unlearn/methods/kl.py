"""KL minimisation: gradient ascent on the forget set while staying close to the original model on the retain set.

Maini et al., TOFU (2024); CLEAR (2025), Appendix B:  L = -CE(F) + KL(teacher || student; R).

Departures: Appendix B prints the KL as a sum over D_F with the arguments (current, original). Its text, TOFU's code and
the method's purpose say retain set, and KL(teacher || student), which asks the student to cover what the teacher knew.
The ascent is unbounded and wins in the end, as the paper's rows for KL show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import register
from unlearn.scoring import Scored


@register("KL")
@dataclass(frozen=True)
class KLMinimisation(Method):
    """-CE(F) + KL(teacher || student; R). No options: weigh the terms with grad_diff_forget_ce_retain_KL."""

    student_views = (View("forget"), View("retain"))
    teacher_views = (View("retain"),)
    retain_parts = ("kl",)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = -student["forget"].cross_entropy()
        if "retain" in student:
            parts["kl"] = teacher_kl(teacher["retain"], student["retain"])
        return parts
