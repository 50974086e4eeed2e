"""Sparsity: retain finetuning under an L1 penalty, which prunes what the retain set does not need.

Jia et al., "Model sparsity can simplify machine unlearning" (2023), equation 3; CLEAR (2025), Appendix B:

    L = CE(R) + lambda * ||theta||_1

Here theta is what is trained, and the norm is the *mean* absolute value by default: a raw sum over 7B weights drowns
CE(R). cv/ takes the sum with lambda 1e-4, as published. Measured from the start (`init`) the penalty is on the change
of the weights; with LoRA that is scaling * B A of each layer, not the factors (the published code penalised those).
From `zero` there is nothing to prune with LoRA, whose base weights are frozen: an error, not a silent full finetuning.

The same penalty goes on any method with `l1_lambda` and `l_norm_from` of the published config (`with_l1`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unlearn.method import Method, StepInfo, Trained, View, Wrapper
from unlearn.registry import at_least, register
from unlearn.scoring import Scored

Origin = Literal["zero", "init"]
Reduction = Literal["mean", "sum"]

NO_ZERO_WITH_LORA = (
    "an L1 norm from zero needs full finetuning: with LoRA the base weights are frozen, so nothing could become "
    "sparse. Take the norm of the change ({option}=init) or set LoRA.r=0"
)


class _AbsoluteChange(torch.autograd.Function):
    """sum |weight - start| (start None: of the weight), fp32; backward recomputes the sign, so nothing is kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, start: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, start)
        return _difference(weight, start).abs().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        weight, start = ctx.saved_tensors
        return (grads[0] * _difference(weight, start).sign()).to(weight.dtype), None


class _AbsoluteLoraChange(torch.autograd.Function):
    """|scaling| * sum |B A|, fp32. [out, in] lives only inside forward; kept for backward are the gradients of the two
    factors, sign(BA) A^T [out, r] and B^T sign(BA) [r, in]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            wide_a, wide_b = a.float(), b.float()
            change = wide_b @ wide_a
            total = abs(scaling) * change.abs().sum()
            sign = change.sign_()
            ctx.save_for_backward((wide_b.T @ sign).to(a.dtype), (sign @ wide_a.T).to(b.dtype))
        ctx.scaling = abs(scaling)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_a, grad_b = ctx.saved_tensors
        weight = ctx.scaling * grads[0]
        return (weight * grad_a).to(grad_a.dtype), (weight * grad_b).to(grad_b.dtype), None


def _difference(weight: Tensor, start: Tensor | None) -> Tensor:
    return weight.float() if start is None else weight.float() - start.float()


def l1_norm(trained: Trained, *, origin: Origin, reduction: Reduction = "mean") -> Tensor:
    """L1 norm of the trained weights, or of their change since the start, one tensor in memory at a time.

    Args:
        origin: "zero" is the weights themselves; "init" their change, for an adapted layer scaling * B A.
        reduction: "sum", or "mean" over every entry of the weights concerned (out * in of an adapted layer).

    Returns:
        Scalar, fp32.

    Raises:
        ValueError: origin "zero" with LoRA, nothing trained, or a tensor without its start value.
    """
    if origin == "zero" and trained.lora:
        raise ValueError(NO_ZERO_WITH_LORA.format(option="l_norm_from"))
    factors = {id(tensor) for pair in trained.lora.values() for tensor in (pair.A, pair.B)}
    sums, entries = [], 0
    for pair in trained.lora.values():
        sums.append(_AbsoluteLoraChange.apply(pair.A, pair.B, pair.scaling))
        entries += pair.B.shape[0] * pair.A.shape[1]
    for name, weight in trained.parameters.items():
        if id(weight) in factors:
            continue
        start = trained.initial.get(name) if origin == "init" else None
        if origin == "init" and start is None:
            raise ValueError(
                f"{name}: its value at the start was not kept, so its change cannot be measured; ask for it by `init`"
            )
        sums.append(_AbsoluteChange.apply(weight, start))
        entries += weight.numel()
    if not sums:
        raise ValueError("an L1 penalty needs trainable weights, and there are none")
    total = torch.stack(sums).sum()
    return total / entries if reduction == "mean" else total


def check_norms(l1_lambda: float, l0_lambda: float, l_norm_from: str, lora: bool) -> None:
    """Check the published config's three norm keys before a model loads.

    Raises:
        ValueError: l0_lambda is not 0 (a count of non-zeros has no gradient), l1_lambda is negative, l_norm_from is
            neither zero nor init, or an L1 norm from zero is asked for with LoRA.
    """
    if l0_lambda != 0:
        raise ValueError(
            f"l0_lambda={l0_lambda}: the number of non-zero weights has no gradient, so it would do nothing. Use "
            "l1_lambda, its convex relaxation, and leave l0_lambda at 0"
        )
    at_least(0, l1_lambda=l1_lambda)
    if l_norm_from not in ("zero", "init"):
        raise ValueError(f"l_norm_from={l_norm_from!r}: zero or init is expected")
    if l1_lambda and l_norm_from == "zero" and lora:
        raise ValueError(NO_ZERO_WITH_LORA.format(option="l_norm_from"))


@register("sparsity")
@dataclass(frozen=True)
class Sparsity(Method):
    """CE(R) + lambda * L1.

    Args:
        lambda_: weight of the norm (option `lambda`).
        from_: "zero" (the paper; full finetuning only), "init" (the change), or None: zero in full finetuning and the
            change with LoRA (option `from`).
        reduction: "mean" or "sum" of the absolute values.
        decay: let lambda fall linearly to 0 over the run.
    """

    lambda_: float = 1.0
    from_: Origin | None = None
    reduction: Reduction = "mean"
    decay: bool = False

    student_views = (View("retain"),)

    def __post_init__(self) -> None:
        at_least(0, **{"lambda": self.lambda_})

    @property
    def needs_initial(self) -> bool:
        return self.from_ == "init"

    @property
    def forbids_lora(self) -> str | None:
        return NO_ZERO_WITH_LORA.format(option="method_args.sparsity.from") if self.from_ == "zero" else None

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        return {"retain": student["retain"].cross_entropy()}

    def penalty(self, trained: Trained, step: StepInfo) -> dict[str, Tensor]:
        weight = self.lambda_ * (1 - step.step / step.total_steps if self.decay else 1.0)
        origin = self.from_ or ("init" if trained.lora else "zero")
        return {"sparsity": weight * l1_norm(trained, origin=origin, reduction=self.reduction)}


@dataclass(frozen=True)
class WithL1(Wrapper):
    """Any method plus l1_lambda times the mean absolute weight (or change), as the part `l1`."""

    l1_lambda: float
    l_norm_from: Origin

    @property
    def needs_initial(self) -> bool:
        return self.l_norm_from == "init" or self.method.needs_initial

    @property
    def forbids_lora(self) -> str | None:
        mine = NO_ZERO_WITH_LORA.format(option="l_norm_from") if self.l_norm_from == "zero" else None
        return mine or self.method.forbids_lora

    def penalty(self, trained: Trained, step: StepInfo) -> dict[str, Tensor]:
        return {
            **self.method.penalty(trained, step),
            "l1": self.l1_lambda * l1_norm(trained, origin=self.l_norm_from),
        }


def with_l1(method: Method, l1_lambda: float, l_norm_from: str) -> Method:
    """`method` with an L1 penalty on top, measured from "zero" or "init"; `method` itself where l1_lambda is 0."""
    check_norms(l1_lambda, 0.0, l_norm_from, lora=False)
    return WithL1(method, l1_lambda, "init" if l_norm_from == "init" else "zero") if l1_lambda else method
