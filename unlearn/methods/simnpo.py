"""SimNPO: NPO without a reference model, on length-normalised log-probabilities.

Fan et al., "Simplicity prevails: rethinking negative preference optimization" (2024, 2410.07163):

    L = -(2 / beta) * mean_b log sigmoid(-(beta / |y|) * s_b - gamma)

with s the summed log-probability of an answer and |y| its tokens, the end token included. The mean over tokens is
taken within each row, before the sigmoid.

Departure from public code: gamma stands outside beta, as the paper prints it; much code has beta * (NLL / |y| - gamma),
which is another loss for gamma > 0. Published: forget_weight .125, retain_weight 1 (5 %: beta 2.5, forget_weight
.1375), lr 1e-5, 10 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from unlearn.methods.forget_only import ForgetOnly
from unlearn.registry import above, at_least, register
from unlearn.scoring import Scored


def simnpo_loss(logps: Tensor, lengths: Tensor, *, beta: float, gamma: float = 0.0) -> Tensor:
    """-(2 / beta) * log sigmoid(-(beta / lengths) * logps - gamma).

    Args:
        logps: [B] summed log-probabilities of the answers to forget, nats; lengths: [B] their scored tokens.
        beta: > 0; gamma: >= 0, a margin in the units of beta * nats per token.

    Returns:
        [B], >= 0.

    Raises:
        ValueError: the two are not of one [B] shape.
    """
    if logps.shape != lengths.shape or logps.ndim != 1:
        raise ValueError(f"simnpo_loss needs two [B] tensors, got {tuple(logps.shape)} and {tuple(lengths.shape)}")
    return -(2 / beta) * F.logsigmoid(-beta * logps / lengths - gamma)


@register("simnpo")
@dataclass(frozen=True)
class SimNPO(ForgetOnly):
    """Args: beta, the inverse temperature; gamma, the reward margin."""

    beta: float = 4.5
    gamma: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above(0, beta=self.beta)
        at_least(0, gamma=self.gamma)

    def _forget_term(self, student: Scored, teacher: Scored | None) -> Tensor:
        return simnpo_loss(student.sequence_logps(), student.lengths(), beta=self.beta, gamma=self.gamma).mean()
