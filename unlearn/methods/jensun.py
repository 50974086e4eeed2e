"""JensUn: pull every forget answer, token by token, to a refusal by the bounded Jensen-Shannon divergence.

"Unlearning that lasts" (2509.02820):

    L = forget_weight * token mean of JS(q_t, onehot(target_t)) + retain_weight * token mean of JS(teacher, student; R)

q_t is the prediction after the true answer's first tokens; target_t is token t mod n of the n tokens of `text` (view
`relabelled`). With p = q_t(target): JS = [2 ln 2 + p ln p - (1 + p) ln(1 + p)] / 2, from 0 (p = 1) to ln 2 (p = 0),
and its gradient in the logits is (p / 2) ln(p / (1 + p)) (onehot - q): it fades as p -> 0, so a confident model moves
slowly at first.

Departure: the closed form with log p. The released code clamps p at 1e-9, below which it has no gradient at all.
Published: weights 1, 1, 10 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.divergences import masked_mean, teacher_js
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


def js_to_targets(logps: Tensor) -> Tensor:
    """JS(q, onehot) in nats, elementwise, in [0, ln 2]; `logps`: ln q(target), <= 0."""
    p = logps.exp()
    return math.log(2) + (p * logps - (1 + p) * p.log1p()) / 2


@register("jensun")
@dataclass(frozen=True)
class JensUn(Method):
    """Args: forget_weight, retain_weight (0 leaves the retain set out); text, what the answers are pulled to."""

    forget_weight: float = 1.0
    retain_weight: float = 1.0
    text: str = "No idea"

    def __post_init__(self) -> None:
        at_least(0, forget_weight=self.forget_weight, retain_weight=self.retain_weight)
        if not self.text.strip():
            raise ValueError("text is empty: it is what forget answers are pulled to, e.g. No idea")

    @property
    def student_views(self) -> tuple[View, ...]:
        return (View("relabelled", text=self.text), *self.teacher_views)

    @property
    def teacher_views(self) -> tuple[View, ...]:
        return (View("retain"),) if self.retain_weight else ()

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "relabelled" in student:
            scored = student["relabelled"]
            parts["forget"] = self.forget_weight * masked_mean(js_to_targets(scored.token_logps()), scored.mask)
        if "retain" in student:
            parts["retain"] = self.retain_weight * teacher_js(teacher["retain"], student["retain"])
        return parts
