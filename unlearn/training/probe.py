"""The model and the rows of a run's splits, outside of training: what `prepare` measures with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn.data.samples import Sample, draw
from unlearn.data.views import ForgetRetainDataset, StepCollator
from unlearn.distributed.pieces import in_parts, piece
from unlearn.hooks import Gradients, Scope, side_of_view
from unlearn.models.ffn import down_projections, weight
from unlearn.models.forward import StudentForward, score_views
from unlearn.scoring import Scored

PROBE = 7  # what the order of the rows is drawn for, beside the draws of data/views.py


@dataclass(frozen=True)
class ProbeRow:
    """One row of a view."""

    view: str
    sample: Sample

    @property
    def image(self) -> bool:
        return self.sample["image"] is not None

    def without_image(self) -> "ProbeRow":
        bare: Any = {**self.sample, "image": None, "id": f"{self.sample['id']} (no image)"}
        return ProbeRow(self.view, bare)


class ModelProbe:
    """`unlearn.hooks.Probe` on a real model.

    Where an engine holds the weights in parts, every process must pass the same rows: each then gets all of them, and
    a gradient, averaged over the processes, is the row's own.
    """

    def __init__(
        self, student: StudentForward, dataset: ForgetRetainDataset, collator: StepCollator, accelerator: Any, seed: int
    ) -> None:
        self.student, self.dataset, self.collator, self.accelerator = student, dataset, collator, accelerator
        self.seed = seed
        self.trained = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
        self.parts = any(in_parts(p) for p in self.trained.values())

    def batches(self, view: str, share: bool = True) -> Iterator[ProbeRow]:
        split = side_of_view(view)
        source = self.dataset.sources[split]
        assert source is not None, f"the method declares no view of the {split} split"
        order = draw(self.seed, PROBE, split == "retain").permutation(len(source)).tolist()
        if share and not self.parts:
            order = order[self.accelerator.process_index :: self.accelerator.num_processes]
        for row in order:
            yield ProbeRow(view, self.dataset.sample(view, row))

    def cross_entropy(self, batch: ProbeRow) -> Tensor:
        with torch.no_grad():
            return self._scored(batch).cross_entropy()

    def gradients(self, batch: ProbeRow) -> Gradients:
        loss = self._scored(batch).cross_entropy()
        if self.parts:  # gathered and cut by hooks of backward
            loss.backward()
            found = {name: p.grad for name, p in self.trained.items() if p.grad is not None}
            for parameter in self.trained.values():
                parameter.grad = None
            return found
        gradients = torch.autograd.grad(loss, list(self.trained.values()), allow_unused=True)
        return {name: g for name, g in zip(self.trained, gradients, strict=True) if g is not None}

    @torch.no_grad()
    def channels(self, batch: ProbeRow, scope: Scope) -> Gradients:
        """Of the language model's FFNs at the positions of the scope; of the vision tower's, for `image`, at all."""
        collator, seen = self.collator.collator, {}
        prompt, answer = collator.encode_prompt(batch.sample), collator.encode_answer(str(batch.sample["answer"]))
        layers = down_projections(self.student.model)

        def watch(name: str) -> Any:
            def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
                seen[name] = inputs[0].detach().float().flatten(0, -2)

            return hook

        handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
        try:
            inputs = to_device(collator.pad([(prompt, answer)])["inputs"], self._device())
            self.student.model(**inputs, logits_to_keep=1, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        ids = inputs["input_ids"][0]
        picture = (
            ids == collator.image_token_id if collator.image_token_id is not None else torch.zeros_like(ids).bool()
        )
        where = {"image": picture, "text": ~picture, "predicts_answer": torch.zeros_like(picture)}
        where["predicts_answer"][len(prompt.ids) - 1 : -1] = True
        found = {name: z[where[scope]] for name, z in seen.items() if name.startswith("language")}
        return found | ({name: z for name, z in seen.items() if name.startswith("vision")} if scope == "image" else {})

    def weights(self) -> Gradients:
        return {name: weight(layer).detach() for name, layer in down_projections(self.student.model).items()}

    def sum(self, tensors: Mapping[str, Tensor]) -> Gradients:
        """The processes need not hold the same names: text rows leave a vision tower's weights out."""
        if self.parts:
            return {name: t.full_tensor() if in_parts(t) else t for name, t in sorted(tensors.items())}  # type: ignore[attr-defined]
        if self.accelerator.num_processes == 1:
            return dict(tensors)
        from accelerate.utils import gather_object

        held = gather_object([{name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}])
        known = {name: facts for one in held for name, facts in one.items()}
        device = self.accelerator.device
        own = {
            name: tensors[name] if name in tensors else torch.zeros(shape, dtype=dtype, device=device)
            for name, (shape, dtype) in sorted(known.items())
        }
        return {name: self.accelerator.reduce(tensor, reduction="sum") for name, tensor in own.items()}

    def _scored(self, batch: ProbeRow) -> Scored:
        views = self.collator([{"views": {batch.view: batch.sample}, "epoch": 0, "pass_name": None}])["views"]
        views = to_device(views, self._device())
        return score_views(self.student(views))[batch.view]

    def _device(self) -> torch.device:
        return piece(next(self.student.parameters())).device


@contextmanager
def probing(student: StudentForward) -> Iterator[None]:
    """Eval mode meanwhile: no dropout, no checkpointing."""
    training = student.training
    student.eval()
    try:
        yield
    finally:
        student.train(training)


def to_device(value: Any, device: torch.device) -> Any:
    """`value` with its tensors, however nested, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: to_device(item, device) for name, item in value.items()}
    return value
