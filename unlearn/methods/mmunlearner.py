"""MMUnlearner: gradient difference whose forget gradient reaches only weights that matter to F more than to the rest.

Huo et al., "MMUnlearner: reformulating multimodal machine unlearning" (2025, 2502.11051):

    S = mean over rows of the squared gradient of CE, with the original weights
    m = 1 where S_f >= b S_p, else 0;     the step's gradient = m * grad(-CE(F)) + grad(CE(R))

S_f is over the forget rows with a picture (all, where none has one), S_p over what is protected: all retain rows, or
with `protect: paper` also the forget rows without a picture (the paper keeps a person's text facts; CLEAR wants those
forgotten). A row counts for the tensors that it reaches: the vision tower's mean is over rows with pictures.

With LoRA every gradient in A is 0 at the start, so A is kept whole (0 >= 0).

Departure: one optimiser state and one step. The released code steps twice through shared moments, so that masked
weights still move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unlearn.hooks import Gradients, Probe, Sides
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored


def saliency_mask(forget: Tensor, protect: Tensor, *, b: float) -> Tensor:
    """Bool: where forget >= b * protect."""
    return forget >= b * protect


def mean_squares(probe: Probe, rows: Iterable[Any]) -> Gradients:
    """By tensor, the mean squared gradient over the rows (of all processes) that reach it."""
    sums: Gradients = {}
    for row in rows:
        for name, gradient in probe.gradients(row).items():
            square = gradient.square()
            sums[name] = sums[name] + square if name in sums else square
            count = sums.get(f"rows/{name}", torch.zeros((), device=gradient.device))
            sums[f"rows/{name}"] = count + 1
    sums = probe.sum(sums)
    return {name: total / sums[f"rows/{name}"] for name, total in sums.items() if not name.startswith("rows/")}


@register("mmunlearner")
@dataclass(frozen=True)
class MMUnlearner(Method):
    """Args: b, how much more a weight must matter to F; protect, "retain" or "paper"."""

    b: float = 1.0
    protect: Literal["retain", "paper"] = "retain"

    student_views = (View("forget"), View("retain"))

    def __post_init__(self) -> None:
        at_least(0, b=self.b)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        losses = {name: scored.cross_entropy() for name, scored in student.items()}
        return {name: -loss if name == "forget" else loss for name, loss in losses.items()}

    def prepare(self, probe: Probe) -> Gradients:
        forget = mean_squares(probe, (row for row in probe.batches("forget") if row.image))
        if not forget:  # a text split
            forget = mean_squares(probe, probe.batches("forget"))
        protect = mean_squares(probe, self._protected(probe))
        masks = {}
        for name in sorted({*forget, *protect}):
            none = torch.zeros_like(forget[name] if name in forget else protect[name])
            masks[f"mask/{name}"] = saliency_mask(forget.get(name, none), protect.get(name, none), b=self.b)
        return masks

    def _protected(self, probe: Probe) -> Iterable[Any]:
        yield from probe.batches("retain")
        if self.protect == "paper":
            yield from (row for row in probe.batches("forget") if not row.image)

    def combine(self, sides: Sides, memory: Mapping[str, Tensor], step: StepInfo) -> tuple[Gradients, Gradients]:
        masks = {name: sides.measured.get(f"mask/{name}") for name in sides.forget}
        masked = {name: g if (mask := masks[name]) is None else g * mask for name, g in sides.forget.items()}
        return {name: gradient + sides.retain[name] for name, gradient in masked.items()}, {}
