"""Decoding over a cache that grows by a token at a time and that finished rows leave: for every kind of cache."""

import copy
from typing import Any

import torch
from torch import Tensor

from unlearn.evaluation.prefix import Prefix, extend
from unlearn.evaluation.sampling import Choose


@torch.no_grad()
def decode_growing(
    model: Any,
    prefix: Prefix,
    rows: Tensor | None,
    choose: Choose,
    draws: Tensor | None,
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int],
) -> list[list[int]]:
    """Token after token behind the prompts `rows` [r] of `prefix` (None: each once, which uses an unforkable prefix
    up), chosen with `draws` [r, max_new_tokens]; a row ends with a stop token, which is kept."""
    if rows is None:
        cache = prefix.fork() if prefix.forkable else prefix.cache
        rows = torch.arange(len(prefix.mask), device=prefix.mask.device)
    else:
        cache = prefix.fork() if prefix.forkable else copy.deepcopy(prefix.cache)
        cache.reorder_cache(rows)
    generated: list[list[int]] = [[] for _ in rows]
    going = torch.arange(len(rows), device=rows.device)
    logits = prefix.logits[rows]
    for step in range(max_new_tokens):
        tokens = choose(logits, None if draws is None else draws[going, step])
        for place, token in zip(going.tolist(), tokens.tolist(), strict=True):
            if not (generated[place] and generated[place][-1] in stop_ids):
                generated[place].append(token)
        left = [i for i, place in enumerate(going.tolist()) if generated[place][-1] not in stop_ids]
        if not left or step + 1 == max_new_tokens:
            break
        if len(left) < len(going) and prefix.forkable:
            kept = torch.tensor(left, device=rows.device)
            cache.batch_select_indices(kept)
            going, tokens = going[kept], tokens[kept]
        mask = torch.ones(len(going), step + 1, dtype=prefix.mask.dtype, device=rows.device)
        logits = extend(model, prefix, cache, rows[going], tokens[:, None], mask)[:, -1]
    return generated
