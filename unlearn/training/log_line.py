"""What a log line is made of: means since the last one, and numbers that are taken for it alone.

Sums stay on the device: reading a number out would make a GPU wait.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.method import Side
from unlearn.scoring import Scored


class Means:
    """Sums and counts by name until `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._calls: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds numbers ([], any dtype) to their means."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value, dtype=torch.float32)) + value.float()
            self._calls[name] = self._calls.get(name, 0) + 1

    def take(self, accelerator: Any) -> dict[str, float]:
        """The means over all processes, which all must ask; then it begins anew."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        means = torch.stack([self._sums[name] / self._calls[name] for name in names])
        means = accelerator.reduce(means, reduction="mean")
        self._sums, self._calls = {}, {}
        return dict(zip(names, means.tolist(), strict=True))


@torch.no_grad()
def forget_nll(student: Mapping[str, Scored]) -> dict[str, Tensor]:
    """`forget_nll`, the mean NLL of the true forget answers (nats per token), where the student reads them."""
    read = student.get("forget") or student.get("relabelled")
    return {"forget_nll": read.cross_entropy()} if read is not None else {}


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
