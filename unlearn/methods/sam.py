"""Sharpness-aware unlearning: the forget gradient at weights a little further up its own slope, so that it lasts.

Fan et al., "Towards LLM unlearning resilient to relearning attacks" (2025, 2502.05374):

    eps = rho g_f / ||g_f||_2;   the step's gradient = grad f(theta + eps) + grad r(theta)

The norm is over all trained weights and all processes; where g_f is 0, so is eps. The retain gradient is taken at
theta, and the weights come back from a copy. One more forget forward and backward a step. Around any method with a
forget side; alone around the paper's, NPO with CE(R).
"""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.hooks import Gradients, Sides
from unlearn.method import Wrapper
from unlearn.methods.npo import NPO
from unlearn.registry import at_least, register
from unlearn.wrapping import needs_training


@register("sam", method=NPO(beta=0.1, retain_weight=1.0))
@dataclass(frozen=True)
class SharpnessAware(Wrapper):
    """`method` with its forget gradient taken `rho` away, along itself."""

    rho: float = 0.01

    def __post_init__(self) -> None:
        at_least(0, rho=self.rho)
        needs_training(self.method, "sam", side="forget")

    def perturb(self, sides: Sides) -> Gradients:
        norm = sides.dot(sides.forget, sides.forget).sqrt()
        return {name: self.rho * g / norm.clamp(min=1e-30) for name, g in sides.forget.items()}
