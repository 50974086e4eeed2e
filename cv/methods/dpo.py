"""DPO between faces: recognising a retain photo is preferred over recognising a forget photo.

Rafailov et al., "Direct preference optimization" (2023), equation 7; CLEAR (2025), released cv code:

    L = -(1/beta) log sigmoid(beta * ((s_r - s_r^o) - (s_f - s_f^o)))

with s the log-probability of a photo's own identity and o the original model. A face has no
refusal to prefer, so unlike in mm/ and nlp/ the preferred answer belongs to another photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.methods.dpo import dpo_loss
from unlearn.registry import above
from unlearn.scoring import Scored


@dataclass(frozen=True)
class FaceDPO(Method):
    """`beta`: how sharply a preference counts; the loss is divided by it, as published."""

    beta: float = 1.0

    student_views = (View("forget"), View("retain"))
    teacher_views = (View("forget"), View("retain"))
    forget_parts = ("dpo",)

    def __post_init__(self) -> None:
        above(0, beta=self.beta)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        kept, forgotten = student["retain"].sequence_logps(), student["forget"].sequence_logps()
        was_kept, was_forgotten = (teacher[name].sequence_logps().detach() for name in ("retain", "forget"))
        return {"dpo": dpo_loss(kept, forgotten, was_kept, was_forgotten, beta=self.beta).mean() / self.beta}
