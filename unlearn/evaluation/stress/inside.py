"""What a model's inside still carries: its states put in place of base's, and its states read by a linear probe."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.prefix import to_model
from unlearn.evaluation.stress.rows import measure_rows
from unlearn.evaluation.suite import EvalTask
from unlearn.metrics.stress import first_half, ridge_hits
from unlearn.models.families import decoder_blocks, inner_model
from unlearn.models.vision import positions
from unlearn.stress_log import Number


def depth(
    base: Any, other: Any, collator: Collator, task: EvalTask, *, batch_size: int, folder: Path, key: str
) -> list[Number]:
    """Per row and decoder block: what the exact answer loses under `base` (nats per token, the end token left out)
    when the block's output is replaced by `other`'s, at the positions that predict the answer.

    The last block is among them for the profile: there, with the same norm and head, the result is `other`'s own.
    """

    def measure(items: list[EvalItem]) -> list[list[float]]:
        rows = [
            (collator.encode_prompt(item.sample), collator.encode_answer(str(item.sample["answer"]))) for item in items
        ]
        batch = collator.pad(rows)
        inputs, keep = to_model(base, batch["inputs"]), batch["answer_length"]
        labels = batch["labels"][:, -keep:].to(inputs["input_ids"].device).clone()
        labels[:, -1] = -100  # the end token
        predicting = torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)
        predicting[:, -keep - 1 : -1] = labels >= 0
        own = _mean_logps(base, inputs, keep, labels)
        states = _states(other, inputs)
        drops = []
        for block, state in zip(decoder_blocks(inner_model(base)), states, strict=True):
            with _replaced(block, state, predicting):
                drops.append(own - _mean_logps(base, inputs, keep, labels))
        return torch.stack(drops, dim=1).tolist()

    values = measure_rows(task, measure, folder=folder, key=key, batch_size=batch_size)
    layers = len(decoder_blocks(inner_model(base)))
    return [
        Number(task.name, f"layer {layer}", "drop", {row: own[layer] for row, own in values.items()})
        for layer in range(layers)
    ]


def probe(model: Any, collator: Collator, task: EvalTask, *, batch_size: int, folder: Path, key: str) -> list[Number]:
    """Per block: whether a linear probe on its output at the last prompt token names the person, for the second half
    of each person's rows, by the first. A block whose outputs do not vary has no number."""

    def measure(items: list[EvalItem]) -> list[list[list[float]]]:
        prompts = [collator.encode_prompt(item.sample) for item in items]
        inputs = to_model(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
        states = [state[:, -1] for state in _states(model, inputs)]
        return torch.stack(states, dim=1).double().tolist()

    features = measure_rows(task, measure, folder=folder, key=key, batch_size=batch_size)
    people = [str(item.author) for item in (task.items[place] for place in range(len(task.items)))]
    rows = list(features)
    training = first_half(people)
    seen = {person for person, chosen in zip(people, training, strict=True) if chosen}
    asked = [place for place, person in enumerate(people) if not training[place] and person in seen]
    taught = [place for place in range(len(rows)) if training[place]]
    numbers = []
    for layer in range(len(decoder_blocks(inner_model(model)))):
        x = [features[row][layer] for row in rows]
        hits = ridge_hits(
            [x[place] for place in taught], [people[place] for place in taught],
            [x[place] for place in asked], [people[place] for place in asked],
        )  # fmt: skip
        if hits is not None:
            values = {rows[place]: float(hit) for place, hit in zip(asked, hits, strict=True)}
            numbers.append(Number(task.name, f"layer {layer}", "named", values))
    return numbers


@torch.no_grad()
def _states(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The output [n, L, D] of every decoder block: by hooks, since the last of `hidden_states` is normed already."""
    found: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, args, output: found.append(_first(output)))
        for block in decoder_blocks(inner_model(model))
    ]
    try:
        model(**inputs, position_ids=positions(model, inputs), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def _replaced(block: Any, state: Tensor, where: Tensor) -> Iterator[None]:
    """The block's output replaced by `state` [n, L, D] at the positions `where` [n, L]."""

    def hook(module: Any, args: Any, output: Any) -> Any:
        own = _first(output)
        new = torch.where(where[..., None], state.to(own.dtype), own)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def _mean_logps(model: Any, inputs: dict[str, Tensor], keep: int, labels: Tensor) -> Tensor:
    """[n] the mean ln p of the labels [n, keep] that are not ignored, fp64."""
    places = positions(model, inputs)
    logits = model(**inputs, position_ids=places, use_cache=False, logits_to_keep=keep + 1).logits[:, :-1]
    known = labels >= 0
    logps = torch.log_softmax(logits.float(), dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0].double()
    return (logps * known).sum(1) / known.sum(1)


def _first(output: Any) -> Tensor:
    """The hidden states among what a block returns."""
    return output[0] if isinstance(output, tuple) else output


def named_people(items: Sequence[EvalItem]) -> bool:
    """Whether every row says whom it is about, which a probe needs."""
    return all(items[place].author is not None for place in range(len(items)))
