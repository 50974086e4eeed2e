"""AltPO: prefer alternate answers, written by the original model itself, over the true ones.

Mekala et al., "Alternate preference optimization for unlearning" (2409.13474), with s the summed log-probability:

    L = (2 / beta) * mean_b[-log sigmoid(beta * ((s_a - s_a^o) - (s_f - s_f^o)))] + retain_weight * CE(R)

The original model is asked, with question and true answer shown, for `answers` other plausible answers of the same form
(view `alternate`, unlearn/data/written.py); each epoch draws one of them.

Departure: the paper multiplies the data by 5 and runs 2 epochs. Published: lr 5e-5 in full, temperature 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.methods.dpo import dpo_loss
from unlearn.registry import above, at_least, register
from unlearn.scoring import Scored


@register("altpo")
@dataclass(frozen=True)
class AltPO(Method):
    """Args: beta, inverse temperature; retain_weight of CE(R), 0 leaves it out; K, alternates written for each item."""

    beta: float = 0.1
    retain_weight: float = 1.0
    K: int = 5

    teacher_sums_only = True

    def __post_init__(self) -> None:
        above(0, beta=self.beta)
        at_least(0, retain_weight=self.retain_weight)
        at_least(1, K=self.K)

    @property
    def student_views(self) -> tuple[View, ...]:
        return (*self.teacher_views, *((View("retain"),) if self.retain_weight else ()))

    @property
    def teacher_views(self) -> tuple[View, ...]:
        return (View("alternate", written=self.K), View("forget"))

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            preference = dpo_loss(
                student["alternate"].sequence_logps(),
                student["forget"].sequence_logps(),
                teacher["alternate"].sequence_logps().detach(),
                teacher["forget"].sequence_logps().detach(),
                beta=self.beta,
            )
            parts["forget"] = 2 / self.beta * preference.mean()
        if "retain" in student:
            parts["retain"] = self.retain_weight * student["retain"].cross_entropy()
        return parts
