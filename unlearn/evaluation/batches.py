"""How many items go together: as many as asked for, or as fit (`auto`), and half as many where memory runs out.

No number of a log depends on it beyond rounding: an item's rows are its own. Items of like length share a batch, the
longest first, so that what does not fit shows at once.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from unlearn.data.collator import Collator, Prompt
from unlearn.data.samples import EvalItem
from unlearn.evaluation.measure import Prepared, Row
from unlearn.evaluation.recorded import KEPT, Steps, cache_size

logger = logging.getLogger(__name__)
ON_CPU = {True: 8, False: 32}  # items with pictures, and without
MOST = 64  # on a GPU: beyond it a decoded token costs as much an item
SHARE, MARGIN = 0.85, 1.25  # of free memory that is planned with; what an item takes beyond what is counted


def lengths_of(items: Sequence[EvalItem], given: Sequence[int] | None) -> list[int]:
    """The rough cost of each item, as given or asked of the items, which opens every picture."""
    places = range(len(items))  # asked by number: a lazy sequence need not know where to stop
    return [_length(items[place]) for place in places] if given is None else list(given)


def cut(lengths: Sequence[int], size: int, done: set[int]) -> list[list[int]]:
    """Places of like length together, the longest first, without those `done`."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    left = [[place for place in batch if place not in done] for batch in batches]
    return [batch for batch in left if batch]


def items_together(
    asked: int | str, model: Any, collator: Collator, max_new_tokens: int, task: str, items: Sequence[EvalItem],
    lengths: Sequence[int],
) -> int:  # fmt: skip
    """The number asked for; `auto` is as many as fit by a task's longest item, logged with its reason. The least of all
    processes' numbers."""
    from accelerate.utils import gather_object

    if asked != "auto":
        return int(asked)
    longest = items[max(range(len(lengths)), key=lambda place: lengths[place])]
    device = model.get_input_embeddings().weight.device
    if device.type != "cuda":
        size = ON_CPU[longest.sample["image"] is not None]
        why = "a fixed number on a CPU"
    else:
        prompt = collator.encode_prompt(longest.sample)
        texts = [str(longest.sample["answer"]), longest.base_answer, *longest.wrong_answers]
        answer = max(len(collator.encode_answer(text)) for text in texts)
        free, item = free_memory(device), item_bytes(model, prompt, answer, max_new_tokens)
        size = fitting(free, item)
        why = f"{free / 2**30:.1f} GiB free, {item / 2**30:.2f} GiB an item of {len(prompt.ids)} tokens"
    size = min(gather_object([size]))
    logger.info("%s: batch_size=auto is %d (%s)", task, size, why)
    return size


def fitting(free: float, item: float) -> int:
    """The largest power of two, 1 to MOST, of items of `item` bytes within SHARE of `free` bytes."""
    return 2 ** int(math.log2(min(max(SHARE * free / item, 1), MOST)))


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that nothing holds, those that torch keeps in reserve included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def item_bytes(model: Any, prompt: Prompt, answer: int, max_new_tokens: int) -> float:
    """What one item takes at the peak, by the model's shape: keys and values of its prompt and of the steps that decode
    it; a block's inside and a picture's way through the tower; logits of the two answers scored beside it."""
    text, size, length = model.config.get_text_config(), model.dtype.itemsize, len(prompt.ids)
    steps = KEPT * cache_size(length + max_new_tokens)
    cache = (length + steps) * token_bytes(text, size)
    block = length * (8 * text.hidden_size + 4 * _of(text, "intermediate_size", 4 * text.hidden_size)) * size
    scored = 2 * (length + answer) * 2 * text.hidden_size * size  # one layer's keys and values, repeated for each head
    logits = 2 * answer * text.vocab_size * (size + 8)  # and in fp32, and their log-softmax
    return MARGIN * (cache + max(block, scored + logits, _tower(model.config, prompt, size)))


def token_bytes(text: Any, size: int) -> int:
    """Keys and values of one token in all layers, at `size` bytes a number."""
    heads = text.num_attention_heads
    head = _of(text, "head_dim", text.hidden_size // heads)
    return 2 * text.num_hidden_layers * _of(text, "num_key_value_heads", heads) * head * size


def _tower(config: Any, prompt: Prompt, size: int) -> float:
    """A picture's patches inside one block of the tower, and after each of them."""
    vision, pixels = getattr(config, "vision_config", None), prompt.image_inputs.get("pixel_values")
    if vision is None or pixels is None:
        return 0
    patch = _of(vision, "patch_size", 14)
    width = _of(vision, "embed_dim", _of(vision, "hidden_size", 1024))  # Qwen2-VL's hidden_size is the language's
    patches = pixels.numel() / (3 * patch**2 * _of(vision, "temporal_patch_size", 1))
    depth = _of(vision, "depth", _of(vision, "num_hidden_layers", 24))
    return patches * (10 * width + 4 * _of(vision, "intermediate_size", 4 * width) + depth * width) * size


def _of(config: Any, name: str, otherwise: int) -> int:
    value = getattr(config, name, None)
    return otherwise if value is None else int(value)


def _length(item: EvalItem) -> int:
    sample = item.sample
    return 10**6 * (sample["image"] is not None) + len(sample["question"]) + len(str(sample["answer"]))


class InParts:
    """Measures batches, from the first that does not fit on in parts of half its items; each halving is said once."""

    def __init__(self, measure: Callable[..., list[Row]], steps: Steps) -> None:
        self.measure, self.steps = measure, steps
        self.most: int | None = None

    def __call__(self, batch: Prepared, *, began: float) -> list[Row]:
        """The rows of a batch.

        Raises:
            torch.OutOfMemoryError: one item alone does not fit.
        """
        rows: list[Row] = []
        while len(rows) < len(batch):
            part = batch.part(len(rows), len(rows) + (self.most or len(batch)))
            try:
                rows += self.measure(part, began=began, steps=self.steps)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    error.add_note(f"{batch.task}: one item alone does not fit; try precision=bf16 or quantization.")
                    raise
                self.most = (len(part) + 1) // 2
                logger.warning(
                    "%s: %d items do not fit in memory; going on with %d at a time. batch_size=%d avoids the attempt.",
                    batch.task, len(part), self.most, self.most)  # fmt: skip
            else:
                began = time.perf_counter()
                continue
            self.steps.clear()  # here the failed attempt holds nothing any more
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return rows
