"""The contract between a method and everything that runs it.

A method is a subclass of `Method`. It declares once what it needs (views, teacher, hidden states); the dataset, the
collator, the teacher and the trainer read the declaration. Its `loss` gets scored tensors and calls no model.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from torch import Tensor

from unlearn.scoring import Scored

ViewName = Literal[
    "forget", "retain", "idk", "random", "augmented", "noised", "relabelled", "no_image", "other_image",
]  # fmt: skip
WITH_TEXT = ("noised", "relabelled")
Split = Literal["forget", "retain"]
Side = Literal["forget", "retain"]
Layer = int | Literal["last"] | None


@dataclass(frozen=True)
class View:
    """A way of looking at an item.

    Args:
        name: `forget` and `retain` items as they are; `idk` the forget question with a refusal; `random` the forget
            question with k answers of other items; `augmented` the forget item with a perturbed input; `noised` the
            forget item with noise for a picture and `text` before its question; `relabelled` the forget item as it is,
            read with its true answer, whose labels are the tokens of `text`, again and again; `no_image`,
            `other_image` the forget item without its picture, or with that of another one.
        k: answers per item, for `random` only. The scored rows are answer-major (`Scored.chunk`).
        source: for `random` only, the split the answers come from; `forget` means *other* forget items.
        text: for `noised` (may be empty) and `relabelled` only.
    """

    name: ViewName
    k: int = 1
    source: Split | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.name not in get_args(ViewName):
            raise ValueError(f"unknown view {self.name!r}; views are {', '.join(get_args(ViewName))}")
        if self.k < 1 or (self.name != "random" and self.k != 1):
            raise ValueError(f"view {self.name!r} cannot have k = {self.k}")
        if (self.name == "random") != (self.source in get_args(Split)):
            raise ValueError(f"view {self.name!r} cannot have source = {self.source!r}; `random` has forget or retain")
        if (self.text and self.name not in WITH_TEXT) or (self.name == "relabelled" and not self.text.strip()):
            raise ValueError(f"view {self.name!r} cannot have text = {self.text!r}")


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


class Method:
    """What every method is: a subclass, a frozen dataclass whose fields are its options, registered by name.

    It overrides what it needs, as an attribute, a property or a method; all else has its default here. `register`
    refuses a public member that is not in this list: a misspelt hook would otherwise do nothing, in silence.
    """

    loss_beta_option: ClassVar[str | None] = None  # the option that the published `loss_beta` overrides
    # Names of the parts that `loss` returns, by the side they work on; a part in neither is an error.
    forget_parts: ClassVar[tuple[str, ...]] = ("forget",)
    retain_parts: ClassVar[tuple[str, ...]] = ("retain",)

    @property
    def student_views(self) -> tuple[View, ...]:
        """What the student is trained on. Every method has its own."""
        return ()

    @property
    def teacher_views(self) -> tuple[View, ...]:
        """What the frozen original model must score; () loads no teacher."""
        return ()

    @property
    def hidden(self) -> HiddenSpec | None:
        """Hidden states every view (student's and teacher's) must carry, or None."""
        return None

    @property
    def teacher_sums_only(self) -> bool:
        """Whether all that the loss reads of the teacher is `sequence_logps()`, so that a row's score can be computed
        once and kept."""
        return False

    @property
    def reference_path(self) -> str | None:
        """Path of another reference model than the one training starts from."""
        return None

    @property
    def forbids_lora(self) -> str | None:
        """Why the method cannot be trained with LoRA, or None if it can."""
        return None

    @property
    def needs_initial(self) -> bool:
        """Whether `Trained.initial` must be kept for the penalty."""
        return False

    def loss(
        self, student: Mapping[str, Scored], teacher: Mapping[str, Scored], step: StepInfo | None = None
    ) -> dict[str, Tensor]:
        """Named scalar parts, weighted and signed: the trainer adds them up and logs them by name. Every method has
        its own.

        With `passes`, the mappings hold only the running pass's view and `step.pass_name` names it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def passes(self, epoch: int) -> tuple[str, ...] | None:
        """Names of the student views that each form one whole pass of this epoch (counted from 0), in order; None
        trains all views jointly."""
        return None

    def penalty(self, trained: Trained, step: StepInfo) -> dict[str, Tensor]:
        """Named scalar parts on the parameters themselves, added to the loss; they belong to no side."""
        return {}

    def finalize(self, original: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors to save instead of `trained`.

        Both are state dicts of the trained tensors; with LoRA these are the factors, named with `lora_A` and `lora_B`.
        """
        return dict(trained)


HOOKS = frozenset(name for name in vars(Method) if not name.startswith("_"))


@dataclass(frozen=True)
class Wrapper(Method):
    """A method around another: what a subclass does not override is the inner method's."""

    method: Method


for _name in HOOKS:
    setattr(Wrapper, _name, property(operator.attrgetter(f"method.{_name}")))


def defines(method: Method, hook: str) -> bool:
    """Whether `method` (or, for a wrapper, one inside it) has a member `hook` of its own."""
    own = getattr(type(method), hook)
    if isinstance(method, Wrapper) and own is getattr(Wrapper, hook):
        return defines(method.method, hook)
    return own is not getattr(Method, hook)


def by_side(method: Method, parts: Mapping[str, Tensor]) -> dict[Side, dict[str, Tensor]]:
    """The parts that `method.loss` returned, by the side they work on.

    Raises:
        ValueError: no part at all, or one of which the method does not say the side.
    """
    sides: dict[Side, dict[str, Tensor]] = {
        "forget": {name: part for name, part in parts.items() if name in method.forget_parts},
        "retain": {name: part for name, part in parts.items() if name in method.retain_parts},
    }
    strangers = sorted(set(parts) - set(sides["forget"]) - set(sides["retain"]))
    if strangers or not parts:
        raise ValueError(
            f"{type(method).__name__}.loss returned {f'the part {strangers[0]!r}' if strangers else 'no part'}; "
            f"declared are forget_parts={method.forget_parts} and retain_parts={method.retain_parts}. Name each part "
            "in one of the two."
        )
    return sides
