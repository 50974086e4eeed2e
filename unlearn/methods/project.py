"""Gradient projection: what the forget gradient would undo of the retain gradient is taken out of it.

Wang et al., "GRU: mitigating the trade-off between unlearning and retention" (2025, 2503.09117); CLEAR's grad_proj is
`scope: tensor, gamma: 1`. At each step

    m = gamma g_r + (1 - gamma) m_old                  (at the first step m = g_r)
    g = g_f - (<g_f, m> / <m, m>) m   if <g_f, m> < 0, else g_f
    the step's gradient = g + retain_weight g_r

g_f is the gradient of the forget loss that is *minimised* (for ascent: of -CE(F)), so after the projection <g, m> = 0:
to first order the step leaves the (smoothed) retain loss alone. Goes around any method with a forget and a retain side;
alone it is around grad_diff_forget_ce_retain_ce.

Departures: CLEAR's published code swaps the two roles (it ascends on the retain set), clips before projecting and takes
each process's own dot product; here gradients are averaged first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearn.hooks import Gradients, Sides
from unlearn.method import StepInfo, Wrapper
from unlearn.methods.grad_diff import GradientDifference
from unlearn.registry import at_least, register
from unlearn.wrapping import needs_both_sides


def projected(gradient: Tensor, direction: Tensor, dot: Tensor, square: Tensor) -> Tensor:
    """`gradient` without its part along `direction` where their product `dot` is negative; `square` is that of
    `direction` with itself, and where it is 0 nothing is taken out."""
    share = torch.where((dot < 0) & (square > 0), dot / square.clamp(min=torch.finfo(square.dtype).tiny), 0.0)
    return gradient - share * direction


@register("project", method=GradientDifference("ce", "ce"))
@dataclass(frozen=True)
class Project(Wrapper):
    """The forget gradient of `method`, projected.

    Args:
        gamma: weight of the step's own retain gradient in m, in (0, 1]; 1 has no memory.
        scope: "global", one projection of all weights together, or "tensor", one of each.
        retain_weight: of the retain gradient itself, added to the result.
    """

    gamma: float = 0.8
    scope: Literal["global", "tensor"] = "global"
    retain_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be above 0 and at most 1, got {self.gamma}")
        at_least(0, retain_weight=self.retain_weight)
        needs_both_sides(self.method, "project")

    def combine(self, sides: Sides, memory: Mapping[str, Tensor], step: StepInfo) -> tuple[Gradients, Gradients]:
        m = {name: self._smoothed(g, memory.get(f"m/{name}")) for name, g in sides.retain.items()}
        groups = [list(m)] if self.scope == "global" else [[name] for name in m]
        result: Gradients = {}
        for names in groups:
            direction = {name: m[name] for name in names}
            dot = sides.dot({name: sides.forget[name] for name in names}, direction)
            square = sides.dot(direction, direction)
            for name in names:
                forget = projected(sides.forget[name], m[name], dot, square)
                result[name] = forget + self.retain_weight * sides.retain[name]
        return result, {f"m/{name}": tensor for name, tensor in m.items()}

    def _smoothed(self, gradient: Tensor, before: Tensor | None) -> Tensor:
        return gradient if before is None else self.gamma * gradient + (1 - self.gamma) * before
