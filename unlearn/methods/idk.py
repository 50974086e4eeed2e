"""IDK tuning: learn to refuse the forget questions, keep training on the retain set.

Maini et al., TOFU (2024); CLEAR (2025), Appendix B:  L = CE(R) + CE(F_idk), F_idk the forget prompts with a refusal.

Two token means, so that long retain answers do not drown the short refusals (TOFU pools both in one mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.registry import register
from unlearn.scoring import Scored


@register("idk")
@dataclass(frozen=True)
class IDKTuning(Method):
    """CE(R) + CE(F_idk). No options."""

    student_views = (View("idk"), View("retain"))
    forget_parts = ("idk",)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        return {name: scored.cross_entropy() for name, scored in student.items()}
