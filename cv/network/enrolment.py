"""Recognition by enrolment: the mean of a person's first photos stands for the person; others are matched by cosine.

CLEAR (2025), section 4.3: five photos enrol; accuracy is the share of the remaining ones whose nearest enrolment
vector, over all people, is the right one. The membership logit of a photo is that of its cosine with its own person's
vector.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CLAMP = 1e-6  # the published 1e-45 lets a cosine of 0 become a logit of -103, which no Gaussian survives


def enrolled(labels: Tensor, num_enroll: int) -> Tensor:
    """[N] bool: the first `num_enroll` photos of each person, wherever they stand (labels need not be sorted)."""
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - starts[labels[order]]
    return rank < num_enroll


def similarities(embeddings: Tensor, labels: Tensor, num_enroll: int) -> Tensor:
    """[N, people] cosine of every photo with every enrolment vector, the mean of raw embeddings [N, D] of that
    person."""
    embeddings = embeddings.double()
    first = enrolled(labels, num_enroll)
    sums = embeddings.new_zeros(int(labels.max()) + 1, embeddings.shape[1]).index_add_(
        0, labels[first], embeddings[first]
    )
    return F.normalize(embeddings, dim=1) @ F.normalize(sums, dim=1).T  # a mean and a sum have the same direction


def recognise(embeddings: Tensor, labels: Tensor, num_enroll: int) -> tuple[Tensor, Tensor]:
    """Who is in the photos, and how surely the right one.

    Args:
        embeddings: [N, D]; labels: [N], every person with at least `num_enroll` photos.

    Returns:
        (correct [N] bool, logits [N] fp32): whether the nearest enrolment vector is the right one; ln(s / (1 - s)) of
        the cosine s with it, s clipped to [1e-6, 1 - 1e-6].
    """
    cosines = similarities(embeddings, labels, num_enroll)
    own = cosines.gather(1, labels[:, None])[:, 0].clamp(CLAMP, 1 - CLAMP)
    return cosines.argmax(1) == labels, torch.logit(own).float()


def accuracy(correct: Tensor, rows: Tensor, enrolment: Tensor) -> float:
    """Share of `rows` (photo numbers) recognised, enrolment photos left out; between 0 and 1."""
    return float(correct[rows[~enrolment[rows]]].float().mean())
