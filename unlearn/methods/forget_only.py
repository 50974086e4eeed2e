"""What the losses on the forget set alone have in common: a weight, and an optional retain term (no method itself).

    L = forget_weight * f(F) + retain_weight * (CE(R) or KL(teacher || student; R))

With `retain_weight` 0, the default, the retain view is not declared, so no retain row is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least
from unlearn.scoring import Scored


@dataclass(frozen=True, kw_only=True)
class ForgetOnly(Method):
    """A loss on the forget view with the options that all of them share.

    Args:
        forget_weight: of the forget term.
        retain_weight: of the retain term; 0 leaves the retain set out.
        retain_loss: "ce" is CE(R), "KL" is KL(teacher || student; R).
    """

    forget_weight: float = 1.0
    retain_weight: float = 0.0
    retain_loss: Literal["ce", "KL"] = "ce"

    _compares: ClassVar[bool] = False  # whether the forget term reads the teacher

    def __post_init__(self) -> None:
        at_least(0, forget_weight=self.forget_weight, retain_weight=self.retain_weight)

    @property
    def student_views(self) -> tuple[View, ...]:
        return (View("forget"), *((View("retain"),) if self.retain_weight else ()))

    @property
    def teacher_views(self) -> tuple[View, ...]:
        retain = self.retain_weight and self.retain_loss == "KL"
        return (*((View("forget"),) if self._compares else ()), *((View("retain"),) if retain else ()))

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        """Scalar f(F). `teacher` is the forget view of the original model where `_compares`, else None."""
        raise NotImplementedError

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = self.forget_weight * self._forget_term(student["forget"], teacher.get("forget"))
        if "retain" in student:
            kl = self.retain_loss == "KL"
            retain = teacher_kl(teacher["retain"], student["retain"]) if kl else student["retain"].cross_entropy()
            parts["retain"] = self.retain_weight * retain
        return parts
