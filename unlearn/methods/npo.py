"""Negative preference optimisation: the rejected half of DPO, which levels off where gradient ascent diverges.

Zhang et al., "Negative preference optimization" (2024), equation 3; CLEAR (2025), Appendix B:

    L = -(2 / beta) * mean log sigmoid(-beta * (s_f - s_f^o))

with s the summed log-probability of an answer. As beta -> 0 its gradient tends to gradient ascent on the sums.
Optional, as in the method's own paper: + retain_weight * (CE(R) or KL(teacher || student; R)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import above, at_least, register
from unlearn.scoring import Scored


def npo_loss(logps: Tensor, ref_logps: Tensor, *, beta: float) -> Tensor:
    """-(2 / beta) * log sigmoid(-beta * (logps - ref_logps)).

    Args:
        logps, ref_logps: [B] summed log-probabilities of the answers to forget, nats.
        beta: > 0; the larger, the sooner a forgotten answer stops counting.

    Returns:
        [B], >= 0; (2 / beta) * log 2 where the model equals its reference.

    Raises:
        ValueError: the two are not of one [B] shape.
    """
    if logps.shape != ref_logps.shape or logps.ndim != 1:
        raise ValueError(f"npo_loss needs two [B] tensors, got {tuple(logps.shape)} and {tuple(ref_logps.shape)}")
    return -(2 / beta) * F.logsigmoid(-beta * (logps - ref_logps))


@register("npo")
@dataclass(frozen=True)
class NPO(Method):
    """Forget term as above, and an optional retain term.

    Args:
        beta: 1 in CLEAR, 0.1 in the method's own paper.
        retain_weight: weight of the retain term; 0 leaves the retain set out.
        retain_loss: "ce" is CE(R), "KL" is KL(teacher || student; R).
    """

    beta: float = 1.0
    retain_weight: float = 0.0
    retain_loss: Literal["ce", "KL"] = "ce"

    loss_beta_option = "beta"

    def __post_init__(self) -> None:
        above(0, beta=self.beta)
        at_least(0, retain_weight=self.retain_weight)

    @property
    def student_views(self) -> tuple[View, ...]:
        return (View("forget"), *((View("retain"),) if self.retain_weight else ()))

    @property
    def teacher_views(self) -> tuple[View, ...]:
        retain = self.retain_weight and self.retain_loss == "KL"
        return (View("forget"), *((View("retain"),) if retain else ()))

    @property
    def teacher_sums_only(self) -> bool:
        return not (self.retain_weight and self.retain_loss == "KL")

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            logps, ref_logps = student["forget"].sequence_logps(), teacher["forget"].sequence_logps().detach()
            parts["forget"] = npo_loss(logps, ref_logps, beta=self.beta).mean()
        if "retain" in student:
            retain = (
                teacher_kl(teacher["retain"], student["retain"])
                if self.retain_loss == "KL"
                else student["retain"].cross_entropy()
            )
            parts["retain"] = self.retain_weight * retain
        return parts
