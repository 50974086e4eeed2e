"""How hard a loss pulls on each side: gradient norms of its forget and of its retain parts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unlearn.method import FORGET_PARTS, RETAIN_PARTS


def gradient_norms(parts: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`grad_norm_forget` and `grad_norm_retain`: fp32 norms over all trained weights, of the sides that have a part.

    The graph is kept, so that the step's own backward can follow.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    norms = {}
    for side, names in (("forget", FORGET_PARTS), ("retain", RETAIN_PARTS)):
        chosen = [part for name, part in parts.items() if name in names and part.requires_grad]
        if chosen:
            total = torch.stack(chosen).sum()
            gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
            norms[f"grad_norm_{side}"] = torch.stack([g.float().norm() for g in gradients if g is not None]).norm()
    return norms
