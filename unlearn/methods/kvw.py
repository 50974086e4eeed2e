"""Knowledge vector weakening: damp the FFN channels that the forget answers use more than the retain answers do.

2601.21794, training-free. With a the input of a block's down projection and KC(B)_i the mean of |a_i| over the
positions that predict an answer token of B, KC_r of all retain rows is taken with the original weights. Then one pass
over the forget rows in seeded order, each with the weights as they are by then:

    gate_i = exp(-gamma max(0, ln(KC_f,i + 1e-12) - ln(KC_r,i + 1e-12))),   column i of the down projection *= gate_i

The effect grows with the number of forget rows; the mean product of the gates of each block is logged. Every process
passes every row, since each row changes what the next one sees.

Departure: the released loop swallows exceptions; here nothing is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unlearn.hooks import Gradients, Probe
from unlearn.method import Method, View
from unlearn.registry import at_least, register

logger = logging.getLogger(__name__)
TINY = 1e-12


def gates(forget: Tensor, retain: Tensor, *, gamma: float) -> Tensor:
    """exp(-gamma max(0, ln forget - ln retain)) by channel, in (0, 1]; both [width], >= 0."""
    return torch.exp(-gamma * ((forget + TINY).log() - (retain + TINY).log()).clamp(min=0))


@register("kvw")
@dataclass(frozen=True)
class KnowledgeVectorWeakening(Method):
    """Args: gamma, how strongly a channel is damped; layers, the decoder blocks "first-last" from 0, or None: all but
    the first and the last two (all, where that leaves none); rows, "image" (those with a picture; all, where none has
    one) or "all"."""

    gamma: float = 0.02
    layers: str | None = None
    rows: Literal["image", "all"] = "image"

    student_views = (View("forget"), View("retain"))  # what it reads

    def __post_init__(self) -> None:
        at_least(0, gamma=self.gamma)
        if self.layers is not None:
            ends = re.fullmatch(r"(\d+)-(\d+)", self.layers)
            if ends is None or int(ends[1]) > int(ends[2]):
                raise ValueError(f"layers must be first-last, e.g. 1-25, got {self.layers!r}")

    @property
    def forbids_lora(self) -> str | None:
        return "kvw edits the weights of the model itself: set LoRA.r=0"

    def edit(self, probe: Probe) -> None:
        weights = self._chosen(probe.weights())
        retain = self._contributions(probe, weights)
        products = {name: torch.ones_like(kept) for name, kept in retain.items()}
        for row in self._rows(probe, "forget", share=False):
            used = probe.channels(row, "predicts_answer")
            for name, weight in weights.items():
                gate = gates(used[name].abs().double().mean(0), retain[name], gamma=self.gamma)
                weight.mul_(gate.to(weight.dtype))
                products[name] *= gate
        for name, product in products.items():
            logger.info("kvw: %s keeps %.4f of its columns on average", name, float(product.mean()))

    def _chosen(self, weights: Mapping[str, Tensor]) -> Gradients:
        """The language model's blocks that `layers` names."""
        blocks = {int(name.split(".")[1]): name for name in weights if name.startswith("language.")}
        if self.layers is None:
            first, last = (1, len(blocks) - 3) if len(blocks) > 3 else (0, len(blocks) - 1)
        else:
            first, last = map(int, self.layers.split("-"))
            if last >= len(blocks):
                raise ValueError(f"layers={self.layers} is out of range: this model has blocks 0 to {len(blocks) - 1}")
        return {blocks[block]: weights[blocks[block]] for block in range(first, last + 1)}

    def _contributions(self, probe: Probe, names: Mapping[str, Tensor]) -> Gradients:
        """KC_r: by block, the mean of |a| over all answer positions of the retain rows."""
        sums: Gradients = {}
        for row in self._rows(probe, "retain", share=True):
            used = probe.channels(row, "predicts_answer")
            for name in names:
                size = used[name].abs().double()
                total, count = size.sum(0), size.new_tensor(float(len(size)))
                sums[name] = sums[name] + total if name in sums else total
                sums[f"n/{name}"] = sums[f"n/{name}"] + count if f"n/{name}" in sums else count
        sums = probe.sum(sums)
        return {name: sums[name] / sums[f"n/{name}"] for name in names}

    def _rows(self, probe: Probe, view: str, share: bool) -> Iterator[Any]:
        pictures = self.rows == "image" and any(row.image for row in probe.batches(view, share=False))
        return (row for row in probe.batches(view, share=share) if row.image or not pictures)
