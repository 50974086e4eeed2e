"""GradNorm, a membership attack: a model pulls less on what it was trained on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from unlearn.data.collator import IGNORE_INDEX, Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.prefix import to_model
from unlearn.evaluation.stress.rows import measure_rows
from unlearn.evaluation.suite import EvalTask
from unlearn.models.compat import with_mask
from unlearn.models.families import inner_model
from unlearn.models.lora import lora_targets
from unlearn.models.vision import positions
from unlearn.stress_log import Number

KINDS = ("total", "tensors")


def gradient_norm(model: Any, collator: Collator, item: EvalItem) -> tuple[float, float]:
    """(total, tensors) of one row: the L2 norm of the gradient of its answer's nats per token, end token included; the
    mean of the norms of its parameter tensors, which is what others publish.

    By the weights of the language model's linears, without the head, in eval mode (published code leaves dropout on).
    `model` is in fp32 and has them, and nothing else, to be trained (`pulled`).
    """
    row = (collator.encode_prompt(item.sample), collator.encode_answer(str(item.sample["answer"])))
    batch = collator.pad([row])
    inputs, keep = to_model(model, batch["inputs"]), batch["answer_length"]
    places = positions(model, inputs)
    logits = model(**inputs, position_ids=places, use_cache=False, logits_to_keep=keep + 1).logits[0, :-1].float()
    loss = F.cross_entropy(logits, batch["labels"][0, -keep:].to(logits.device), ignore_index=IGNORE_INDEX)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    # a linear that this row does not reach (cross-attention without a picture, an expert) pulls with 0
    norms = torch.stack([loss.new_zeros(()) if one is None else one.norm() for one in gradients])
    return float(norms.norm()), float(norms.mean())


def gradient_norms(
    model: Any, collator: Collator, known: EvalTask, unseen: EvalTask, *, batch_size: int, folder: Path, key: str
) -> list[Number]:
    """Both norms of each row of a task and of its twin on people whom nobody was trained on, under the task's name."""

    def measure(items: list[EvalItem]) -> list[tuple[float, float]]:
        return [gradient_norm(model, collator, item) for item in items]

    numbers = []
    with pulled(model):
        for task in (known, unseen):
            rows = measure_rows(task, measure, folder=folder, key=key, batch_size=batch_size)
            numbers += [Number(task.name, known.name, kind, {row: norms[place] for row, norms in rows.items()})
                        for place, kind in enumerate(KINDS)]  # fmt: skip
    return numbers


@contextlib.contextmanager
def pulled(model: Any) -> Iterator[None]:
    """Meanwhile the model is in fp32 (FlashAttention, which takes none, gives way to sdpa) and the weights of its
    language model's linears take gradients, no others. Afterwards it is as it was, tensor by tensor: some are in fp32
    in a model of bf16."""
    inner = inner_model(model)
    asked = {name: p.requires_grad for name, p in inner.named_parameters()}
    tensors = [one for one in (*inner.parameters(), *inner.buffers()) if one.is_floating_point()]
    before = [one.data for one in tensors]
    modules = dict(inner.named_modules())
    parts = [getattr(inner.config, name, None) for name in ("text_config", "vision_config")]
    with contextlib.ExitStack() as stack:
        for config in (inner.config, *(part for part in parts if part is not None)):
            stack.enter_context(with_mask(config))
        try:
            inner.requires_grad_(False)
            for one in tensors:
                one.data = one.data.float()
            for name in lora_targets(inner):
                modules[name].weight.requires_grad_(True)
            yield
        finally:
            for one, data in zip(tensors, before, strict=True):
                one.data = data
            for name, parameter in inner.named_parameters():
                parameter.requires_grad_(asked[name])
