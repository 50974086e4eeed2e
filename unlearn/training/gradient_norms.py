"""How hard a loss pulls on each side: gradient norms of its forget and of its retain parts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unlearn.method import Side


def gradient_norms(sides: Mapping[Side, Mapping[str, Tensor]], model: nn.Module) -> dict[str, Tensor]:
    """`grad_norm_forget` and `grad_norm_retain`: fp32 norms over all trained weights, of the sides that have a part
    (`method.by_side`).

    The graph is kept, so that the step's own backward can follow.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    norms = {}
    for side, parts in sides.items():
        chosen = [part for part in parts.values() if part.requires_grad]
        if chosen:
            total = torch.stack(chosen).sum()
            gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
            norms[f"grad_norm_{side}"] = torch.stack([g.float().norm() for g in gradients if g is not None]).norm()
    return norms
