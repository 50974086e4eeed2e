"""Task vector: learn the forget set better, then subtract what was learned.

Ilharco et al., "Editing models with task arithmetic" (2022, 2212.04089):

    stage 1   L = CE(F)
    stage 2   theta = theta_o - s * (theta_1 - theta_o)

Only the model after `finalize` has unlearned anything; forget numbers during training mean the opposite, `stop_when`
too. s 0 returns the start. The paper chooses s on held-out data, between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.methods.sku import negate_task_vector
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


@register("task_vector")
@dataclass(frozen=True)
class TaskVector(Method):
    """Args: s, the scale of the negation."""

    s: float = 1.0

    student_views = (View("forget"),)

    def __post_init__(self) -> None:
        at_least(0, s=self.s)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        return {"forget": student["forget"].cross_entropy()}

    def finalize(self, original: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return negate_task_vector(original, trained, scale=self.s)
