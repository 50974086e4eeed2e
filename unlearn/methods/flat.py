"""FLAT: raise the refusal and lower the true answer by the variational form of an f-divergence.

Wang et al., "LLM unlearning via loss adjustment with only forget data" (2024, 2410.11143). No teacher,
no retain set:

    L = mean_b [-g(P_b^e) + f(P_b^f)],   P_b = (1 / |y|) sum_t p_t

e is the refusal (view `idk`), f the true answer; g and f are taken per row and then averaged:

    KL       g = v                        f = exp(v - 1)
    TV       g = tanh(v) / 2              f = tanh(v) / 2
    JS       g = ln 2 - softplus(-v)      f = v + softplus(-v) - ln 2
    Pearson  g = v                        f = v^2 / 4 + v

Others are not on offer: in the released code Reverse-KL, squared Hellinger and Neyman lower the *refusal's*
probability. P is a mean of probabilities, not of their logarithms, so a token of p near 0 gets no gradient: a weak,
bounded method.
Published: lr 1e-5 (7B in full: 2e-7), no retain term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.method import Method, StepInfo, View
from unlearn.registry import register
from unlearn.scoring import Scored

Function = Callable[[Tensor], Tensor]
DIVERGENCES: dict[str, tuple[Function, Function]] = {  # name -> (g of the refusal, f of the true answer)
    "KL": (lambda v: v, lambda v: torch.exp(v - 1)),
    "TV": (lambda v: torch.tanh(v) / 2, lambda v: torch.tanh(v) / 2),
    "JS": (lambda v: math.log(2) - F.softplus(-v), lambda v: v + F.softplus(-v) - math.log(2)),
    "Pearson": (lambda v: v, lambda v: v.square() / 4 + v),
}


def mean_probability(scored: Scored) -> Tensor:
    """[B]: the mean over a row's scored tokens of their probability."""
    return scored.token_logps().exp().masked_fill(~scored.mask, 0.0).sum(1) / scored.lengths()


@register("flat")
@dataclass(frozen=True)
class FLAT(Method):
    """Args: divergence, which pair of functions."""

    divergence: Literal["KL", "TV", "JS", "Pearson"] = "TV"

    student_views = (View("idk"), View("forget"))
    forget_parts = ("idk", "forget")

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        g, f = DIVERGENCES[self.divergence]
        return {
            "idk": -g(mean_probability(student["idk"])).mean(),
            "forget": f(mean_probability(student["forget"])).mean(),
        }
