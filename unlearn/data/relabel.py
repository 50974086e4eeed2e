"""Labels of another text under an answer that is read as it is (the view `relabelled`)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.scoring import IGNORE_INDEX


def relabelled(rows: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """A view's rows (`Collator`) whose label at scored position t is ids[t mod n]; inputs, order and keys stay.

    The true labels are kept as `truth` [B, T], aligned with what a forward makes of the view.
    """
    parts: dict[str, Any] = {name: rows[name] for name in ("text", "image") if name in rows}
    truths = [part["labels"][:, -part["answer_length"] :] for part in parts.values()]
    longest = max(truth.shape[1] for truth in truths)
    truth = torch.cat([F.pad(t, (longest - t.shape[1], 0), value=IGNORE_INDEX) for t in truths])
    replaced = {name: {**part, "labels": relabel(part["labels"], ids)} for name, part in parts.items()}
    return {**rows, **replaced, "truth": truth[rows["order"]]}


def relabel(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """[B, L] labels, those at the scored positions replaced by `ids`, from the first on and again and again."""
    scored = labels != IGNORE_INDEX
    place = (scored.cumsum(1) - 1).clamp(min=0)
    return torch.where(scored, torch.tensor(ids)[place % len(ids)], labels)
