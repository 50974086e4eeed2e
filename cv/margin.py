"""AM-softmax: softmax over cosines, where the right class has to win by a margin.

Wang et al., "Additive margin softmax for face verification" (2018), equation 5:

    L = -log( exp(s (cos_y - m)) / (exp(s (cos_y - m)) + sum_{j != y} exp(s cos_j)) )

taken in log-space, with class weights of unit norm. `normalise: false` leaves the weights as they are: the published
code normalises a local copy, so its logits are no cosines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearn.scoring import Scored


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


@dataclass(frozen=True, eq=False)
class FaceScored(Scored):
    """A scored view of faces: an answer of one token, the identity (T = 1).

    `logits` are those of the class probabilities, which divergences and likelihood ratios compare; `cross_entropy` is
    the loss the network is trained with, which has the margin.
    """

    margin: Margin = Margin()

    def scored_logits(self) -> Tensor:
        """[B, C]: every row is scored, so nothing is selected (a selection would synchronise a GPU)."""
        return self.logits[:, 0]

    def cross_entropy(self) -> Tensor:
        labels = self.labels[:, 0]
        return F.cross_entropy(with_margin(self.scored_logits().float(), labels, self.margin), labels)

    def _map(self, function: Callable[[Tensor], Tensor]) -> FaceScored:
        parts = (self.logits, self.labels, self.hidden, self.hidden_mask)
        return FaceScored(*(t if t is None else function(t) for t in parts), margin=self.margin)  # type: ignore[arg-type]


def score_faces(logits: Tensor, labels: Tensor, embeddings: Tensor, margin: Margin) -> FaceScored:
    """One view for a method: logits [B, C], labels [B], embeddings [B, D] (what `hidden` of the contract means here)."""
    mask = torch.ones(embeddings.shape[0], 1, dtype=torch.bool, device=embeddings.device)
    return FaceScored(logits[:, None], labels[:, None], embeddings[:, None], mask, margin=margin)
