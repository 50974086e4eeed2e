"""Direct preference optimisation with a refusal as the preferred answer.

Rafailov et al., "Direct preference optimization" (2023); Maini et al., TOFU (2024); CLEAR (2025), Appendix B:

    L = l_task * CE(F_idk) + l_dpo * mean[-log sigmoid(beta * ((s_idk - s_idk^o) - (s_f - s_f^o)))]

with s the summed log-probability of an answer. Optional: + retain_weight * CE(R).

Departures: the reference is the original model, as in TOFU; the paper's, a model finetuned on F_idk, is
`reference_path`. The second, identical term of the printed formula is taken as a misprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.registry import above, at_least, register
from unlearn.scoring import Scored


def dpo_loss(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, *, beta: float) -> Tensor:
    """-log sigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected))), equation 7 of the DPO paper.

    Args:
        chosen, rejected: [B] summed log-probabilities under the model, nats.
        ref_chosen, ref_rejected: [B] the same under the reference.
        beta: how sharply a preference counts; > 0.

    Returns:
        [B]; log 2 where the model prefers exactly what its reference does.

    Raises:
        ValueError: the four are not of one [B] shape.
    """
    shapes = {tuple(t.shape) for t in (chosen, rejected, ref_chosen, ref_rejected)}
    if len(shapes) != 1 or chosen.ndim != 1:
        raise ValueError(f"dpo_loss needs four [B] tensors, got {sorted(shapes)}")
    return -F.logsigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected)))


@register("dpo")
@dataclass(frozen=True)
class DPO(Method):
    """Refusals preferred over the true answers, plus the task loss on refusals.

    Args:
        l_task, l_dpo: weights of CE(F_idk) and of the preference term.
        beta: inverse temperature of the preference. The published `loss_beta` does not touch it.
        retain_weight: weight of CE(R); 0 leaves the retain set out.
        reference_path: another reference model than the one training starts from; None takes that one.
    """

    l_task: float = 1.0
    l_dpo: float = 1.0
    beta: float = 0.1
    retain_weight: float = 0.0
    reference_path: str | None = None

    teacher_views = (View("idk"), View("forget"))
    teacher_sums_only = True
    forget_parts = ("task", "dpo")

    def __post_init__(self) -> None:
        above(0, beta=self.beta)
        at_least(0, l_task=self.l_task, l_dpo=self.l_dpo, retain_weight=self.retain_weight)

    @property
    def student_views(self) -> tuple[View, ...]:
        return (View("idk"), View("forget"), *((View("retain"),) if self.retain_weight else ()))

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if "forget" in student:
            idk = student["idk"].sequence_logps()
            preference = dpo_loss(
                idk,
                student["forget"].sequence_logps(),
                teacher["idk"].sequence_logps().detach(),
                teacher["forget"].sequence_logps().detach(),
                beta=self.beta,
            )
            # The token mean, from the sums at hand: a second pass over [B, T, V] would double the memory.
            task = -idk.sum() / student["idk"].lengths().sum()
            parts |= {"task": self.l_task * task, "dpo": self.l_dpo * preference.mean()}
        if "retain" in student:
            parts["retain"] = self.retain_weight * student["retain"].cross_entropy()
        return parts
