"""PDU: flatten the logits on the forget set, as far as the retain loss allows; its weight is learned on the way.

Entesari et al., "Constrained entropic unlearning: a primal-dual framework" (2025, 2506.05314):

    min f  subject to  CE(R) <= eps,      f = token mean over F of (max_v z_v - mean_v z_v)^2
    the step's gradient = grad f + lambda grad CE(R);   then lambda <- max(0, lambda + eta (CE(R) - eps))

with z the raw logits. lambda moves once per optimiser step, after `warmup` epochs, with the CE(R) of the step's whole
batch over all processes; it is logged, and a run that goes on keeps it. f is in squared logits and dwarfs CE.

Departures: the released code shifts the mask by one token, moves lambda per micro-batch and per process, and forgets it
when a run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.divergences import masked_mean
from unlearn.hooks import Gradients, Probe, Sides
from unlearn.method import Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored

SLACK = 1.1  # of the original model's CE(R), where eps is null


def flatness_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Scalar: mean over `mask` [B, T] of (max_v z - mean_v z)^2; logits [B, T, V]."""
    wide = logits.float().masked_fill(~mask[..., None], 0.0)  # what is not scored may hold anything
    return masked_mean((wide.amax(-1) - wide.mean(-1)).square(), mask)


@register("pdu")
@dataclass(frozen=True)
class PDU(Method):
    """f(F) and CE(R) with a learned weight.

    Args:
        lambda_start: the weight of CE(R) at the start.
        eta: how fast it follows.
        eps: what CE(R) may be, nats per token; None takes 1.1 times the original model's, its mean over the rows of R.
        warmup: epochs before it moves.
    """

    lambda_start: float = 100.0
    eta: float = 5.0
    eps: float | None = 0.3
    warmup: int = 5

    student_views = (View("forget"), View("retain"))

    def __post_init__(self) -> None:
        at_least(0, lambda_start=self.lambda_start, eta=self.eta, warmup=self.warmup)
        if self.eps is not None:
            at_least(0, eps=self.eps)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            parts["forget"] = flatness_loss(student["forget"].logits, student["forget"].mask)
        if "retain" in student:
            parts["retain"] = student["retain"].cross_entropy()
        return parts

    def prepare(self, probe: Probe) -> Gradients:
        if self.eps is not None:
            return {}
        losses = [probe.cross_entropy(row).double() for row in probe.batches("retain")]
        found = {"loss": torch.stack(losses).sum(), "rows": losses[0].new_tensor(len(losses))} if losses else {}
        sums = probe.sum(found)
        return {"eps": (SLACK * sums["loss"] / sums["rows"]).float()}

    def combine(self, sides: Sides, memory: Mapping[str, Tensor], step: StepInfo) -> tuple[Gradients, Gradients]:
        weight = memory["lambda"] if memory else next(iter(sides.forget.values())).new_tensor(self.lambda_start)
        gradient = {name: g + weight * sides.retain[name] for name, g in sides.forget.items()}
        if step.epoch >= self.warmup and "retain" in sides.values:
            eps = sides.measured["eps"] if self.eps is None else self.eps
            weight = (weight + self.eta * (sides.values["retain"] - eps)).clamp(min=0)
        return gradient, {"lambda": weight}
