"""AM-softmax: softmax over cosines, where the right class has to win by a margin.

Wang et al., "Additive margin softmax for face verification" (2018), equation 5:

    L = -log( exp(s (cos_y - m)) / (exp(s (cos_y - m)) + sum_{j != y} exp(s cos_j)) )

taken in log-space, with class weights of unit norm. `normalise: false` leaves the weights as they are: the published
code normalises a local copy, so its logits are no cosines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearn.scoring import Scored, score_classes


@dataclass(frozen=True)
class Margin:
    """`scale` s and `margin` m of AM-softmax; `normalise` the class weights."""

    scale: float = 30.0
    margin: float = 0.4
    normalise: bool = True


class CosineHead(nn.Module):
    """[B, D] embeddings -> [B, C] logits s * cos(embedding, class weight), without the margin."""

    def __init__(self, dim: int, classes: int, margin: Margin) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_normal_(self.weight)
        self.scale, self.normalise = margin.scale, margin.normalise

    def forward(self, embeddings: Tensor) -> Tensor:
        weight = F.normalize(self.weight, dim=-1) if self.normalise else self.weight
        return self.scale * (F.normalize(embeddings, dim=-1) @ weight.T)


def with_margin(logits: Tensor, labels: Tensor, margin: Margin) -> Tensor:
    """`logits` [B, C] with s * m taken off the right class: their cross-entropy is AM-softmax."""
    return logits - margin.scale * margin.margin * F.one_hot(labels, logits.shape[-1])


def score_faces(logits: Tensor, labels: Tensor, embeddings: Tensor, margin: Margin) -> Scored:
    """One view for a method: an answer of one token, the identity (T = 1).

    Its class probabilities are those of AM-softmax, with the margin at the photo's own label, in every loss: without it
    a softmax of scale 30 is saturated on everything the network was trained on, and divergences and likelihood ratios
    have hardly any gradient.

    Args:
        logits: [B, C] without the margin; labels: [B]; embeddings: [B, D], what `hidden` of the contract means here.
    """
    return score_classes(with_margin(logits, labels, margin), labels, hidden=embeddings)
