"""SalUn: only the weights that matter most to the forget rows may move; everything else of the method stays.

Fan et al., "SalUn: empowering machine unlearning via gradient-based weight saliency" (2023, 2310.12508):

    keep = the share k of all trained entries with the largest |sum over the rows of F of the gradient of CE|

One ranking over the model (of equals the earlier name, then the lower index), measured once with the original weights.
Entries outside return to their start value after every step: a mask on the gradient alone leaks through momentum and
weight decay. Around any loss; alone around the paper's own pair, answers of other items on F and CE(R).

With LoRA the entries of B alone are ranked, and A stays: at the start B is 0 and every gradient in A with it.

Departure: released variants rank each tensor by itself, which is another mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.hooks import Gradients, Probe
from unlearn.method import Method, StepInfo, View, Wrapper
from unlearn.registry import register
from unlearn.scoring import Scored, mean_over_answers
from unlearn.wrapping import needs_training


def largest(tensors: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Bool masks of the `share` of all entries, over all tensors together, that are largest in size; of equals those
    of the earlier name, then of the lower index."""
    names = sorted(tensors)
    sizes = torch.cat([tensors[name].detach().abs().flatten() for name in names])
    count = round(share * len(sizes))
    if count == 0:
        return {name: torch.zeros_like(tensors[name], dtype=torch.bool) for name in names}
    limit = sizes.kthvalue(len(sizes) - count + 1).values
    above, equal = sizes > limit, sizes == limit
    kept = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    pieces = kept.split([tensors[name].numel() for name in names])
    return {name: piece.view_as(tensors[name]) for name, piece in zip(names, pieces, strict=True)}


@dataclass(frozen=True)
class OtherAnswers(Method):
    """CE of each forget question with the answer of a retain item, and CE(R)."""

    student_views = (View("random", k=1, source="retain"), View("retain"))
    forget_parts = ("random",)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "random" in student:
            parts["random"] = mean_over_answers(student["random"], 1)
        if "retain" in student:
            parts["retain"] = student["retain"].cross_entropy()
        return parts


@register("salun", method=OtherAnswers())
@dataclass(frozen=True)
class SalUn(Wrapper):
    """`method` on the share `k` of the trained entries."""

    k: float = 0.5

    keeps = True

    def __post_init__(self) -> None:
        if not 0 < self.k <= 1:
            raise ValueError(f"k must be above 0 and at most 1, got {self.k}")
        needs_training(self.method, "salun")

    def prepare(self, probe: Probe) -> Gradients:
        sums: Gradients = {}
        for row in probe.batches("forget"):
            for name, gradient in probe.gradients(row).items():
                sums[name] = sums[name] + gradient if name in sums else gradient
        sums = probe.sum(sums)
        factors = {name: tensor for name, tensor in sums.items() if ".lora_B." in name}
        masks = largest(factors or sums, self.k)
        still = {name: torch.zeros_like(sums[name], dtype=torch.bool) for name in sums if name not in masks}
        kept = {f"keep/{name}": mask for name, mask in {**masks, **still}.items()}
        return {**self.method.prepare(probe), **kept}
