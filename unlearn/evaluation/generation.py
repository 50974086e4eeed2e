"""Greedy generation from prompts that a model has read already."""

from typing import Any

import torch

from unlearn.data.collator import Collator
from unlearn.evaluation.prefix import Prefix, extend


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
        logits = extend(model, prefix, cache, rows, tokens[:, None], mask)[:, -1]
    return generated


def stop_token_ids(model: Any, collator: Collator) -> frozenset[int]:
    """The end token of the template, and the end tokens that the checkpoint itself declares."""
    declared = [collator.tokenizer.eos_token_id, collator.template.end_id]
    for config in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        declared += ids if isinstance(ids, (list, tuple)) else [ids]
    return frozenset(token for token in declared if token is not None)
