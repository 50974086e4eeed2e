"""RMU: steer the hidden states of the forget set to a random direction, hold those of the retain set.

Li et al., "The WMDP benchmark" (2024), section 4; CLEAR (2025), Appendix B:

    L = w * E_F (1/d) ||h - c u||^2 + alpha * E_R (1/d) ||h - h_o||^2

h is the output of one decoder block, averaged over tokens; u is one unit vector drawn from U[0, 1)^d and fixed.

Departures: the paper prints ||.||^2; the division by d is WMDP's own code (a mean squared error) and makes c and alpha
mean what its papers report. Appendix B leaves alpha out of its formula. The paper's c = 300 comes from WMDP's Mixtral
run, whose alpha was 1600: with alpha = 1 and every layer trainable it collapses, here as there (preset `paper`).
`sane` is c = 20, alpha = 100.

`target: norm` is Adaptive RMU (Huu-Tien et al., 2024, 2408.06223), where each token is pushed as far as its own state
is long, which works in any layer: the target of token t is scale * ||h_t^o||_2 * u, detached. Its released code uses
one constant instead, scale times the mean norm of the first forget batch, padding included. Published: scale 5, alpha
1200, layer 7, lr 5e-5, 150 steps.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlearn.method import HiddenSpec, Layer, Method, StepInfo, View
from unlearn.registry import at_least, register
from unlearn.scoring import Scored

PRESETS: dict[str, dict[str, float]] = {"paper": {"c": 300.0, "alpha": 1.0}, "sane": {"c": 20.0, "alpha": 100.0}}


def rmu_loss(hidden: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Token mean of (1/d) ||hidden - target||^2 in fp32.

    Args:
        hidden: [B, L, D].
        target: [B, L, D] (the teacher's states, or a target for each token) or [D] (one vector for every token).
        mask: [B, L] bool.

    Raises:
        ValueError: shapes that do not belong together, or an empty mask.
    """
    per_token = target.ndim == 3
    if hidden.shape[:2] != mask.shape or target.shape != (hidden.shape if per_token else hidden.shape[2:]):
        raise ValueError(
            "rmu_loss needs hidden [B, L, D], target [B, L, D] or [D], mask [B, L], got "
            f"{tuple(hidden.shape)}, {tuple(target.shape)}, {tuple(mask.shape)}"
        )
    states = hidden[mask].float()
    if states.numel() == 0:
        raise ValueError("rmu_loss: the mask selects no token")
    return (states - (target[mask] if per_token else target).float()).square().mean()


@functools.lru_cache(maxsize=8)
def control_vector(dim: int, *, scale: float, seed: int) -> Tensor:
    """[D] fp32 on the CPU: scale * u, u drawn from U[0, 1)^dim with a generator of its own and scaled to unit norm."""
    u = torch.rand(dim, generator=torch.Generator().manual_seed(seed))
    return scale * u / u.norm()


@register("RMU")
@dataclass(frozen=True)
class RMU(Method):
    """w * E_F (1/d) ||h - c u||^2 + alpha * E_R (1/d) ||h - h_o||^2.

    Args:
        target: "fixed", c * u for every token, or "norm", scale * ||h_t^o|| * u for token t.
        scale: for "norm" only.
        preset: where c and alpha come from when they are None: "paper" or "sane". An explicit value wins.
        c: length of the control vector.
        alpha: retain weight.
        forget_weight: w; what the published `loss_beta` sets.
        layer: decoder block, "last", or None for the model family's value.
        token_scope: "all" (no padding, no image tokens) or "answer".
        seed: of the control vector.
    """

    preset: Literal["paper", "sane"] = "paper"
    c: float | None = None
    alpha: float | None = None
    forget_weight: float = 1.0
    layer: Layer = None
    token_scope: Literal["all", "answer"] = "all"
    seed: int = 0
    target: Literal["fixed", "norm"] = "fixed"
    scale: float = 5.0

    student_views = (View("forget"), View("retain"))
    loss_beta_option = "forget_weight"

    def __post_init__(self) -> None:
        at_least(
            0,
            c=self._length,
            scale=self.scale,
            alpha=self._retain_weight,
            forget_weight=self.forget_weight,
            seed=self.seed,
        )
        if isinstance(self.layer, int):
            at_least(0, layer=self.layer)

    @property
    def teacher_views(self) -> tuple[View, ...]:
        return (View("retain"), *((View("forget"),) if self.target == "norm" else ()))

    @property
    def _length(self) -> float:
        """c, or the preset's."""
        return PRESETS[self.preset]["c"] if self.c is None else self.c

    @property
    def _retain_weight(self) -> float:
        """alpha, or the preset's."""
        return PRESETS[self.preset]["alpha"] if self.alpha is None else self.alpha

    @property
    def hidden(self) -> HiddenSpec:
        return HiddenSpec(self.layer, self.token_scope)

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        parts = {}
        if "forget" in student:
            states, mask = student["forget"].hidden_states()
            target = self._target(states, teacher.get("forget"))
            parts["forget"] = self.forget_weight * rmu_loss(states, target, mask)
        if "retain" in student:
            states, mask = student["retain"].hidden_states()
            original, _ = teacher["retain"].hidden_states()
            parts["retain"] = self._retain_weight * rmu_loss(states, original.detach(), mask)
        return parts

    def _target(self, states: Tensor, teacher: Scored | None) -> Tensor:
        """Where the forget states [B, L, D] are pushed to: [D], or [B, L, D] in lengths of the teacher's states."""
        length = self._length if self.target == "fixed" else self.scale
        u = control_vector(states.shape[-1], scale=length, seed=self.seed).to(states.device)
        if self.target == "fixed":
            return u
        assert teacher is not None, "target: norm has the teacher score the forget view"
        return teacher.hidden_states()[0].detach().float().norm(dim=-1, keepdim=True) * u
