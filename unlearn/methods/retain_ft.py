"""Retain finetuning: keep training on what is kept and let the rest fade.

Dontsov et al., "CLEAR" (ACL Findings 2025), Appendix B:  L = CE(R).

Departure: the paper averages per sample, here the batch pools its answer tokens (docs/fidelity.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.registry import register
from unlearn.scoring import Scored


@register("retain_ft")
@dataclass(frozen=True)
class RetainFinetuning(Method):
    """CE(R). No options; the run's `epoch_over` decides whether an epoch is as long as the forget or the retain set."""

    student_views = (View("retain"),)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        return {"retain": student["retain"].cross_entropy()}
