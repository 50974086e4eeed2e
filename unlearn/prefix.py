"""Shared-prefix evaluation: a prompt and its image go through the model once, every answer continues from that state.

The key/value cache of the prompts is forked: each fork shares the prompt's tensors until a layer appends to them, so scoring
the exact, base and wrong answers, and then generating, costs the answers' tokens alone. Seven answers after 600 prompt and
image tokens are about 1/5 of the work of seven whole forwards (docs/performance.md).

Logits exist for answer positions only; log-softmax is taken in fp32, sums in fp64. All losses are nats.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.collator import Collator, Prompt

logger = logging.getLogger(__name__)
Answers = Sequence[Sequence[Sequence[int]]]  # [item][answer] -> token ids, the end token last


@dataclass(frozen=True)
class AnswerScore:
    """`loss`: -log p of an answer given its prompt, in nats, summed over its `tokens` tokens (the end token is one)."""

    loss: float
    tokens: int


@dataclass(frozen=True)
class Prefix:
    """The state of a model that has read n prompts, padded on the left to L tokens.

    `forkable` is False when its cache cannot be shared by answers (sliding windows, recurrent states).
    """

    cache: Any
    mask: Tensor  # [n, L]
    logits: Tensor  # [n, V], they predict the first token of the answer
    next_position: Tensor  # [n], the position of that token
    axes: int  # 3 where positions have three axes (Qwen-VL with images), else 1
    forkable: bool

    def fork(self, rows: Tensor | None = None) -> Any:
        """A cache that may be appended to, holding the prompts `rows` ([r], repeats allowed; None = all, without a copy)."""
        fork = copy.copy(self.cache)
        fork.layers = [copy.copy(layer) for layer in self.cache.layers]
        if rows is not None:
            fork.batch_select_indices(rows)
        return fork


@torch.no_grad()
def read_prefix(model: Any, inputs: dict[str, Tensor]) -> Prefix:
    """Runs the prompts of a collated batch (`Collator.pad` with empty answers), images included, through the model once."""
    inputs = to_model(model, inputs)
    positions = prompt_positions(model, inputs)
    output = model(**inputs, position_ids=positions, use_cache=True, logits_to_keep=1)
    last = positions.amax(-1)  # the last prompt token is text: all axes agree on it, and it is the largest
    return Prefix(
        cache=output.past_key_values,
        mask=inputs["attention_mask"],
        logits=output.logits[:, -1],
        next_position=(last.amax(0) if last.ndim == 2 else last) + 1,
        axes=3 if positions.ndim == 3 else 1,
        forkable=_forkable(output.past_key_values),
    )


@torch.no_grad()
def score_answers(model: Any, prefix: Prefix, answers: Answers, *, rows_per_forward: int) -> list[list[AnswerScore]]:
    """The score of every answer of every prompt, in the shape of `answers` (ragged is fine), from a forkable prefix.

    Answers of equal ids after the same prompt are scored once. At most `rows_per_forward` prompts are held in a fork.
    """
    first = torch.log_softmax(prefix.logits.float(), dim=-1)
    jobs = _distinct(answers)
    heads = first[[item for item, _ in jobs], [ids[0] for _, ids in jobs]].tolist()
    losses = {job: -head for job, head in zip(jobs, heads, strict=True)}
    longer = sorted((job for job in jobs if len(job[1]) > 1), key=lambda job: len(job[1]))
    for start in range(0, len(longer), rows_per_forward):
        chunk = longer[start : start + rows_per_forward]
        rows = torch.tensor([item for item, _ in chunk], device=prefix.mask.device)
        ids, mask = _right_pad([answer for _, answer in chunk], rows.device)
        logits = _extend(model, prefix, prefix.fork(rows), rows, ids[:, :-1], mask[:, :-1])
        for job, loss in zip(chunk, _row_losses(logits, ids[:, 1:], mask[:, 1:]), strict=True):
            losses[job] += loss
    return _arrange(answers, losses)


@torch.no_grad()
def score_plain(
    model: Any, collator: Collator, prompts: Sequence[Prompt], answers: Answers, *, rows_per_forward: int
) -> list[list[AnswerScore]]:
    """The same scores by one whole forward per answer: for models whose cache cannot be forked, and the truth in tests."""
    losses: dict[tuple[int, tuple[int, ...]], float] = {}
    jobs = sorted(_distinct(answers), key=lambda job: len(prompts[job[0]].ids) + len(job[1]))
    for start in range(0, len(jobs), rows_per_forward):
        chunk = jobs[start : start + rows_per_forward]
        batch = collator.pad([(prompts[item], ids) for item, ids in chunk])
        inputs = to_model(model, batch["inputs"])
        keep = batch["answer_length"]
        positions = prompt_positions(model, inputs)
        logits = model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=keep + 1).logits[:, :-1]
        labels = batch["labels"][:, -keep:].to(logits.device)
        losses |= dict(zip(chunk, _row_losses(logits, labels, labels >= 0), strict=True))
    return _arrange(answers, losses)


@torch.no_grad()
def generate_greedy(model: Any, prefix: Prefix, *, max_new_tokens: int, stop_ids: frozenset[int]) -> list[list[int]]:
    """The likeliest token after each prompt, again and again, until one of `stop_ids` (kept, last) or `max_new_tokens`.

    Nothing of the model's generation_config is used: no sampling, no repetition penalty. Finished rows leave the batch.
    An unforkable prefix is used up.
    """
    cache = prefix.fork() if prefix.forkable else prefix.cache
    rows = torch.arange(len(prefix.mask), device=prefix.mask.device)
    generated: list[list[int]] = [[] for _ in rows]
    logits = prefix.logits
    for step in range(max_new_tokens):
        tokens = logits.argmax(-1)
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            if not (generated[row] and generated[row][-1] in stop_ids):
                generated[row].append(token)
        going = [place for place, row in enumerate(rows.tolist()) if generated[row][-1] not in stop_ids]
        if not going or step + 1 == max_new_tokens:
            break
        if len(going) < len(rows) and prefix.forkable:
            places = torch.tensor(going, device=rows.device)
            cache.batch_select_indices(places)
            rows, tokens = rows[places], tokens[places]
        mask = torch.ones(len(rows), step + 1, dtype=prefix.mask.dtype, device=rows.device)
        logits = _extend(model, prefix, cache, rows, tokens[:, None], mask)[:, -1]
    return generated


def to_model(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs on the device of the model's embeddings, pictures in the model's float type."""
    device = model.get_input_embeddings().weight.device
    return {
        name: value.to(device, model.dtype if value.is_floating_point() else None) for name, value in inputs.items()
    }


def prompt_positions(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Positions of left-padded tokens: [n, L], or [3, n, L] where images have a grid (time, height, width; Qwen-VL)."""
    mask = inputs["attention_mask"]
    if "image_grid_thw" not in inputs:
        return (mask.cumsum(1) - 1).clamp(min=0)
    owner = next(module for module in model.modules() if hasattr(module, "get_rope_index"))
    positions, _ = owner.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=mask,
    )
    return positions


def stop_token_ids(model: Any, collator: Collator) -> frozenset[int]:
    """The end token of the template, and the end tokens that the checkpoint itself declares."""
    declared = [collator.tokenizer.eos_token_id, collator.template.end_id]
    for config in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        declared += ids if isinstance(ids, (list, tuple)) else [ids]
    return frozenset(token for token in declared if token is not None)


def _forkable(cache: Any) -> bool:
    """True for caches that only ever append keys and values; others stay with the plain form, said once per class."""
    from transformers.cache_utils import DynamicLayer

    odd = {type(layer).__name__ for layer in getattr(cache, "layers", [None]) if type(layer) is not DynamicLayer}
    if odd and not _warned & odd:
        _warned.update(odd)
        logger.warning(
            "The cache of this model (%s) cannot be shared by answers: each answer is scored by a forward of its own, "
            "which takes several times longer.", ", ".join(sorted(odd)),
        )  # fmt: skip
    return not odd


_warned: set[str] = set()


def _extend(model: Any, prefix: Prefix, cache: Any, rows: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits [r, T, V] of `ids` [r, T], appended to a cache of the prompts `rows`; `mask` [r, S] covers all S >= T
    tokens since the prompt."""
    positions = prefix.next_position[rows, None] + torch.arange(mask.shape[1], device=rows.device)[-ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=torch.cat([prefix.mask[rows], mask], dim=1),
        position_ids=positions.expand(3, -1, -1) if prefix.axes == 3 else positions,
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits


def _distinct(answers: Answers) -> list[tuple[int, tuple[int, ...]]]:
    """(item, answer ids) without repeats, in order."""
    return list(dict.fromkeys((item, tuple(ids)) for item, own in enumerate(answers) for ids in own))


def _arrange(answers: Answers, losses: dict[tuple[int, tuple[int, ...]], float]) -> list[list[AnswerScore]]:
    return [[AnswerScore(losses[item, tuple(ids)], len(ids)) for ids in own] for item, own in enumerate(answers)]


def _right_pad(answers: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask [r, T]; padding follows the answer, so that causal attention never reaches it."""
    lengths = torch.tensor([len(answer) for answer in answers])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(answer) for answer in answers], batch_first=True)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)


def _row_losses(logits: Tensor, labels: Tensor, mask: Tensor) -> list[float]:
    """-log p summed over the scored positions of each row; a row at a time, so that one [T, V] is upcast, not the batch."""
    rows = zip(logits, labels, mask.bool(), strict=True)
    sums = [F.cross_entropy(row[kept].float(), label[kept], reduction="none").double().sum() for row, label, kept in rows]
    return torch.stack(sums).tolist()
