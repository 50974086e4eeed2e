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


def refusals_preferred(model: Any, teacher: Any, idk: Rows, forget: Rows) -> Tensor:
    """DPO with beta 0.1 plus the token mean of the refusals."""
    with torch.no_grad():
        before = sequence_logps(teacher, idk) - sequence_logps(teacher, forget)
    refused = sequence_logps(model, idk)
    preference = -F.logsigmoid(0.1 * (refused - sequence_logps(model, forget) - before)).mean()
    return preference - refused.sum() / (idk["labels"][:, 1:] != -100).sum()


def other_answers(model: Any, rows: Rows, items: int) -> Tensor:
    """Mean over the answers of the token mean over the items; `rows` are answer-major."""
    counts = (rows["labels"][:, 1:] != -100).sum(1)
    nats = -sequence_logps(model, rows)
    return (nats.view(-1, items).sum(1) / counts.view(-1, items).sum(1)).mean()


def plain_loss(method: str, model: Any, teacher: Any, views: Mapping[str, Rows]) -> Tensor:
    """The loss of one batch under npo (beta 1), KL, grad_diff (beta 1), dpo or SKU with their default weights."""
    if method == "npo":
        with torch.no_grad():
            before = sequence_logps(teacher, views["forget"])
        return -2 * F.logsigmoid(before - sequence_logps(model, views["forget"])).mean()
    if method == "KL":
        return kl(model, teacher, views["retain"]) - cross_entropy(model, views["forget"])
    if method == "dpo":
        return refusals_preferred(model, teacher, views["idk"], views["forget"])
    if method == "SKU":
        learned = 2.5 * cross_entropy(model, views["forget"])
        others = other_answers(model, views["random"], len(views["forget"]["labels"]))
        return learned + others - 0.5 * kl(model, teacher, views["retain"])
    return cross_entropy(model, views["retain"]) - cross_entropy(model, views["forget"])
