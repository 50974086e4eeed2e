"""LoRA linears whose adapter costs no pass over the layer's outputs.

PEFT multiplies by B, scales and adds, each a pass over [N, out], and under autocast every layer casts its own A and B.
Here the product with B is accumulated into the base layer's output by one GEMM, the scaling is part of B, the backward
pass keeps the input itself (one tensor for q, k and v) and [N, r], and A and B are cast once a forward for all layers.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from unlearn.models import compat
from unlearn.models.families import decoder
from unlearn.models.vision import vision_modules

logger = logging.getLogger(__name__)


class Adapted(torch.autograd.Function):
    """y = x W' + b + (x A') S' with W and b frozen, S = scaling * B; x [..., in], A [r, in], B [out, r].

    `a` and `b` receive the gradients; the products are taken with `cast`, A and S in x's type (None: made here).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float,
        down: Tensor | None = None, scaled: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if down is None or scaled is None:
            down, scaled = a.to(x.dtype), (b * scaling).to(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        narrow = rows @ down.t()  # [N, r]
        out = nn.functional.linear(rows, weight, bias)
        out.addmm_(narrow, scaled.t())
        ctx.save_for_backward(x, narrow, weight, down, scaled)
        ctx.scaling, ctx.types = scaling, (a.dtype, b.dtype)
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, narrow, weight, down, scaled = ctx.saved_tensors
        rows, grad = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        grad_narrow = grad @ scaled  # [N, r]
        grad_x = grad_a = grad_b = None
        if ctx.needs_input_grad[3]:
            grad_a = (grad_narrow.t() @ rows).to(ctx.types[0])
        if ctx.needs_input_grad[4]:
            grad_b = (grad.t() @ narrow).to(ctx.types[1]).mul_(ctx.scaling)
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_narrow, down).view(x.shape)
        return grad_x, None, None, grad_a, grad_b, None, None, None


class FusedLora(LoraLinear):
    """PEFT's layer with the forward above where `simple` holds, and PEFT's own elsewhere. Layers become one in place:
    names, parameters, merging and saving stay PEFT's."""

    cast: tuple[Tensor, Tensor] | None = None  # A and S in autocast's type, made by `Casts` before each forward

    def simple(self) -> bool:
        """Whether one plain adapter is on, over a frozen base whose parts nobody listens to. ZeRO-3 listens: it gathers
        each part as it is called."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return False
        name = self.active_adapters[0]
        if name not in self.lora_A or name in self.lora_variant or not isinstance(self.lora_dropout[name], nn.Identity):
            return False
        return not self.base_layer.weight.requires_grad and not any(
            compat.has_listeners(part) for part in (self.base_layer, self.lora_A[name], self.lora_B[name])
        )

    def factors(self) -> tuple[Tensor, Tensor, float]:
        """A, B and the scaling of the adapter that is on."""
        (name,) = self.active_adapters
        a: Any = self.lora_A[name].weight
        b: Any = self.lora_B[name].weight
        return a, b, self.scaling[name]

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not self.simple():
            return super().forward(x, *args, **kwargs)
        base, (a, b, scaling) = self.base_layer, self.factors()
        device = x.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        cast = () if self.cast is None or self.cast[0].dtype != kind else self.cast
        bias = None if base.bias is None else base.bias.to(kind)
        return Adapted.apply(x.to(kind), base.weight.to(kind), bias, a, b, scaling, *cast)


class Casts:
    """A hook before the forward of the module that holds `layers`: their A and S in autocast's type, by a few kernels
    for all. New tensors each time, since an earlier forward may still wait for its backward pass."""

    def __init__(self, layers: Sequence[FusedLora]) -> None:
        self.layers = layers

    @torch.no_grad()
    def __call__(self, module: nn.Module, inputs: Any) -> None:
        for layer in self.layers:
            layer.cast = None
        layers = [layer for layer in self.layers if layer.simple()]
        if not layers:
            return
        a, b, scaling = (list(each) for each in zip(*(layer.factors() for layer in layers), strict=True))
        device = a[0].device.type
        if not torch.is_autocast_enabled(device) or hasattr(a[0], "to_local"):
            return  # weights in parts (FSDP2) are whole only inside their block, which casts for itself
        kind = torch.get_autocast_dtype(device)
        down, scaled = ([torch.empty_like(each, dtype=kind) for each in matrices] for matrices in (a, b))
        torch._foreach_copy_(down, a)
        torch._foreach_copy_(scaled, torch._foreach_mul(b, scaling))
        for layer, *cast in zip(layers, down, scaled, strict=True):
            layer.cast = (cast[0], cast[1])


def fuse_lora(model: nn.Module) -> tuple[int, int]:
    """Makes every LoRA layer over a plain linear a `FusedLora`, in place; (how many, how many adapted layers stay as
    they are)."""
    from peft.tuners.lora.layer import LoraLayer

    adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
    found = [module for module in adapted if type(module) is LoraLinear and type(module.base_layer) is nn.Linear]
    for module in found:
        module.__class__ = FusedLora  # type: ignore[assignment]
    for owner in (decoder(model), *vision_modules(model).values()):
        if layers := [module for module in owner.modules() if isinstance(module, FusedLora)]:
            owner.register_forward_pre_hook(Casts(layers))
    served = sum(module.simple() for module in model.modules() if isinstance(module, FusedLora))
    return served, len(adapted) - served
