"""The contract between a method and everything that runs it.

A method is a subclass of `Method`. It declares once what it needs (views, teacher, hidden states); the dataset, the
collator, the teacher and the trainer read the declaration. Its `loss` gets scored tensors and calls no model.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from unlearn.hooks import Gradients, Probe, Side, Sides, Trained
from unlearn.hooks import LoraPair as LoraPair  # the contract's names are imported from here
from unlearn.scoring import Scored

ViewName = Literal[
    "forget", "retain", "idk", "random", "augmented", "noised", "relabelled", "no_image", "other_image", "alternate",
    "anchor", "corrupted",
]  # fmt: skip
WITH_TEXT = ("noised", "relabelled", "anchor")
Split = Literal["forget", "retain"]
Layer = int | Literal["last"] | None


@dataclass(frozen=True)
class View:
    """A way of looking at an item.

    Args:
        name: `forget` and `retain` items as they are; `idk` the forget question with a refusal; `random` the forget
            question with k answers of other items; `augmented` the forget item with a perturbed input; `noised` the
            forget item with noise for a picture and `text` before its question; `relabelled` the forget item as it is,
            read with its true answer, whose labels are the tokens of `text`, again and again; `no_image`,
            `other_image` the forget item without its picture, or with that of another one; and with answers that the
            original model wrote before training: `alternate` of other facts, `corrupted` to its disturbed prompt,
            `anchor` to a question about its picture that asks for nobody (only where there is a picture).
        k: answers per item, for `random` only. The scored rows are answer-major (`Scored.chunk`).
        source: for `random` only, the split the answers come from; `forget` means *other* forget items.
        text: for `noised` (may be empty) and `relabelled`; for `anchor` a file of questions ("": our own).
        written: for `alternate` only, answers written for an item, of which each epoch draws one.
    """

    name: ViewName
    k: int = 1
    source: Split | None = None
    text: str = ""
    written: int = 1

    def __post_init__(self) -> None:
        if self.name not in get_args(ViewName):
            raise ValueError(f"unknown view {self.name!r}; views are {', '.join(get_args(ViewName))}")
        if self.k < 1 or (self.name != "random" and self.k != 1):
            raise ValueError(f"view {self.name!r} cannot have k = {self.k}")
        if (self.name == "random") != (self.source in get_args(Split)):
            raise ValueError(f"view {self.name!r} cannot have source = {self.source!r}; `random` has forget or retain")
        if (self.text and self.name not in WITH_TEXT) or (self.name == "relabelled" and not self.text.strip()):
            raise ValueError(f"view {self.name!r} cannot have text = {self.text!r}")
        if self.written < 1 or (self.name != "alternate" and self.written != 1):
            raise ValueError(f"view {self.name!r} cannot have written = {self.written}")


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
    def mlps_only(self) -> bool:
        """Whether only the MLPs of the decoder blocks `LoRA.layers` are trained, with adapters or in full."""
        return False

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

        The mappings may hold the views of one side only (a pass, or half of a sided step): then the parts of that side
        are returned. With `passes`, `step.pass_name` names the running pass's view.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def passes(self, epoch: int) -> tuple[str, ...] | None:
        """Names of the student views that each form one whole pass of this epoch (counted from 0), in order; None
        trains all views jointly."""
        return None

    def penalty(self, trained: Trained, step: StepInfo) -> dict[str, Tensor]:
        """Named scalar parts on the parameters themselves, added to the loss; they belong to no side."""
        return {}

    # ---- the sided step: the gradients of both sides apart, where one of the next three is defined ----

    @property
    def is_update(self) -> bool:
        """Whether `combine` returns an optimiser's direction, not a gradient: plain SGD takes it, and it is not
        clipped."""
        return False

    def side_of(self, step: StepInfo) -> Side | None:
        """The only side that a step works on; None: both."""
        return None

    def perturb(self, sides: Sides) -> Gradients:
        """By parameter, what is added to the weights while the forget gradient is taken a second time, which then
        replaces the first; afterwards the weights are what they were, from a copy."""
        return {}

    def combine(self, sides: Sides, memory: Mapping[str, Tensor], step: StepInfo) -> tuple[Gradients, Gradients]:
        """(the step's gradient, the new memory). `memory` is {} at the first step and saved with every checkpoint."""
        return sides.summed(), dict(memory)

    # ---- the model itself, outside of training ----

    def prepare(self, probe: Probe) -> Gradients:
        """Measured before training, with the original weights, and kept in the run's folder: `Sides.measured`."""
        return {}

    @property
    def keeps(self) -> bool:
        """Whether only the entries that `prepare` marked (`keep/<parameter>`, bool) move; the others return to their
        start value after every step."""
        return False

    def edit(self, probe: Probe) -> None:
        """Changes `probe.weights()` in place, instead of training; its views say only which splits it reads."""
        raise NotImplementedError(f"{type(self).__name__} edits nothing")

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


for _name in HOOKS - {"loss_beta_option"}:  # which names a field of the class
    setattr(Wrapper, _name, property(operator.attrgetter(f"method.{_name}")))


def defines(method: Method, hook: str) -> bool:
    """Whether `method` (or, for a wrapper, one inside it) has a member `hook` of its own."""
    own = getattr(type(method), hook)
    if isinstance(method, Wrapper) and own is getattr(Wrapper, hook):
        return defines(method.method, hook)
    return own is not getattr(Method, hook)


def runs_sided(method: Method) -> bool:
    """Whether a step of the method needs the gradients of the two sides apart."""
    return any(defines(method, hook) for hook in ("combine", "perturb", "side_of"))


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
