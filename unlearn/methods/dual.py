"""DualOptim: forget steps and retain steps in turn, each side with moments of its own.

Zhong et al., "DualOptim: enhancing efficacy and stability in machine unlearning with dual optimizers" (2025,
2504.15827): `forget` steps on the forget loss, then `retain` steps on the retain loss, and so on; two AdamW states
(m, v, step), each step uses its own side's. The two losses pull in opposite ways, and shared moments would mix them.

`combine` returns Adam's direction, so the optimiser is plain SGD with the run's lr and weight_decay (which is AdamW's
decoupled decay then), and nothing is clipped: `optim` and `max_grad_norm` of the run do not count. A run's steps count
both kinds: of an epoch over F the forget loss sees forget / (forget + retain) of the batches. Around any method with
both sides; alone around grad_diff_forget_ce_retain_ce. Published: lr 1e-5 for both, weight decay .01.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.hooks import Gradients, Side, Sides
from unlearn.method import StepInfo, Wrapper
from unlearn.methods.grad_diff import GradientDifference
from unlearn.registry import at_least, register
from unlearn.wrapping import needs_both_sides

BETAS, EPSILON = (0.9, 0.999), 1e-8  # AdamW's


def adam(gradient: Tensor, m: Tensor, v: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(direction, new m, new v) after `count` steps ([1], fp64), this one included; weights move by -lr direction."""
    first, second = ((1 - beta**count).to(gradient) for beta in BETAS)
    m = BETAS[0] * m + (1 - BETAS[0]) * gradient
    v = BETAS[1] * v + (1 - BETAS[1]) * gradient.square()
    return m / first / ((v / second).sqrt() + EPSILON), m, v


@register("dual", method=GradientDifference("ce", "ce"))
@dataclass(frozen=True)
class DualOptim(Wrapper):
    """Args: forget, retain, how many steps of each side follow each other."""

    forget: int = 1
    retain: int = 5

    is_update = True

    def __post_init__(self) -> None:
        at_least(1, forget=self.forget, retain=self.retain)
        needs_both_sides(self.method, "dual")

    def side_of(self, step: StepInfo) -> Side | None:
        return "forget" if step.step % (self.forget + self.retain) < self.forget else "retain"

    def combine(self, sides: Sides, memory: Mapping[str, Tensor], step: StepInfo) -> tuple[Gradients, Gradients]:
        side, new, directions = self.side_of(step), dict(memory), {}
        gradients = sides.forget if side == "forget" else sides.retain
        count = memory.get(f"{side}.steps", torch.zeros(1, dtype=torch.float64)) + 1  # one entry: no number to log
        new[f"{side}.steps"] = count
        for name, gradient in gradients.items():
            m, v = (memory.get(f"{side}.{what}/{name}", torch.zeros_like(gradient)) for what in ("m", "v"))
            directions[name], m, v = adam(gradient, m, v, count)
            new |= {f"{side}.m/{name}": m, f"{side}.v/{name}": v}
        return directions, new
