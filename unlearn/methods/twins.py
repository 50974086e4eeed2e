"""Twins: on the forget set, answer as the original model would about a disturbed input; on the retain set, as it did.

CLEAR (2025), Appendix B:  L = d(f(x_f), f_o(aug x_f)) + d(f(x_r), f_o(x_r)).

In mm/ and nlp/ d is KL(teacher || student) over the answers, the teacher reading the augmented input (a flipped,
cropped, recoloured image; a question without the author's name) and the student the clean one. In cv/ d is the mean
squared error of embeddings (`distance: mse`).

Departure: the published code leaves the retain term out; here both are there, as printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unlearn.divergences import teacher_kl
from unlearn.method import HiddenSpec, Method, StepInfo, View
from unlearn.registry import register
from unlearn.scoring import Scored

Distance = Literal["kl", "mse"]


def twin_distance(teacher: Scored, student: Scored, *, distance: Distance) -> Tensor:
    """Scalar distance of the student from the teacher over the answers; no gradient reaches the teacher.

    Args:
        distance: "kl" is KL(teacher || student) of the tokens; "mse" the mean squared error of the hidden states at
            `hidden_mask`, over tokens and width, fp32.

    Raises:
        ValueError: the two views cover different numbers of tokens.
    """
    if distance == "kl":
        return teacher_kl(teacher, student)
    (target, target_mask), (states, mask) = teacher.hidden_states(), student.hidden_states()
    target, states = target[target_mask].detach(), states[mask]
    if target.shape != states.shape:
        raise ValueError(f"teacher and student cover different tokens: {tuple(target.shape)}, {tuple(states.shape)}")
    return (states.float() - target.float()).square().mean()


@register("twins")
@dataclass(frozen=True)
class Twins(Method):
    """d(student(F), teacher(aug F)) + d(student(R), teacher(R)). `distance`: "kl" or "mse" (embeddings, for cv)."""

    distance: Distance = "kl"

    student_views = (View("forget"), View("retain"))
    teacher_views = (View("augmented"), View("retain"))

    @property
    def hidden(self) -> HiddenSpec | None:
        return HiddenSpec("last", "answer") if self.distance == "mse" else None

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        pairs = (("forget", "augmented"), ("retain", "retain"))  # the student's view, the teacher's
        return {
            name: twin_distance(teacher[shown], student[name], distance=self.distance)
            for name, shown in pairs
            if name in student
        }
