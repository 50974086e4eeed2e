"""The contract between a method and everything that runs it.

A method declares once what it needs (views, teacher, hidden states); the dataset, the collator, the teacher and the
trainer read the declaration. Its `loss` gets scored tensors and calls no model. What most methods leave out
(`penalty`, `passes`, `finalize`, ...) is read through the functions at the end of this file, which hold the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from torch import Tensor

from unlearn.scoring import Scored

ViewName = Literal["forget", "retain", "idk", "random", "augmented"]
Split = Literal["forget", "retain"]
Layer = int | Literal["last"] | None

# Which side a part of a loss belongs to, for the logged gradient norms. Parts are named from these two lists.
FORGET_PARTS = frozenset({"forget", "idk", "random", "task", "dpo"})
RETAIN_PARTS = frozenset({"retain", "kl"})


@dataclass(frozen=True)
class View:
    """A way of looking at an item.

    Args:
        name: `forget` and `retain` items as they are; `idk` the forget question with a refusal; `random` the forget
            question with k answers of other items; `augmented` the forget item with a perturbed input.
        k: answers per item, for `random` only. The scored rows are answer-major (`Scored.chunk`).
        source: for `random` only, the split the answers come from; `forget` means *other* forget items.
    """

    name: ViewName
    k: int = 1
    source: Split | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(ViewName):
            raise ValueError(f"unknown view {self.name!r}; views are {', '.join(get_args(ViewName))}")
        if self.k < 1 or (self.name != "random" and self.k != 1):
            raise ValueError(f"view {self.name!r} cannot have k = {self.k}")
        if (self.name == "random") != (self.source in get_args(Split)):
            raise ValueError(f"view {self.name!r} cannot have source = {self.source!r}; `random` has forget or retain")


@dataclass(frozen=True)
class HiddenSpec:
    """Which hidden states the forward should return.

    Args:
        layer: decoder block counted from 0 (its output is `hidden_states[layer + 1]`); None is the model family's
            value; "last" the output of the final norm.
        scope: positions in `hidden_mask`: "all" (no padding, no image tokens) or "answer".
    """

    layer: Layer = None
    scope: Literal["all", "answer"] = "all"


@dataclass(frozen=True)
class StepInfo:
    """Where training stands. `step` counts optimiser steps from 0 to `total_steps` - 1, `epoch` from 0 to `epochs` - 1;
    `pass_name` is the running view of a method that alternates whole passes, else None."""

    step: int
    total_steps: int
    epoch: int
    epochs: int
    pass_name: str | None = None


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


class Method(Protocol):
    """What every method has. Optional members are listed by the functions below."""

    @property
    def student_views(self) -> tuple[View, ...]:
        """What the student is trained on."""
        ...

    @property
    def teacher_views(self) -> tuple[View, ...]:
        """What the frozen original model must score; () loads no teacher."""
        ...

    @property
    def hidden(self) -> HiddenSpec | None:
        """Hidden states every view (student's and teacher's) must carry, or None."""
        ...

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        """Named scalar parts, weighted and signed: the trainer adds them up and logs them by name.

        With `passes`, the mappings hold only the running pass's view and `step.pass_name` names it.
        """
        ...


def sums_only(method: Method) -> bool:
    """Whether all that the loss reads of the teacher is `sequence_logps()`, so that a row's score can be computed once
    and kept. Optional attribute `teacher_sums_only`, default False."""
    return getattr(method, "teacher_sums_only", False)


def passes(method: Method, epoch: int) -> tuple[str, ...] | None:
    """Names of the student views that each form one whole pass of this epoch (counted from 0), in order; None trains
    all views jointly. Optional method `passes(epoch)`."""
    hook = getattr(method, "passes", None)
    return None if hook is None else hook(epoch)


def has_penalty(method: Method) -> bool:
    """Whether the method adds a term on the parameters themselves."""
    return hasattr(method, "penalty")


def penalty(method: Method, trained: Trained, step: StepInfo) -> dict[str, Tensor]:
    """Named scalar parts on the parameters, added to the loss. Optional method `penalty(trained, step)`."""
    return method.penalty(trained, step) if has_penalty(method) else {}  # type: ignore[attr-defined]


def needs_initial(method: Method) -> bool:
    """Whether `Trained.initial` must be kept. Optional attribute, default False."""
    return getattr(method, "needs_initial", False)


def has_finalize(method: Method) -> bool:
    """Whether the trained weights are transformed before they are saved."""
    return hasattr(method, "finalize")


def finalize(method: Method, original: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors to save instead of `trained`. Optional method `finalize(original, trained)`, default unchanged.

    Both are state dicts of the trained tensors; with LoRA these are the factors, named with `lora_A` and `lora_B`.
    """
    return method.finalize(original, trained) if has_finalize(method) else dict(trained)  # type: ignore[attr-defined]


def check_adapter(method: Method, lora: bool) -> None:
    """Raise ValueError where the method cannot be trained with LoRA. Optional attribute `forbids_lora`: the reason, or
    None."""
    reason = getattr(method, "forbids_lora", None)
    if lora and reason is not None:
        raise ValueError(reason)


def reference_path(method: Method) -> str | None:
    """Path of another reference model than the one training starts from. Optional attribute, default None."""
    return getattr(method, "reference_path", None)
