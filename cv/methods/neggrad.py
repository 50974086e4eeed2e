"""NegGrad as this track publishes it: in each epoch a pass of ascent on F, then a pass of descent on R.

Golatkar et al., "Eternal sunshine of the spotless net" (2020); CLEAR (2025), released cv code:

    first  -CE(F),  then  CE(R)          (CE is AM-softmax)

Unlike gradient difference, whose two terms share each step, the passes take turns, so the descent can repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.scoring import Scored


@dataclass(frozen=True)
class NegGrad(Method):
    """-CE(F) in the forget pass, CE(R) in the retain pass. No options."""

    student_views = (View("forget"), View("retain"))

    def passes(self, epoch: int) -> tuple[str, ...]:
        return ("forget", "retain")

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        losses = {name: view.cross_entropy() for name, view in student.items()}
        return {name: -loss if name == "forget" else loss for name, loss in losses.items()}
