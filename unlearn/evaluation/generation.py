"""Generation from prompts that a model has read already: the likeliest answer, or many drawn ones."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unlearn.data.collator import Collator
from unlearn.evaluation.growing import decode_growing
from unlearn.evaluation.prefix import Prefix
from unlearn.evaluation.recorded import Steps, decode_fixed, why_growing
from unlearn.evaluation.sampling import Choose, likeliest, sampler, uniforms

logger = logging.getLogger(__name__)
ROWS = 32  # samples that are drawn together


def generate_greedy(
    model: Any, prefix: Prefix, *, max_new_tokens: int, stop_ids: frozenset[int], steps: Steps | None = None
) -> list[list[int]]:
    """The likeliest token after each prompt, again and again, until one of `stop_ids` (kept, last) or `max_new_tokens`.

    Nothing of the model's generation_config is used: no sampling, no repetition penalty. An unforkable prefix is used
    up. `steps` keeps what was recorded for batches to come.
    """
    return _decode(model, prefix, None, likeliest, None, max_new_tokens, stop_ids, steps or Steps())


def generate_sampled(
    model: Any,
    prefix: Prefix,
    row_ids: Sequence[str],
    *,
    samples: int,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int,
    stop_ids: frozenset[int],
    steps: Steps | None = None,
) -> list[list[list[int]]]:
    """[row][sample] -> the tokens of a drawn answer, which ends with one of `stop_ids` (kept) or at `max_new_tokens`.

    Sample j of a row draws from Random(f"{seed}/{row}/{j}"), so it says the same in whatever batch its row is, and
    whatever `samples` is (sampling.py; up to the rounding of logits). The prefix can be used again.

    Raises:
        ValueError: fewer than one sample, not one id for each prompt, or what sampling.sampler refuses.
    """
    choose = sampler(temperature, top_p)
    if samples < 1 or len(row_ids) != len(prefix.mask):
        raise ValueError(f"samples={samples} must be at least 1, and each of {len(prefix.mask)} prompts needs an id.")
    device = prefix.mask.device
    draws = uniforms(row_ids, samples, seed, max_new_tokens).to(device)
    rows = torch.arange(len(row_ids), device=device).repeat_interleave(samples)
    found: list[list[int]] = []
    kept = steps or Steps()
    for mine, own in zip(rows.split(ROWS), draws.split(ROWS), strict=True):
        found += _decode(model, prefix, mine, choose, own, max_new_tokens, stop_ids, kept)
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def _decode(
    model: Any, prefix: Prefix, rows: Tensor | None, choose: Choose, draws: Tensor | None, max_new_tokens: int,
    stop_ids: frozenset[int], steps: Steps,
) -> list[list[int]]:  # fmt: skip
    """By steps of fixed shape where the model allows them, else over a growing cache, said once."""
    reason = why_growing(model, prefix, steps)
    if reason is None:
        return decode_fixed(
            model, prefix, rows, choose, draws, max_new_tokens=max_new_tokens, stop_ids=stop_ids, steps=steps
        )
    if (said := (model.config.model_type, reason)) not in _said:
        _said.add(said)
        logger.warning("%s generates over a cache that grows, one kernel at a time: %s.", *said)
    return decode_growing(model, prefix, rows, choose, draws, max_new_tokens=max_new_tokens, stop_ids=stop_ids)


_said: set[tuple[str, str]] = set()


def stop_token_ids(model: Any, collator: Collator) -> frozenset[int]:
    """The end token of the template, and the end tokens that the checkpoint itself declares."""
    declared = [collator.tokenizer.eos_token_id, collator.template.end_id]
    for config in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        declared += ids if isinstance(ids, (list, tuple)) else [ids]
    return frozenset(token for token in declared if token is not None)
