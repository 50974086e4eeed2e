"""Shared-prefix evaluation: a prompt and its image go through the model once, every answer continues from that state.

Scoring the exact, base and wrong answers, and then generating, costs the answers' tokens alone: each forward over
answers sees the prompts' keys and values, repeated one layer at a time, and leaves them as they were
(docs/performance.md).

Logits exist for answer positions only; log-softmax is taken in fp32, sums in fp64. All losses are nats.
"""

import copy
import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn.data.collator import Collator, Prompt
from unlearn.evaluation.branches import branch_layer
from unlearn.evaluation.corruption import Disturbed
from unlearn.evaluation.scores import AnswerScore, TokenScores, row_losses, token_scores
from unlearn.models.vision import TESTED, positions

logger = logging.getLogger(__name__)
Answers = Sequence[Sequence[Sequence[int]]]  # [item][answer] -> token ids, the end token last
Job = tuple[int, tuple[int, ...]]  # an answer to a prompt: (item, token ids)


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

    def fork(self) -> Any:
        """A cache that grows with a generation; the prompts' tensors are shared until a layer appends to them."""
        return self._with_layers(copy.copy)

    def branches(self, rows: list[int]) -> Any:
        """A cache for one forward over answers to the prompts `rows` (sorted, repeats allowed)."""
        counts = Counter(rows)
        return self._with_layers(lambda layer: branch_layer()(layer, counts))

    def _with_layers(self, make: Callable[[Any], Any]) -> Any:
        cache = copy.copy(self.cache)
        cache.layers = [make(layer) for layer in self.cache.layers]
        return cache


@torch.no_grad()
def read_prefix(model: Any, inputs: dict[str, Tensor], disturbed: Disturbed | None = None) -> Prefix:
    """Runs the prompts of a collated batch (`Collator.pad` with empty answers), images included, through the model
    once; those that `disturbed` says with other embeddings."""
    inputs = to_model(model, inputs)
    places = positions(model, inputs)
    seen = inputs if disturbed is None else disturbed.inputs(model, inputs)
    output = model(**seen, position_ids=places, use_cache=True, logits_to_keep=1)
    last = places.amax(-1)  # the last prompt token is text: all axes agree on it, and it is the largest
    return Prefix(
        cache=output.past_key_values,
        mask=inputs["attention_mask"],
        logits=output.logits[:, -1].to(places.device),
        next_position=(last.amax(0) if last.ndim == 2 else last) + 1,
        axes=3 if places.ndim == 3 else 1,
        forkable=_forkable(output.past_key_values),
    )


@torch.no_grad()
def score_answers(
    model: Any, prefix: Prefix, answers: Answers, *, rows_per_forward: int, by_token: Answers = ()
) -> list[list[AnswerScore]]:
    """The score of every answer of every prompt, in the shape of `answers` (ragged is fine), from a forkable prefix.

    Answers of equal ids after the same prompt are scored once; at most `rows_per_forward` answers go together. Those of
    them that are in `by_token` too have the scores of their tokens, from the same forward.
    """
    first = torch.log_softmax(prefix.logits.float(), dim=-1)
    jobs, wanted = _distinct(answers), set(_distinct(by_token))
    heads = first[[item for item, _ in jobs], [ids[0] for _, ids in jobs]].tolist()
    losses = {job: -head for job, head in zip(jobs, heads, strict=True)}
    single = [job for job in jobs if job in wanted and len(job[1]) == 1]
    tokens = {job: token_scores(prefix.logits[job[0]][None], job[1]) for job in single}
    longer = sorted((job for job in jobs if len(job[1]) > 1), key=lambda job: len(job[1]))
    for start in range(0, len(longer), rows_per_forward):
        chunk = sorted(longer[start : start + rows_per_forward])
        items = [item for item, _ in chunk]
        rows = torch.tensor(items, device=prefix.mask.device)
        ids, mask = _right_pad([answer for _, answer in chunk], rows.device)
        logits = extend(model, prefix, prefix.branches(items), rows, ids[:, :-1], mask[:, :-1])
        spans = [slice(len(answer) - 1) for _, answer in chunk]
        for job, loss in zip(chunk, row_losses(logits, ids[:, 1:], spans), strict=True):
            losses[job] += loss
        for job, row, span in zip(chunk, logits, spans, strict=True):
            if job in wanted:
                tokens[job] = token_scores(torch.cat([prefix.logits[job[0]][None], row[span]]), job[1])
    return _arrange(answers, losses, tokens)


@torch.no_grad()
def score_plain(
    model: Any,
    collator: Collator,
    prompts: Sequence[Prompt],
    answers: Answers,
    *,
    rows_per_forward: int,
    by_token: Answers = (),
    disturbed: Disturbed | None = None,
) -> list[list[AnswerScore]]:
    """The same scores by one whole forward per answer: for models whose cache cannot be forked, and the truth in
    tests."""
    losses: dict[Job, float] = {}
    tokens: dict[Job, TokenScores] = {}
    wanted = set(_distinct(by_token))
    jobs = sorted(_distinct(answers), key=lambda job: len(prompts[job[0]].ids) + len(job[1]))
    for start in range(0, len(jobs), rows_per_forward):
        chunk = jobs[start : start + rows_per_forward]
        batch = collator.pad([(prompts[item], ids) for item, ids in chunk])
        inputs = to_model(model, batch["inputs"])
        keep = batch["answer_length"]
        places = positions(model, inputs)
        if disturbed is not None:
            own = disturbed.of([item for item, _ in chunk])
            inputs = own.inputs(model, inputs, [len(ids) for _, ids in chunk])
        logits = model(**inputs, position_ids=places, use_cache=False, logits_to_keep=keep + 1).logits[:, :-1]
        labels = batch["labels"][:, -keep:].to(logits.device)
        spans = [slice(keep - len(ids), keep) for _, ids in chunk]
        losses |= dict(zip(chunk, row_losses(logits, labels, spans), strict=True))
        for job, row, span in zip(chunk, logits, spans, strict=True):
            if job in wanted:
                tokens[job] = token_scores(row[span], job[1])
    return _arrange(answers, losses, tokens)


def score_tokens(model: Any, prefix: Prefix, answers: Answers, *, rows_per_forward: int) -> list[list[TokenScores]]:
    """The scores of every token of every answer, in the shape of `answers`, from a forkable prefix."""
    scores = score_answers(model, prefix, answers, rows_per_forward=rows_per_forward, by_token=answers)
    return _by_token(scores)


def score_tokens_plain(
    model: Any, collator: Collator, prompts: Sequence[Prompt], answers: Answers, *, rows_per_forward: int
) -> list[list[TokenScores]]:
    """The same where the cache cannot be forked: one whole forward per answer."""
    scores = score_plain(model, collator, prompts, answers, rows_per_forward=rows_per_forward, by_token=answers)
    return _by_token(scores)


@torch.no_grad()
def score_prompts(
    model: Any,
    collator: Collator,
    prefix: Prefix,
    prompts: Sequence[Prompt],
    answers: Answers,
    *,
    rows_per_forward: int,
    by_token: Answers = (),
    disturbed: Disturbed | None = None,
) -> list[list[AnswerScore]]:
    """The scores by the shared prefix where it serves, by plain forwards elsewhere. A family without a test of its own
    is scored both ways once; if the two differ, the plain form stays, said once."""
    kind = model.config.model_type
    plain = functools.partial(score_plain, model, collator, prompts, answers, by_token=by_token, disturbed=disturbed)
    if not prefix.forkable or _agrees.get(kind) is False:
        return plain(rows_per_forward=len(prompts))
    shared = score_answers(model, prefix, answers, rows_per_forward=rows_per_forward, by_token=by_token)
    if collator.pictures is None or kind in TESTED or _agrees.get(kind):
        return shared
    whole = plain(rows_per_forward=len(prompts))
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1  # nats per token; half precision rounds in another order
    pairs = zip(sum(shared, []), sum(whole, []), strict=True)
    _agrees[kind] = all(abs(one.loss - other.loss) <= tolerance * one.tokens for one, other in pairs)
    if not _agrees[kind]:
        logger.warning("%s models score otherwise from a shared prefix: each answer has a forward of its own", kind)
    return shared if _agrees[kind] else whole


def extend(model: Any, prefix: Prefix, cache: Any, rows: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits [r, T, V] of `ids` [r, T], appended to a cache of the prompts `rows`; `mask` [r, S] covers all S >= T
    tokens since the prompt."""
    places = prefix.next_position[rows, None] + torch.arange(mask.shape[1], device=rows.device)[-ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=torch.cat([prefix.mask[rows], mask], dim=1),
        position_ids=places.expand(3, -1, -1) if prefix.axes == 3 else places,
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits.to(ids.device)  # a model spread over devices leaves them on its last one


def to_model(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs on the device of the model's embeddings, pictures in the model's float type."""
    device = model.get_input_embeddings().weight.device
    return {
        name: value.to(device, model.dtype if value.is_floating_point() else None) for name, value in inputs.items()
    }


def _forkable(cache: Any) -> bool:
    """True for caches that only ever append keys and values; others stay with the plain form, said once per class."""
    from transformers.cache_utils import DynamicLayer

    odd = {type(layer).__name__ for layer in getattr(cache, "layers", [None]) if type(layer) is not DynamicLayer}
    if odd and not _warned & odd:
        _warned.update(odd)
        logger.warning(
            "The cache of this model (%s) cannot be shared by answers: each answer is scored by a forward of its own, "
            "which takes several times longer.", ", ".join(sorted(odd)))  # fmt: skip
    return not odd


_warned: set[str] = set()
_agrees: dict[str, bool] = {}  # by model type, of those without a test


def _distinct(answers: Answers) -> list[Job]:
    """(item, answer ids) without repeats, in order."""
    return list(dict.fromkeys((item, tuple(ids)) for item, own in enumerate(answers) for ids in own))


def _arrange(answers: Answers, losses: dict[Job, float], tokens: dict[Job, TokenScores]) -> list[list[AnswerScore]]:
    jobs = [[(item, tuple(ids)) for ids in own] for item, own in enumerate(answers)]
    return [[AnswerScore(losses[job], len(job[1]), tokens.get(job)) for job in own] for own in jobs]


def _by_token(scores: list[list[AnswerScore]]) -> list[list[TokenScores]]:
    return [[score.by_token for score in own if score.by_token is not None] for own in scores]


def _right_pad(answers: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask [r, T]; padding follows the answer, so that causal attention never reaches it."""
    lengths = torch.tensor([len(answer) for answer in answers])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(answer) for answer in answers], batch_first=True)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)
