"""The sided step: the gradients of the forget and of the retain parts, each by itself, put together by the method.

For each side in turn one forward of that side's views, the loss with only these present, backward, and the gradients
taken away before the next forward. So every call of the module has its own backward, which is what DDP and FSDP2 need,
and every backward is synchronised: what is added up per side is the mean over the processes. Clipping and the
optimiser follow as after any step.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from unlearn.atomic import replacing
from unlearn.distributed.pieces import cut, piece, total, whole
from unlearn.hooks import SIDES, Gradients, Side, Sides, side_of_view
from unlearn.method import Method, StepInfo, defines
from unlearn.models.lora import trained_view

MEMORY = "memory.safetensors"  # of a checkpoint


class SidedStep:
    """Half steps of `trainer`, added up until a step is whole; then the weights' gradient is the method's.

    `memory` is what `combine` hands on from step to step, in this process's pieces.
    """

    def __init__(self, trainer: Any, method: Method) -> None:
        self.trainer, self.method = trainer, method
        self.memory: Gradients = {}
        self._gradients: dict[Side, Gradients] = {side: {} for side in SIDES}
        self._values: dict[str, Tensor] = {}
        self._batches: list[dict[str, Any]] = []  # of this step, for a second forget pass

    def micro_batch(self, model: Any, inputs: Any, *, of: int, last: bool) -> Tensor:
        """Both halves of a micro-batch, one `of` so many to its step; after the `last` one the step's gradient stands
        in the weights. Returns the loss divided by `of`, for the log."""
        step = self.trainer.step_info(inputs)
        only = self.method.side_of(step)
        losses = [self._half(model, inputs, side, of) for side in SIDES if only in (None, side)]
        if only != "forget" and defines(self.method, "penalty"):
            losses.append(self._penalty(step, of))
        if defines(self.method, "perturb") and only != "retain":
            self._batches.append(inputs)
        if last:
            self._finish(model, step, of)
        return torch.stack([loss for loss in losses if loss is not None]).sum()

    def _half(self, model: Any, inputs: dict[str, Any], side: Side, of: int, again: bool = False) -> Tensor | None:
        """Forward and backward over one side's views; None where it has none in this micro-batch (a pass of the other
        side). `again` leaves the log alone."""
        views = {name: rows for name, rows in inputs["views"].items() if side_of_view(name) == side}
        if not any(view.name in views for view in self.method.student_views):
            return None
        with self.trainer.compute_loss_context_manager():
            (loss,), _, (parts,) = self.trainer.losses_of(model, [{**inputs, "views": views}], quiet=again)
        self.trainer.accelerator.backward(loss / of)
        if not again:
            self._note(parts, of)
        for name, parameter in self._trained().items():
            if parameter.grad is not None:
                self._add(side, name, piece(parameter.grad))
                parameter.grad = None
        return loss.detach() / of

    def _penalty(self, step: StepInfo, of: int) -> Tensor:
        """The penalty on the weights, which every process has whole: its gradient needs no synchronising."""
        trained = self._trained()
        parts = self.method.penalty(trained_view(self.trainer.student.model, self.trainer.initial), step)
        loss = torch.stack(list(parts.values())).sum() / of
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        for name, gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                self._add("retain", name, gradient)
        self.trainer.means.add({name: part.detach() for name, part in parts.items()})
        self._note(parts, of)
        return loss.detach()

    def _trained(self) -> dict[str, Any]:
        return {name: p for name, p in self.trainer.student.model.named_parameters() if p.requires_grad}

    def _add(self, side: Side, name: str, gradient: Tensor) -> None:
        gradient = gradient if gradient.dtype == torch.float64 else gradient.float()
        sums = self._gradients[side]
        sums[name] = sums[name] + gradient if name in sums else gradient

    def _note(self, parts: Mapping[str, Tensor], of: int) -> None:
        for name, part in parts.items():
            value = part.detach().float() / of
            self._values[name] = self._values[name] + value if name in self._values else value

    # ---- the whole step ---------------------------------------------------------------------------------------------

    def _finish(self, model: Any, step: StepInfo, of: int) -> None:
        sides = self._sides()
        if self.trainer.logs_now():
            self.trainer.means.add(_norms(sides))
        if self._batches:
            self._again(model, self.method.perturb(sides), of)
            sides = self._sides()
        gradient, self.memory = self.method.combine(sides, self.memory, step)
        for name, parameter in self._trained().items():
            if name in gradient:
                parameter.grad = _like(gradient[name], parameter)
        self.trainer.means.add({name: number for name, number in self.memory.items() if number.ndim == 0})
        self._gradients, self._values, self._batches = {side: {} for side in SIDES}, {}, []

    def _sides(self) -> Sides:
        """What was added up, both sides under the same names."""
        names = [name for name in self._trained() if any(name in self._gradients[side] for side in SIDES)]

        def of(side: Side) -> Gradients:
            own, other = self._gradients[side], self._gradients["retain" if side == "forget" else "forget"]
            return {name: own[name] if name in own else torch.zeros_like(other[name]) for name in names}

        values = self._values
        if values and self.trainer.accelerator.num_processes > 1:
            means = self.trainer.accelerator.reduce(torch.stack(list(values.values())), reduction="mean")
            values = dict(zip(values, means, strict=True))
        return Sides(of("forget"), of("retain"), values, self.trainer.measured.tensors, total(self._trained()))

    def _again(self, model: Any, change: Gradients, of: int) -> None:
        """The forget gradient once more, at the weights plus `change`; then they are what they were."""
        trained = self._trained()
        kept = {name: piece(trained[name].detach()).clone() for name in change}
        self._gradients["forget"] = {}
        with torch.no_grad():
            for name, tensor in change.items():
                piece(trained[name].detach()).add_(tensor)
        for inputs in self._batches:
            self._half(model, inputs, "forget", of, again=True)
        with torch.no_grad():
            for name, tensor in kept.items():
                piece(trained[name].detach()).copy_(tensor)

    # ---- memory -----------------------------------------------------------------------------------------------------

    def save(self, checkpoint: Path) -> None:
        """Every process must call this: the memory is written whole, by one."""
        memory = whole(self.memory, self._trained())
        if self.trainer.args.should_save:
            with replacing(checkpoint / MEMORY) as file:
                save_file({name: tensor.contiguous() for name, tensor in memory.items()}, file)

    def load(self, checkpoint: Path) -> None:
        """The memory of a checkpoint, for any number of processes."""
        self.memory = cut(load_file(checkpoint / MEMORY), self._trained())


def take_updates(args: TrainingArguments, method: Method) -> None:
    """Plain SGD without clipping, where the method is its own optimiser (`Method.is_update`)."""
    if method.is_update:
        args.optim, args.max_grad_norm = OptimizerNames.SGD, 0.0


def _norms(sides: Sides) -> dict[str, Tensor]:
    """The norm of each side's gradient over all trained weights."""
    pairs = (("forget", sides.forget), ("retain", sides.retain))
    return {f"grad_norm_{side}": sides.dot(gradient, gradient).sqrt() for side, gradient in pairs}


def _like(gradient: Tensor, parameter: Any) -> Any:
    """A piece of a gradient as its parameter wants it."""
    if not hasattr(parameter, "to_local"):
        return gradient.to(parameter.dtype)
    from torch.distributed.tensor import DTensor

    mesh, places = parameter.device_mesh, parameter.placements
    return DTensor.from_local(gradient, mesh, places, shape=parameter.shape, stride=parameter.stride())
