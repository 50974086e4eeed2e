"""A forget step as it is commonly written: a second copy of the model as teacher, one forward for each view, logits of
every position, every row padded to the longest. Only its numbers are ours: the same losses over the answers' tokens."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Rows = Mapping[str, Any]  # Collator.pad: inputs, labels


def cross_entropy(model: Any, rows: Rows) -> Tensor:
    """Token mean, by the model itself."""
    return model(**rows["inputs"], labels=rows["labels"], use_cache=False).loss


def sequence_logps(model: Any, rows: Rows) -> Tensor:
    """[B] log-probabilities of the answers."""
    logits = model(**rows["inputs"], use_cache=False).logits[:, :-1].float()
    nats = F.cross_entropy(logits.transpose(1, 2), rows["labels"][:, 1:], reduction="none", ignore_index=-100)
    return -nats.sum(1)


def kl(model: Any, teacher: Any, rows: Rows) -> Tensor:
    """KL(teacher || model), mean over the answers' tokens."""
    mask = rows["labels"][:, 1:] != -100
    student_logps = model(**rows["inputs"], use_cache=False).logits[:, :-1][mask].float().log_softmax(-1)
    with torch.no_grad():
        teacher_logps = teacher(**rows["inputs"], use_cache=False).logits[:, :-1][mask].float().log_softmax(-1)
    return F.kl_div(student_logps, teacher_logps, reduction="none", log_target=True).sum(-1).mean()


def plain_loss(method: str, model: Any, teacher: Any, views: Mapping[str, Rows]) -> Tensor:
    """The loss of one batch under npo (beta 1), KL or grad_diff (beta 1)."""
    if method == "npo":
        with torch.no_grad():
            before = sequence_logps(teacher, views["forget"])
        return -2 * F.logsigmoid(before - sequence_logps(model, views["forget"])).mean()
    if method == "KL":
        return kl(model, teacher, views["retain"]) - cross_entropy(model, views["forget"])
    return cross_entropy(model, views["retain"]) - cross_entropy(model, views["forget"])
