"""Divergences between next-token distributions, averaged over scored positions. The direction is fixed here, once.

`torch.nn.functional.kl_div(input, target)` computes KL(target || input). Every function takes logits and reduces in
fp32, chunk by chunk (unlearn/vocabulary.py); NaN outside the mask reaches neither value nor gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlearn.scoring import Scored, readable
from unlearn.vocabulary import token_entropy, token_js, token_kl


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
    return _mean(values.float().masked_fill(~mask, 0.0), mask)


def kl_divergence(p_logits: Tensor, q_logits: Tensor, mask: Tensor) -> Tensor:
    """KL(p || q) = sum_v p_v (log p_v - log q_v), nats, averaged over `mask`; p is the teacher in every retain term.

    Args:
        p_logits, q_logits: [..., V].
        mask: [...] bool.

    Returns:
        Scalar, fp32, >= 0 up to rounding; 0 with a zero gradient in q where p = q. p gets no gradient.

    Raises:
        ValueError: shapes differ or the mask is empty.
    """
    if p_logits.shape != q_logits.shape or p_logits.shape[:-1] != mask.shape:
        raise ValueError(
            "kl_divergence needs p and q [..., V] and mask [...], got "
            f"{tuple(p_logits.shape)}, {tuple(q_logits.shape)} and {tuple(mask.shape)}"
        )
    shape = (-1, mask.shape[-1], q_logits.shape[-1])
    return _mean(token_kl(p_logits.reshape(shape), q_logits.reshape(shape), mask.reshape(shape[:2])), mask)


def teacher_kl(teacher: Scored, student: Scored) -> Tensor:
    """KL(teacher || student) over the answers; no gradient reaches the teacher.

    The two may be padded differently (the teacher of an augmented input is): answers are matched token by token.

    Raises:
        ValueError: the two views score different numbers of tokens or, seen on the CPU only, different answers.
    """
    target, prediction, mask = _aligned(teacher, student)
    return _mean(token_kl(target, prediction, mask), mask)


def teacher_js(teacher: Scored, student: Scored) -> Tensor:
    """JS(teacher, student) over the answers, in [0, ln 2]; as `teacher_kl` in all else."""
    target, prediction, mask = _aligned(teacher, student)
    return _mean(token_js(target, prediction, mask), mask)


def _aligned(teacher: Scored, student: Scored) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of both, token by token, and the mask that they share. ValueError as `teacher_kl` says."""
    target, prediction, mask = teacher.answer_logits(), student.answer_logits(), student.mask
    if teacher.mask.shape != mask.shape or (readable(mask) and not torch.equal(teacher.mask, mask)):
        target, prediction, mask = target[teacher.mask][None], prediction[mask][None], mask[mask][None]  # other padding
    if target.shape != prediction.shape:
        raise ValueError(
            f"teacher and student score different tokens: {tuple(target.shape)} and {tuple(prediction.shape)} [B, T, V]"
        )
    if readable(mask) and not torch.equal(teacher.labels[teacher.mask], student.labels[student.mask]):
        raise ValueError("teacher and student score different answers: the two views were built from other rows")
    return target, prediction, mask


def entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Entropy of softmax(logits), nats, averaged over `mask`: logits [..., V], mask [...] bool -> scalar, fp32.

    Taken through log-softmax: p log p of an underflowed p is 0, not NaN.
    """
    if logits.shape[:-1] != mask.shape:
        raise ValueError(
            f"entropy needs logits [..., V] and mask [...], got {tuple(logits.shape)}, {tuple(mask.shape)}"
        )
    shape = (-1, mask.shape[-1], logits.shape[-1])
    return _mean(token_entropy(logits.reshape(shape), mask.reshape(shape[:2])), mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Of values that are 0 outside the mask."""
    if readable(mask) and not bool(mask.any()):
        raise ValueError("no scored position: a mean over nothing is undefined")
    return values.sum() / mask.sum()
