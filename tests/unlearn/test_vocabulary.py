"""The chunked reductions against the plain form on autograd, forward and backward, and what they hold in memory."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import unlearn.vocabulary as vocabulary
from unlearn.divergences import teacher_kl
from unlearn.registry import build_method, method_names
from unlearn.scoring import Scored


def plain(kind: str, logits: torch.Tensor, other: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logp = logits.float().log_softmax(-1)
    if kind == "logps":
        return logp.gather(-1, labels[..., None])[..., 0]
    if kind == "entropy":
        return -(logp.exp() * logp).sum(-1)
    return F.kl_div(logp, other.float().log_softmax(-1), reduction="none", log_target=True).sum(-1)


def chunked(
    kind: str, logits: torch.Tensor, other: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    if kind == "logps":
        return vocabulary.token_logps(logits, labels.masked_fill(~mask, -100), mask)
    return vocabulary.token_entropy(logits, mask) if kind == "entropy" else vocabulary.token_kl(other, logits, mask)


@pytest.mark.parametrize("kind", ["logps", "entropy", "kl"])
@pytest.mark.parametrize(
    "chunk", [1, 17, 50, 10**6]
)  # a position, part of a row, a row and part of the next, everything
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_equal_the_plain_form_forward_and_backward(kind: str, chunk: int, dtype: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 4, 7)).to(dtype)[:, 1:].requires_grad_()  # not contiguous
    other, labels, weights = (3 * torch.randn(5, 3, 7)).to(dtype), torch.randint(7, (5, 3)), torch.randn(5, 3)
    mask = torch.rand(5, 3) > 0.3
    slow, fast = plain(kind, logits, other, labels) * mask, chunked(kind, logits, other, labels, mask)
    torch.testing.assert_close(fast, slow)
    assert fast.dtype == torch.float32
    (expected,), (found,) = (torch.autograd.grad((value * weights).sum(), logits) for value in (slow, fast))
    assert found.dtype == dtype and expected[mask].abs().sum() > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["logps", "entropy", "kl"])
def test_what_is_not_scored_is_zero_whatever_it_holds(kind: str) -> None:
    logits, other = torch.randn(2, 2, 5), torch.randn(2, 2, 5)
    mask = torch.tensor([[True, False], [False, True]])
    for tensor in (logits, other):
        tensor[0, 1], tensor[1, 0] = math.nan, math.inf
    logits.requires_grad_()
    values = chunked(kind, logits, other, torch.zeros(2, 2, dtype=torch.long), mask)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    assert torch.isfinite(values).all() and (values[~mask] == 0).all() and (gradient[~mask] == 0).all()
    assert torch.isfinite(gradient).all() and (gradient[mask] != 0).any()


class Largest(TorchDispatchMode):
    """The sizes of what operations make, in elements, and the names of those that read a value back."""

    def __init__(self) -> None:
        super().__init__()
        self.fp32: list[int] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, torch.Tensor)]
        self.fp32 += [t.numel() for t in made if t.dtype == torch.float32]
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal") or (
            name in ("index", "index_put", "index_put_")
            and any(t is not None and t.dtype == torch.bool for t in args[1])
        ):
            self.waits.append(name)
        return out


@pytest.mark.parametrize("loss", [lambda s, t: s.cross_entropy(), lambda s, t: teacher_kl(t, s)], ids=["ce", "kl"])
def test_no_fp32_copy_of_all_logits_is_made(loss: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK", 64)
    labels = torch.randint(32, (4, 8))
    student = torch.randn(4, 8, 32).bfloat16().requires_grad_()
    teacher = torch.randn(4, 8, 32).bfloat16()
    with Largest() as seen:
        loss(Scored(student, labels), Scored(teacher, labels)).backward()
    assert max(seen.fp32) <= 64 < student.numel()


# RMU selects its hidden states by mask, which costs one wait a step: most positions are image tokens that it must not
# upcast.
@pytest.mark.parametrize("name", sorted(set(method_names()) - {"RMU", "kvw", "manu"}))
def test_no_loss_waits_for_the_device(name: str, monkeypatch: Any) -> None:
    """A value read back, or a selection by mask (whose size the host has to know), stops the host until the GPU is
    done. On the CPU the checks of `Scored` look at values; they are off here as they are on a GPU."""
    from batches import pack_all, total, views_of  # type: ignore[import-not-found]

    monkeypatch.setattr("unlearn.scoring.readable", lambda tensor: False)
    monkeypatch.setattr("unlearn.divergences.readable", lambda tensor: False)
    method = build_method(name)
    student, teacher = (pack_all(views) for views in views_of(method))
    leaves = [tensor.requires_grad_() for view in student.values() for tensor in (view.logits, view.hidden)]
    with Largest() as seen:
        loss = total(method.loss(student, teacher))
        torch.autograd.grad(loss, leaves, allow_unused=True)
    assert not seen.waits and loss.requires_grad
