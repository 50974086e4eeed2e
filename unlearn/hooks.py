"""What a method's hooks are handed: `Trained` (the weights), `Sides` (one optimiser step), `Probe` (the model itself).

Names of tensors kept for a parameter are `<what>/<parameter>` ("m/...", "keep/..."): an engine that holds the
parameters in parts cuts such a tensor like its parameter. A name without a slash is a number or a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Side = Literal["forget", "retain"]
SIDES: tuple[Side, ...] = ("forget", "retain")
RETAIN_VIEWS = ("retain", "anchor")  # every other view works on the forget side
Scope = Literal["predicts_answer", "text", "image"]
Gradients = dict[str, Tensor]


def side_of_view(name: str) -> Side:
    """The side that a view, the student's or the teacher's, belongs to."""
    return "retain" if name in RETAIN_VIEWS else "forget"


def _alone(number: Tensor) -> Tensor:
    return number


@dataclass(frozen=True, eq=False)
class LoraPair:
    """One adapted linear layer: its change of the weight is scaling * B @ A, with A [r, in] and B [out, r]."""

    A: Tensor
    B: Tensor
    scaling: float


@dataclass(frozen=True, eq=False)
class Trained:
    """What a penalty sees of the model.

    Args:
        parameters: every trainable tensor by name, LoRA factors included.
        initial: their detached values at the start; filled only for a method with `needs_initial`. LoRA factors need
            not be in it.
        lora: the adapted layers by name, holding the same tensors as `parameters`; empty in full finetuning.
    """

    parameters: Mapping[str, Tensor]
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    lora: Mapping[str, LoraPair] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sides:
    """One optimiser step. Every tensor is this process's piece of it (under FSDP2 a shard, else whole), at least fp32.

    Args:
        forget, retain: mean gradients, over micro-batches and processes, of the forget and of the retain parts, by
            parameter; a penalty on weights counts as retain. Both have the same names; a side that did not run, or
            does not reach a parameter, is 0 there.
        values: the parts by name, as weighted by the method, mean over micro-batches and processes.
        measured: what `prepare` returned.
        total: adds a number up over the processes that hold other pieces.
    """

    forget: Mapping[str, Tensor]
    retain: Mapping[str, Tensor]
    values: Mapping[str, Tensor] = field(default_factory=dict)
    measured: Mapping[str, Tensor] = field(default_factory=dict)
    total: Callable[[Tensor], Tensor] = _alone

    def dot(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        """[] sum of the products of all entries of `a` with those of `b`, over all pieces: the same on every process.

        `a` and `b` have the same names.
        """
        assert a.keys() == b.keys(), "the two are not of the same parameters"
        return self.total(torch.stack([(tensor * b[name]).sum() for name, tensor in a.items()]).sum())

    def summed(self) -> Gradients:
        """The gradient of the joint step: forget + retain."""
        return {name: gradient + self.retain[name] for name, gradient in self.forget.items()}


class Row(Protocol):
    """One row of a view. `image`: whether it has a picture."""

    @property
    def image(self) -> bool: ...

    def without_image(self) -> Row:
        """The same row without its picture."""


class Probe(Protocol):
    """The model with its original weights, and the rows of the run's splits, outside of training (eval mode)."""

    def batches(self, view: str, share: bool = True) -> Iterator[Any]:
        """The rows of a view, each once, in an order fixed by the seed: all, or this process's share of them."""

    def cross_entropy(self, batch: Any) -> Tensor:
        """[] cross-entropy of a row's answer, nats per token, without a graph."""

    def gradients(self, batch: Any) -> Gradients:
        """The gradient of that cross-entropy in every trained tensor that it reaches."""

    def channels(self, batch: Any, scope: Scope) -> Gradients:
        """FFN name -> [positions, width]: what its down projection is given, at the positions of the scope."""

    def sum(self, tensors: Mapping[str, Tensor]) -> Gradients:
        """The sums over the processes' shares, whole."""

    def weights(self) -> Gradients:
        """FFN name -> the weight of its down projection [out, width], fp32: what `edit` changes in place."""
