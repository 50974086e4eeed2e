"""RMU on the face embedding: forget photos are steered to a random vector, retain photos stay where they were.

Li et al., "The WMDP benchmark" (2024), section 4; CLEAR (2025), released cv code:

    L = E_F (1/d) ||e - c u||^2 + alpha * E_R (1/d) ||e - e_o||^2,   u drawn from U[-1, 1)^d

Departure: one fixed u, as the method intends; the published code draws a new one for every photo, whose mean target is
the origin. Embeddings follow a ReLU, so the negative half of u is only approached down to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.method import HiddenSpec, Method, StepInfo, View
from unlearn.methods.rmu import rmu_loss
from unlearn.registry import at_least
from unlearn.scoring import Scored


def box_vector(dim: int, *, scale: float, seed: int) -> Tensor:
    """[D] fp32: scale * u with u from U[-1, 1)^dim, by a generator of its own; its length is not normalised."""
    return scale * (2 * torch.rand(dim, generator=torch.Generator().manual_seed(seed)) - 1)


@dataclass(frozen=True)
class FaceRMU(Method):
    """`c`: half the side of the box u lies in; `alpha`: retain weight; `seed`: of u."""

    c: float = 2.0
    alpha: float = 1.0
    seed: int = 0

    student_views = (View("forget"), View("retain"))
    teacher_views = (View("retain"),)
    hidden = HiddenSpec("last", "answer")

    def __post_init__(self) -> None:
        at_least(0, c=self.c, alpha=self.alpha, seed=self.seed)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            states, mask = student["forget"].hidden_states()
            target = box_vector(states.shape[-1], scale=self.c, seed=self.seed).to(states.device)
            parts["forget"] = rmu_loss(states, target, mask)
        if "retain" in student:
            states, mask = student["retain"].hidden_states()
            original, _ = teacher["retain"].hidden_states()
            parts["retain"] = self.alpha * rmu_loss(states, original.detach(), mask)
        return parts
