"""The frozen original model: the same weights with the adapter switched off, or a frozen copy."""

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import torch

from unlearn.engines import prepare_frozen
from unlearn.scoring import Scored
from unlearn.step import StudentForward, score_views


class Teacher:
    """Scores views with the model as it was before training: always `eval()`, never with gradients.

    With LoRA no second copy is loaded: the adapter is switched off for the call. Otherwise `frozen` holds a copy.
    """

    def __init__(self, student: StudentForward, frozen: Any | None = None) -> None:
        self.student = student
        self.frozen = frozen

    @classmethod
    def of(cls, student: StudentForward, reference: Any | None = None) -> "Teacher":
        """The teacher of a student about to be trained. `reference` is another model to compare with (DPO's option)."""
        if reference is not None:
            frozen = StudentForward(reference, student.hidden)
            frozen.layer = student.layer
        elif hasattr(student.model, "disable_adapter"):
            return cls(student)
        else:
            frozen = copy.deepcopy(student)
        return cls(student, frozen.requires_grad_(False).eval())

    def prepare(self, accelerator: Any, *, bf16: bool) -> None:
        """Puts a frozen copy where the engine wants it; the adapter form is there already."""
        if self.frozen is not None:
            self.frozen = prepare_frozen(accelerator, self.frozen, bf16=bf16)
            assert self.frozen is not None, "without a copy the student would be its own teacher"

    @torch.no_grad()
    def score(self, views: Mapping[str, Any], through: Any = None) -> dict[str, Scored]:
        """The scored views, without gradient. An empty mapping costs nothing.

        `through` is the student as its engine wrapped it: only by that way are weights that lie in parts gathered.
        """
        if not views:
            return {}
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
