"""Divergences between next-token distributions, averaged over scored positions. The direction is fixed here, once.

`torch.nn.functional.kl_div(input, target)` computes KL(target || input). Every function takes logits, selects the
scored positions before anything else (so only [N, V] is ever upcast, and NaN elsewhere reaches neither value nor
gradient) and reduces in fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.scoring import Scored


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Scalar mean of `values` where `mask` is True, in fp32.

    Args:
        values: any shape.
        mask: bool, the same shape.

    Raises:
        ValueError: shapes differ, or the mask is empty (a mean over nothing would be NaN).
    """
    if values.shape != mask.shape:
        raise ValueError(f"masked_mean: values {tuple(values.shape)} and mask {tuple(mask.shape)} differ")
    return _mean(values[mask].float())


def kl_divergence(p_logits: Tensor, q_logits: Tensor, mask: Tensor) -> Tensor:
    """KL(p || q) = sum_v p_v (log p_v - log q_v), nats, averaged over `mask`; p is the teacher in every retain term.

    Args:
        p_logits, q_logits: [..., V].
        mask: [...] bool.

    Returns:
        Scalar, fp32, >= 0 up to rounding; 0 with a zero gradient in q where p = q.

    Raises:
        ValueError: shapes differ or the mask is empty.
    """
    if p_logits.shape != q_logits.shape or p_logits.shape[:-1] != mask.shape:
        raise ValueError(
            "kl_divergence needs p and q [..., V] and mask [...], got "
            f"{tuple(p_logits.shape)}, {tuple(q_logits.shape)} and {tuple(mask.shape)}"
        )
    return _kl(p_logits[mask], q_logits[mask])


def teacher_kl(teacher: Scored, student: Scored) -> Tensor:
    """KL(teacher || student) over the answers; no gradient reaches the teacher.

    The two may be padded differently (the teacher of an augmented input is): answers are matched token by token.

    Raises:
        ValueError: the two views score different numbers of tokens or, seen on the CPU only, different answers.
    """
    target, prediction = teacher.scored_logits().detach(), student.scored_logits()
    if target.shape != prediction.shape:
        raise ValueError(
            f"teacher and student score different tokens: {tuple(target.shape)} and {tuple(prediction.shape)} [N, V]"
        )
    if student.labels.device.type == "cpu" and not torch.equal(teacher.labels[teacher.mask], student.labels[student.mask]):
        raise ValueError("teacher and student score different answers: the two views were built from other rows")
    return _kl(target, prediction)


def entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Entropy of softmax(logits), nats, averaged over `mask`: logits [..., V], mask [...] bool -> scalar, fp32.

    Taken through log-softmax: p log p of an underflowed p is 0, not NaN.
    """
    if logits.shape[:-1] != mask.shape:
        raise ValueError(f"entropy needs logits [..., V] and mask [...], got {tuple(logits.shape)}, {tuple(mask.shape)}")
    logp = logits[mask].float().log_softmax(-1)
    return _mean(-(logp.exp() * logp).sum(-1))


def _kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    p, q = p_logits.float().log_softmax(-1), q_logits.float().log_softmax(-1)
    return _mean(F.kl_div(q, p, reduction="none", log_target=True).sum(-1))


def _mean(values: Tensor) -> Tensor:
    if values.numel() == 0:
        raise ValueError("no scored position: a mean over nothing is undefined")
    return values.mean()
