"""SCRUB: a student that disobeys its teacher on the forget set and obeys it on the retain set.

Kurmanji et al., "Towards unbounded machine unlearning" (2023), equation 3; CLEAR (2025), Appendix B:

    L = alpha * KL(teacher || student; R) - beta * KL(teacher || student; F) + gamma * CE(R)

`joint` minimises the sum at every step, as CLEAR does. At student = teacher its forget term is exactly stationary, so
with a fresh LoRA it starts as retain finetuning and hardly leaves it. `alternating` is the original schedule: in each
of the first `msteps` epochs a whole pass of ascent on F, and in every epoch a whole pass of descent on R.

Departure: temperature 1 (the original distils at 2 to 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


@register("scrub")
@dataclass(frozen=True)
class SCRUB(Method):
    """alpha * KL(R) - beta * KL(F) + gamma * CE(R).

    Args:
        alpha, beta, gamma: weights of the retain KL, the forget KL and the retain cross-entropy.
        schedule: "joint" or "alternating".
        msteps: for "alternating", the number of epochs that begin with a pass of ascent on F.
    """

    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    schedule: Literal["joint", "alternating"] = "joint"
    msteps: int = 3

    student_views = (View("forget"), View("retain"))
    teacher_views = (View("forget"), View("retain"))
    loss_beta_option = "beta"
    retain_parts = ("kl", "retain")

    def __post_init__(self) -> None:
        at_least(0, alpha=self.alpha, beta=self.beta, gamma=self.gamma, msteps=self.msteps)

    def passes(self, epoch: int) -> tuple[str, ...] | None:
        if self.schedule == "joint":
            return None
        return ("forget", "retain") if epoch < self.msteps else ("retain",)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = -self.beta * teacher_kl(teacher["forget"], student["forget"])
        if "retain" in student:
            parts["kl"] = self.alpha * teacher_kl(teacher["retain"], student["retain"])
            parts["retain"] = self.gamma * student["retain"].cross_entropy()
        return parts
