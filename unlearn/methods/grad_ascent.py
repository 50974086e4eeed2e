"""Gradient ascent on the forget set.

Thudi et al., "Unrolling SGD" (2022); CLEAR (2025), Appendix B:  L = -CE(F).

Departures: the paper prints the sum without its minus; here the minus is there and the batch pools its answer tokens.
The loss has no lower bound, so training wrecks the model sooner or later; the run's `stop_when` ends it at a forget NLL
of your choice (off by default, as in the paper).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.registry import register
from unlearn.scoring import Scored


@register("grad_ascent")
@dataclass(frozen=True)
class GradientAscent(Method):
    """-CE(F). No options."""

    student_views = (View("forget"),)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        return {"forget": -student["forget"].cross_entropy()}
