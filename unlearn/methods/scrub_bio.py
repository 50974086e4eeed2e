"""SCRUB_bio: turn the embeddings of the forget set away from what they were, keep those of the retain set.

CLEAR (2025), Appendix B:  L = mean(1 - d_cos(e_f, e_f^o)) + mean d_cos(e_r, e_r^o),  d_cos = 1 - cosine.

e is the face embedding in cv/ and, in mm/ and nlp/, the mean hidden state over the answer's positions of one layer.
The forget term is the cosine itself: it falls to -1, where the published code stops at 0.

At student = teacher the gradient is exactly zero (both cosines are at their maximum): a fresh LoRA moves by rounding
only. Start from noise (`init_noise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from unlearn.method import HiddenSpec, Layer, Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


def mean_state(hidden: Tensor, mask: Tensor) -> Tensor:
    """[B, D] fp32 mean over each row's masked positions: hidden [B, L, D], mask [B, L] bool, no row without one."""
    kept = hidden.float().masked_fill(~mask[..., None], 0.0)
    return kept.sum(1) / mask.sum(1, keepdim=True)


def cosines(teacher: Scored, student: Scored) -> Tensor:
    """[B] cosine of each row's mean hidden state with the teacher's; no gradient reaches the teacher."""
    original = mean_state(*teacher.hidden_states()).detach()
    return F.cosine_similarity(mean_state(*student.hidden_states()), original, dim=-1)


@register("scrub_bio")
@dataclass(frozen=True)
class ScrubBio(Method):
    """mean cosine(F) + mean (1 - cosine(R)). `layer`: decoder block, "last", or None for the model family's value."""

    layer: Layer = "last"

    student_views = (View("forget"), View("retain"))
    teacher_views = (View("forget"), View("retain"))

    def __post_init__(self) -> None:
        if isinstance(self.layer, int):
            at_least(0, layer=self.layer)

    @property
    def hidden(self) -> HiddenSpec:
        return HiddenSpec(self.layer, "answer")

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = cosines(teacher["forget"], student["forget"]).mean()
        if "retain" in student:
            parts["retain"] = (1 - cosines(teacher["retain"], student["retain"])).mean()
        return parts
