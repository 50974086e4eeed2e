"""Liger's kernels as operators that compute nothing: on fake tensors they are dispatched, counted and kept like the
real ones, which need a GPU. One kernel forward and one backward each for RMSNorm, SwiGLU and the rotary embedding of
queries and keys; kept are the norm's input and its [N] scale, the MLP's gate and other half, cosines and sines."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

NAMESPACE = "standin"
ROTARY = ("apply_rotary_pos_emb", "apply_multimodal_rotary_pos_emb")


def operator(name: str) -> Any:
    """A custom operator whose only implementation is its output's shape."""

    def register(shapes: Any) -> Any:
        made = torch.library.custom_op(f"{NAMESPACE}::{name}", shapes, mutates_args=())
        made.register_fake(shapes)
        return made

    return register


@operator("norm")
def norm(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)


@operator("norm_backward")
def norm_backward(grad: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x)


@operator("swiglu")
def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return torch.empty_like(gate)


@operator("swiglu_backward")
def swiglu_backward(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(gate), torch.empty_like(up)


@operator("rotate")
def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k)


def keep(ctx: Any, inputs: Any, output: Any) -> None:
    kept = (*inputs, output[1]) if len(inputs) == 2 and isinstance(output, tuple) else inputs
    ctx.save_for_backward(*(kept[2:] if len(inputs) == 4 else kept))


norm.register_autograd(lambda ctx, grad, _: (norm_backward(grad, *ctx.saved_tensors), None), setup_context=keep)
swiglu.register_autograd(lambda ctx, grad: swiglu_backward(grad, *ctx.saved_tensors), setup_context=keep)
rotate.register_autograd(lambda ctx, q, k: (*rotate(q, k, *ctx.saved_tensors), None, None), setup_context=keep)


@contextlib.contextmanager
def liger(model: nn.Module, on: bool = True) -> Iterator[None]:
    """Within it, the language model's norms, MLPs and rotary embeddings are the operators above."""
    blocks = [module for module in model.modules() if type(module).__name__.endswith("DecoderLayer") and on]
    for module in (part for block in blocks for part in block.modules()):
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(lambda m, x: norm(x, m.weight)[0], module)  # type: ignore[method-assign]
        elif hasattr(module, "gate_proj"):
            module.forward = functools.partial(gated, module)  # type: ignore[method-assign]
    homes = {sys.modules[type(block).__module__] for block in blocks}
    replaced = [(home, name, getattr(home, name)) for home in homes for name in ROTARY if hasattr(home, name)]
    for home, name, _ in replaced:
        setattr(home, name, lambda q, k, cos, sin, *sections, **named: rotate(q, k, cos, sin))
    try:
        yield
    finally:
        for home, name, real in replaced:
            setattr(home, name, real)


def gated(mlp: Any, x: Tensor) -> Tensor:
    return mlp.down_proj(swiglu(mlp.gate_proj(x), mlp.up_proj(x)))
