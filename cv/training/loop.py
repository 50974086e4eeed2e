"""The one training loop of this track: pretraining, finetuning, retraining and every way of unlearning.

A stack of M models takes each step together: one forward per view for all of them, then the method's loss for each,
    then
one backward through the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cv.data.batches import Batch
from cv.network.margin import score_faces
from cv.network.stack import Stack
from cv.settings import Optimisation
from unlearn.method import Method, Trained, by_side
from unlearn.scoring import Scored


@dataclass(frozen=True)
class Faces:
    """Photos on the training device: pixels uint8 [N, 3, S, S] and labels [N]."""

    pixels: Tensor
    labels: Tensor


class Teacher:
    """The models as they were before unlearning, in eval mode.

    Photos are never augmented, so each has one embedding: all are computed once and looked up by photo number (the
    published code looks them up by caption, and photos with the same caption overwrite one another).
    """

    def __init__(self, stack: Stack, faces: Faces, method: Method) -> None:
        names = {view.name for view in method.teacher_views}
        self.names = tuple(names)
        self.tables = {"photo": stack.embed(faces.pixels)} if names - {"augmented"} else {}
        if "augmented" in names:  # the published perturbation: a horizontal flip
            self.tables["augmented"] = stack.embed(faces.pixels.flip(-1))
        self.logits = {name: stack.logits(table) for name, table in self.tables.items()}

    def scored(self, stack: Stack, faces: Faces, batch: Batch, model: int) -> dict[str, Scored]:
        """The teacher's views of one model's batch; `augmented` shows the forget photos."""
        views: dict[str, Scored] = {}
        for name in self.names:
            rows = batch.rows.get("forget" if name == "augmented" else name)
            if rows is not None:
                table = name if name == "augmented" else "photo"
                at = rows[model]
                views[name] = score_faces(
                    self.logits[table][model, at], faces.labels[at], self.tables[table][model, at], stack.spec.margin
                )
        return views


def train(
    stack: Stack, method: Method, faces: Faces, plan: Sequence[Batch], optimisation: Optimisation
) -> list[dict[str, float]]:
    """Trains every model of the stack in place; returns each epoch's mean loss parts, averaged over the models.

    Raises:
        ValueError: a loss that is not finite, with its place; nothing has been saved then.
    """
    teacher = Teacher(stack, faces, method) if method.teacher_views else None
    optimiser = torch.optim.SGD(
        stack.parameters.values(),
        lr=optimisation.lr,
        momentum=optimisation.momentum,
        weight_decay=optimisation.weight_decay,
    )
    sums: dict[int, dict[str, list[Tensor]]] = {}
    for batch in plan:
        optimiser.param_groups[0]["lr"] = optimisation.rate(batch.info.step, batch.info.total_steps)
        parts = step_loss(stack, method, faces, batch, teacher, optimisation.batchnorm)
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        optimiser.step()
        _collect(sums.setdefault(batch.info.epoch, {}), parts, stack.size)
        if batch is plan[-1] or batch.info.step % 50 == 49:
            _check_finite(parts, batch)
    _check_finite({name: tensor.sum() for name, tensor in stack.parameters.items()}, plan[-1])
    return [
        {name: float(torch.stack(values).mean()) for name, values in epoch.items()} for _, epoch in sorted(sums.items())
    ]


def step_loss(
    stack: Stack, method: Method, faces: Faces, batch: Batch, teacher: Teacher | None = None, batchnorm: str = "train"
) -> dict[str, Tensor]:
    """The method's parts for one batch, each summed over the models: their gradients stay apart."""
    outputs = {name: stack.forward(faces.pixels[rows], batchnorm=batchnorm) for name, rows in batch.rows.items()}
    totals: dict[str, Tensor] = {}
    for model in range(stack.size):
        student = _student_views(stack, faces, batch, outputs, model)
        original = teacher.scored(stack, faces, batch, model) if teacher is not None else {}
        losses = method.loss(student, original, batch.info)
        by_side(method, losses)  # checks their names
        for name, part in losses.items():
            totals[name] = totals[name] + part if name in totals else part
    weights = {name: tensor.unbind() for name, tensor in stack.parameters.items()}
    for model in range(stack.size):
        trained = Trained({name: tensors[model] for name, tensors in weights.items()})
        for name, part in method.penalty(trained, batch.info).items():
            totals[name] = totals[name] + part if name in totals else part
    return totals


def _student_views(
    stack: Stack, faces: Faces, batch: Batch, outputs: Mapping[str, tuple[Tensor, Tensor]], model: int
) -> dict[str, Scored]:
    margin = stack.spec.margin
    views = {}
    for name, (embeddings, logits) in outputs.items():
        views[name] = score_faces(logits[model], faces.labels[batch.rows[name][model]], embeddings[model], margin)
    if batch.random is not None and "forget" in outputs:  # the forget photos again, under other names
        embeddings, logits = outputs["forget"]
        labels = batch.random[model]
        copies = len(labels) // logits.shape[1]
        views["random"] = score_faces(
            logits[model].repeat(copies, 1), labels, embeddings[model].repeat(copies, 1), margin
        )
    return views


def _collect(epoch: dict[str, list[Tensor]], parts: Mapping[str, Tensor], models: int) -> None:
    for name, part in parts.items():
        epoch.setdefault(name, []).append(part.detach() / models)


def _check_finite(parts: Mapping[str, Tensor], batch: Batch) -> None:
    wrong = [name for name, part in parts.items() if not torch.isfinite(part)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not finite any more (by step {batch.info.step + 1}); lower lr.")
