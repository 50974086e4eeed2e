"""The frozen original model: the same weights with the adapter switched off, or a frozen copy, or scores kept from
either."""

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import torch

from unlearn.distributed.engines import prepare_frozen
from unlearn.models.forward import StudentForward, score_views
from unlearn.scoring import Scored
from unlearn.training.teacher_cache import TeacherCache


class Teacher:
    """Scores views with the model as it was before training: always `eval()`, never with gradients.

    With LoRA no second copy is loaded: the adapter is switched off for the call. Otherwise `frozen` holds a copy.
    With `sums_only` each row is scored once and its sum kept; the views then hold sequence scores and no logits.
    """

    def __init__(self, student: StudentForward, frozen: Any | None = None, *, sums_only: bool = False) -> None:
        self.student = student
        self.frozen = frozen
        self.cache = TeacherCache(self.forward) if sums_only else None

    @classmethod
    def of(cls, student: StudentForward, reference: Any | None = None, *, sums_only: bool = False) -> "Teacher":
        """The teacher of a student about to be trained. `reference` is another model to compare with (DPO's option);
        `sums_only` says that the method reads no more than sequence scores (`method.sums_only`)."""
        if reference is not None:
            frozen = StudentForward(reference, student.hidden)
            frozen.layer = student.layer
        elif hasattr(student.model, "disable_adapter"):
            return cls(student, sums_only=sums_only)
        else:
            frozen = copy.deepcopy(student)
        return cls(student, frozen.requires_grad_(False).eval(), sums_only=sums_only)

    def prepare(self, accelerator: Any, *, bf16: bool) -> None:
        """Puts a frozen copy where the engine wants it; the adapter form is there already."""
        if self.frozen is not None:
            self.frozen = prepare_frozen(accelerator, self.frozen, bf16=bf16)
            assert self.frozen is not None, "without a copy the student would be its own teacher"

    @torch.no_grad()
    def score(self, views: Mapping[Any, Any], through: Any = None) -> dict[Any, Scored]:
        """The scored views, without gradient. An empty mapping costs nothing.

        `through` is the student as its engine wrapped it: only by that way are weights that lie in parts gathered.
        """
        if not views:
            return {}
        return self.forward(views, through) if self.cache is None else self.cache.score(views, through)

    @torch.no_grad()
    def forward(self, views: Mapping[Any, Any], through: Any = None) -> dict[Any, Scored]:
        """The teacher's own forward, whatever is cached."""
        if self.frozen is not None:
            return score_views(self.frozen(views))
        forward = self.student if through is None else through
        training = self.student.training
        forward.eval()
        try:
            with getattr(self.student.model, "disable_adapter", contextlib.nullcontext)():
                return score_views(forward(views))
        finally:
            forward.train(training)
