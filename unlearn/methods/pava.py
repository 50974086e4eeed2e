"""PAVA: forget the person by NPO, and keep what the picture shows besides by the model's own answers about it.

(2608.30649):

    L = NPO(F; beta) + weight * CE(anchor)

`anchor`: what the original model answers, likeliest, to a question about the forget picture that asks for nobody
(clothes, hair, pose, background, ...; data/anchor_questions.txt, or the file `questions`), one for each item and epoch.
Rows without a picture have no anchor and contribute nothing to that part. Only the MLPs of the decoder blocks
`LoRA.layers` are trained; published for LLaVA-1.5-7B are 7-10, 13, 14, 15 and 18, found by causal tracing.

Departure: no causal tracing here, so without LoRA.layers the blocks L/4 to L/2 - 1 of L are taken. beta is not stated
in the paper. Published: LoRA 8/16, 5 epochs, no retain set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.methods.npo import npo_loss
from unlearn.registry import above, at_least, register
from unlearn.scoring import Scored


@register("pava")
@dataclass(frozen=True)
class PAVA(Method):
    """Args: weight of the anchor term; beta of NPO; questions, a file with a question a line, None: our own."""

    weight: float = 3.0
    beta: float = 0.1
    questions: str | None = None

    teacher_views = (View("forget"),)
    teacher_sums_only = True
    mlps_only = True
    retain_parts = ("anchor",)

    def __post_init__(self) -> None:
        above(0, beta=self.beta)
        at_least(0, weight=self.weight)

    @property
    def student_views(self) -> tuple[View, ...]:
        return (View("forget"), View("anchor", text=self.questions or ""))

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            logps, ref_logps = student["forget"].sequence_logps(), teacher["forget"].sequence_logps().detach()
            parts["forget"] = npo_loss(logps, ref_logps, beta=self.beta).mean()
        if "anchor" in student:
            parts["anchor"] = self.weight * student["anchor"].cross_entropy()
        return parts
