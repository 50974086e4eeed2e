"""Reductions over the vocabulary in chunks of positions: log-probabilities, entropy, KL.

Written plainly, one loss holds two or three fp32 copies of [B, T, V] between forward and backward: at 32k words and
bf16 logits each copy is twice the logits. Here the forward keeps the logits it was given and nothing else, the backward
computes a chunk's softmax again, and only a chunk is ever in fp32. No position is selected by a boolean mask, which
would make a
GPU wait for the count: what is not scored (NaN included) is set to exactly zero, in value and gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**22  # elements, 16 MiB in fp32


class _Kind(NamedTuple):
    """value(x, *others) -> [b, t] and slope(x, *others) -> [b, t, V], its derivative in x; x is fp32 [b, t, V]."""

    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]


def token_logps(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """log softmax(logits)[label] in nats: logits [B, T, V], labels and mask [B, T] -> [B, T], fp32, 0 outside the
    mask."""
    return _PerToken.apply(_LOGPS, logits, mask, labels.clamp(min=0))


def token_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Entropy of softmax(logits) in nats: [B, T, V] -> [B, T], fp32, 0 outside the mask."""
    return _PerToken.apply(_ENTROPY, logits, mask)


def token_kl(p_logits: Tensor, q_logits: Tensor, mask: Tensor) -> Tensor:
    """KL(p || q) in nats: two [B, T, V] -> [B, T], fp32, 0 outside the mask. p is a constant: no gradient reaches
    it."""
    return _PerToken.apply(_KL, q_logits, mask, p_logits.detach())


def token_js(p_logits: Tensor, q_logits: Tensor, mask: Tensor) -> Tensor:
    """JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, in nats: two [B, T, V] -> [B, T], fp32, in
    [0, ln 2], 0 outside the mask. p is a constant: no gradient reaches it."""
    return _PerToken.apply(_JS, q_logits, mask, p_logits.detach())


def token_distillation(p_logits: Tensor, q_logits: Tensor, labels: Tensor, mask: Tensor, *, beta: float) -> Tensor:
    """CE(softmax(p_logits - beta * onehot(label)), softmax(q_logits)) in nats: two [B, T, V] -> [B, T], fp32, 0 outside
    the mask. p is a constant: no gradient reaches it."""

    def target(p: Tensor, labels: Tensor) -> Tensor:
        lowered = torch.full_like(labels, -beta, dtype=torch.float32)[..., None]
        return p.float().scatter_add(-1, labels[..., None], lowered).softmax(-1)

    kind = _Kind(
        lambda q, p, labels: -(target(p, labels) * q.log_softmax(-1)).sum(-1),
        lambda q, p, labels: q.softmax(-1).sub_(target(p, labels)),
    )
    return _PerToken.apply(kind, q_logits, mask, p_logits.detach(), labels.clamp(min=0))


def token_exclusion(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """CE(sg[softmax(logits without the label)], softmax(logits)) in nats: [B, T, V] -> [B, T], fp32, 0 outside the
    mask."""
    return _PerToken.apply(_EXCLUSION, logits, mask, labels.clamp(min=0))


class _PerToken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: _Kind, logits: Tensor, mask: Tensor, *others: Tensor) -> Tensor:
        ctx.kind = kind
        ctx.save_for_backward(logits, mask, *others)
        values = torch.empty(mask.shape, dtype=torch.float32, device=logits.device)
        for at in _chunks(logits):
            values[at] = kind.value(logits[at].float(), *(other[at] for other in others))
        return values.masked_fill_(~mask, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, mask, *others = ctx.saved_tensors
        slopes = torch.empty_like(logits)
        for at in _chunks(logits):
            slope = ctx.kind.slope(logits[at].float(), *(other[at] for other in others)).mul_(grad[at][..., None])
            slopes[at] = slope.masked_fill_(~mask[at][..., None], 0.0)
        return None, slopes, None, *(None for _ in others)


def _chunks(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of [B, T]: many short rows together, or a part of a long one."""
    rows, length, size = logits.shape
    b, t = max(1, CHUNK // max(1, length * size)), max(1, CHUNK // max(1, size))
    for i in range(0, rows, b):
        for j in range(0, length, t):
            yield slice(i, i + b), slice(j, j + t)


def _logps(x: Tensor, labels: Tensor) -> Tensor:
    return x.gather(-1, labels[..., None])[..., 0] - x.logsumexp(-1)


def _logps_slope(x: Tensor, labels: Tensor) -> Tensor:
    slope = x.softmax(-1).neg_()
    return slope.scatter_add_(-1, labels[..., None], torch.ones_like(slope[..., :1]))


def _entropy(x: Tensor) -> Tensor:
    logp = x.log_softmax(-1)  # through the logarithm: p log p of an underflowed p is 0, not NaN
    return -(logp.exp() * logp).sum(-1)


def _entropy_slope(x: Tensor) -> Tensor:
    logp = x.log_softmax(-1)
    p = logp.exp()
    return logp.sub_((p * logp).sum(-1, keepdim=True)).mul_(p).neg_()


def _kl(q: Tensor, p: Tensor) -> Tensor:
    return F.kl_div(q.log_softmax(-1), p.float().log_softmax(-1), reduction="none", log_target=True).sum(-1)


def _kl_slope(q: Tensor, p: Tensor) -> Tensor:
    return q.softmax(-1).sub_(p.float().softmax(-1))


def _to_the_middle(q: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log q, log p and the logarithm of their mean m."""
    q, p = q.log_softmax(-1), p.float().log_softmax(-1)
    return q, p, torch.logaddexp(q, p) - math.log(2)


def _js(q: Tensor, p: Tensor) -> Tensor:
    q, p, m = _to_the_middle(q, p)
    return (p.exp() * (p - m) + q.exp() * (q - m)).sum(-1) / 2


def _js_slope(q: Tensor, p: Tensor) -> Tensor:
    q, _, m = _to_the_middle(q, p)
    rise = (q - m) / 2  # dJS/dq_v
    q = q.exp()
    return q * (rise - (q * rise).sum(-1, keepdim=True))


def _without(x: Tensor, labels: Tensor) -> Tensor:
    """softmax(x) with the label's logit at -inf."""
    return x.scatter(-1, labels[..., None], float("-inf")).softmax(-1)


def _exclusion(x: Tensor, labels: Tensor) -> Tensor:
    return -(_without(x, labels) * x.log_softmax(-1)).sum(-1)


def _exclusion_slope(x: Tensor, labels: Tensor) -> Tensor:
    return x.softmax(-1).sub_(_without(x, labels))


_LOGPS, _ENTROPY, _KL = _Kind(_logps, _logps_slope), _Kind(_entropy, _entropy_slope), _Kind(_kl, _kl_slope)
_JS = _Kind(_js, _js_slope)
_EXCLUSION = _Kind(_exclusion, _exclusion_slope)
