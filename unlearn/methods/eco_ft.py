"""ECO finetuning: learn the answers that the original model gives to disturbed forget prompts.

Liu et al., "Large language model unlearning via embedding-corrupted prompts" (2406.07933):

    L = beta * CE(corrupted) + CE(R)

The answers are the original model's likeliest ones to the forget prompts with corrupted embeddings (view `corrupted`,
unlearn/evaluation/corruption.py: of each token but the last the 1000 largest entries are 0).

Departure: the published multimodal code trains on the *true* answers here, which is finetuning on the forget set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


@register("eco_ft")
@dataclass(frozen=True)
class EcoFinetuning(Method):
    """Args: beta, weight of the forget term."""

    beta: float = 1.0

    student_views = (View("corrupted"), View("retain"))
    loss_beta_option = "beta"

    def __post_init__(self) -> None:
        at_least(0, beta=self.beta)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "corrupted" in student:
            parts["forget"] = self.beta * student["corrupted"].cross_entropy()
        if "retain" in student:
            parts["retain"] = student["retain"].cross_entropy()
        return parts
