"""Decoding with steps of fixed shape (step.py): on a GPU each is recorded once and played for every token.

A step is kept for batches of as many rows and as large a cache, so items of like length should follow one another. The
cache has room for 64 tokens first, and when that is full for all. Whether all rows have ended is asked
every 16 tokens on a GPU, where asking means waiting; on a CPU after every token, and there finished rows leave.
"""

import logging
from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unlearn.evaluation.prefix import Prefix, extend
from unlearn.evaluation.sampling import Choose, likeliest
from unlearn.evaluation.step import Step
from unlearn.models.compat import attends_by, with_mask

logger = logging.getLogger(__name__)
ROOM, LOOK, KEPT = 64, 16, 2  # tokens of an answer at first, and between looks; steps that are kept
# Model types with a test of their own (tests/unlearn/evaluation/test_generation.py); others are tried once.
TESTED = ("llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "idefics3",
          "smolvlm", "mistral3", "llama", "qwen2", "qwen3", "mistral", "phi3", "gpt2", "gpt_neox")  # fmt: skip


class Steps:
    """The few steps that were used last. Whoever decodes many batches keeps one; it holds their caches."""

    def __init__(self) -> None:
        self.known: OrderedDict[Any, Step] = OrderedDict()

    def take(
        self, model: Any, prefix: Prefix, *, rows: int, size: int, limit: int, choose: Choose, stop_ids: frozenset[int]
    ) -> Step:
        """The step of this shape, made if it is not there; what its tensors hold is left from another batch."""
        layer = prefix.cache.layers[0]
        key = (id(model), prefix.axes, layer.keys.dtype, layer.keys.device, rows, size, limit, choose, stop_ids)
        if key not in self.known:
            while len(self.known) >= KEPT:
                self.known.popitem(last=False)
            make = partial(Step, model, prefix, rows=rows, size=size, limit=limit)
            self.known[key] = make(choose=choose, stop_ids=stop_ids)
        self.known.move_to_end(key)
        return self.known[key]

    def clear(self) -> None:
        """Gives the memory back."""
        self.known.clear()


@torch.no_grad()
def decode_fixed(
    model: Any,
    prefix: Prefix,
    rows: Tensor | None,
    choose: Choose,
    draws: Tensor | None,
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int],
    steps: Steps,
) -> list[list[int]]:
    """What growing.decode_growing says, token for token, by steps of fixed shape; the prefix is left as it was."""
    with with_mask(model.config.get_text_config()):
        return _decode(model, prefix, rows, choose, draws, max_new_tokens, stop_ids, steps)


def _decode(
    model: Any, prefix: Prefix, rows: Tensor | None, choose: Choose, draws: Tensor | None, max_new_tokens: int,
    stop_ids: frozenset[int], steps: Steps,
) -> list[list[int]]:  # fmt: skip
    device, length = prefix.mask.device, prefix.mask.shape[1]
    places = torch.arange(len(prefix.mask) if rows is None else len(rows), device=device)
    said = torch.full((len(places), max_new_tokens), -1, device=device)
    how: dict[str, Any] = {"limit": max_new_tokens, "choose": choose, "stop_ids": stop_ids}
    take = partial(steps.take, model, prefix, **how)
    used, look = 0, LOOK if _records(device) else 1
    step = take(rows=len(places), size=cache_size(length + min(ROOM, max_new_tokens)))
    step.begin(prefix, rows, draws)
    while used + 1 < max_new_tokens and (left := len(places) - int(step.ended.sum())):
        if used == step.size - length:
            step = take(rows=len(places), size=cache_size(length + max_new_tokens)).follow(step)
        elif not _records(device) and 4 * left <= 3 * len(places):
            kept = (~step.ended).nonzero()[:, 0]
            said[places] = step.out
            fewer = Step(model, prefix, rows=left, size=step.size, **how)  # of this batch alone
            step, places = fewer.follow(step, kept), places[kept]
        ahead = min(look, max_new_tokens - 1 - used, step.size - length - used)
        if _records(device) and not step.recorded and ahead == LOOK:  # it takes three steps itself
            _record(step)
        for _ in range(ahead):
            step.play()
        used += ahead
    said[places] = step.out
    return [[token for token in row if token >= 0] for row in said.tolist()]


def why_growing(model: Any, prefix: Prefix, steps: Steps) -> str | None:
    """What about `model` keeps it from steps of fixed shape, or None. A model type without a test of its own is tried
    once against a growing cache."""
    from transformers.cache_utils import StaticCache, StaticLayer

    config = model.config.get_text_config()
    if not prefix.forkable:
        return "its cache cannot be shared"
    layers = StaticCache(config=config, max_cache_len=1).layers
    if len(layers) != len(prefix.cache.layers) or any(type(layer) is not StaticLayer for layer in layers):
        return "its layers keep other than all keys and values"
    if {layer.keys.device for layer in prefix.cache.layers} != {prefix.mask.device}:
        return "it is spread over devices"
    if not (form := attends_by(config)).startswith(("sdpa", "eager", "flash")):
        return f"attention by {form} takes no mask of places"
    kind = model.config.model_type
    if kind in TESTED:
        return None
    if kind not in _other:
        _other[kind] = _difference(model, prefix, steps)
    return _other[kind]


_other: dict[str, str | None] = {}  # by model type without a test: why it is decoded with a growing cache, if it is


def _difference(model: Any, prefix: Prefix, steps: Steps) -> str | None:
    """The second token's log-probability both ways, for the first prompt."""
    row = torch.zeros(1, dtype=torch.long, device=prefix.mask.device)
    try:
        step = steps.take(
            model,
            prefix,
            rows=1,
            size=cache_size(prefix.mask.shape[1] + 1),
            limit=2,
            choose=likeliest,
            stop_ids=frozenset(),
        )
        step.begin(prefix, row, None)
        tokens = step.tokens.clone()
        found = step.step()
    except Exception as error:  # whatever a class of which nothing is known makes of such a cache
        logger.warning("%s models fail with a cache of fixed size", model.config.model_type, exc_info=True)
        return f"a cache of fixed size fails ({type(error).__name__})"
    cache = prefix.fork()
    cache.reorder_cache(row)
    truth = extend(model, prefix, cache, row, tokens, torch.ones_like(tokens))[:, -1]
    likely = truth.argmax(-1, keepdim=True)
    one, other = (torch.log_softmax(logits.float(), -1).gather(-1, likely) for logits in (truth, found))
    tolerance = 1e-3 if prefix.cache.layers[0].keys.dtype == torch.float32 else 0.1
    return None if bool((one - other).abs().max() <= tolerance) else "a cache of fixed size gives other numbers"


def _record(step: Step) -> None:
    """Records, or says why the step is sent kernel by kernel."""
    try:
        step.record()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        logger.warning("A decoding step cannot be recorded (%s); its kernels are sent one by one.", error)
    step.recorded = True


def _records(device: torch.device) -> bool:
    return device.type == "cuda"


def cache_size(tokens: int) -> int:
    """The next multiple of 64: few sizes, and kernels like them."""
    return -(-tokens // 64) * 64
