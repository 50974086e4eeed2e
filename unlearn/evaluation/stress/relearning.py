"""Relearning: how soon a few steps of training bring back what was forgotten, beside the same steps of gold."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.config.settings import LoraSettings
from unlearn.data.collator import Collator, Prompt
from unlearn.data.samples import EvalItem, Sample, SampleSource, draw
from unlearn.distributed.processes import process_state
from unlearn.evaluation.prefix import read_prefix, score_prompts, to_model
from unlearn.evaluation.stress.rows import by_length
from unlearn.evaluation.suite import EvalTask
from unlearn.models.families import decoder
from unlearn.models.lora import prepare_trainable
from unlearn.models.vision import positions
from unlearn.scoring import IGNORE_INDEX
from unlearn.stress_log import Number

SMALL = 300_000_000  # parameters up to which the whole language model is trained
RANK, ALPHA = 8, 16  # of the adapter that larger ones get
ORDER, ROWS = 91, 92  # what is drawn


def relearn(
    model: Any,
    collator: Collator,
    source: SampleSource,
    test: EvalTask,
    *,
    steps: Sequence[int],
    lr: float,
    batch_size: int,
    seed: int,
    rows_per_forward: int,
) -> list[Number]:
    """p = exp(-nats per token) of each exact answer of `test` after each of `steps` steps on `source`.

    AdamW without decay, a fixed rate, batches of `batch_size` in a seeded order, the token mean of the answers'
    cross-entropy. The language model is trained (a fresh adapter where it is large); `model` is left as it was.

    Raises:
        ValueError: a loss or a weight that is not finite.
    """
    numbers = []
    with trainable(model, seed) as student:
        parameters = [p for p in student.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
        batches = seeded_batches(source, batch_size, seed)
        for step in range(steps[-1] + 1):
            if step in steps:
                rows = answer_probabilities(student, collator, test, rows_per_forward)
                numbers.append(Number(test.name, f"step {step}", "p", rows))
            if step < steps[-1]:
                optimizer.zero_grad()
                share_gradients(parameters, batch_loss(student, collator, next(batches)))
                optimizer.step()
    return numbers


@contextmanager
def trainable(model: Any, seed: int) -> Iterator[Any]:
    """The model with its language model to be trained, or an adapter on it; afterwards `model` as it was."""
    model.requires_grad_(False)
    large = sum(p.numel() for p in model.parameters()) > SMALL or model.dtype != torch.float32
    if large:
        torch.manual_seed(seed)
        student = prepare_trainable(model, LoraSettings(r=RANK, alpha=ALPHA), freeze_vision=True, seed=seed)
        try:
            yield student.eval()
        finally:
            student.unload()
        return
    trained = {id(p): p for part in (decoder(model), model.get_output_embeddings()) for p in part.parameters()}
    before = copy.deepcopy({key: p.data for key, p in trained.items()})
    for parameter in trained.values():
        parameter.requires_grad_(True)
    try:
        yield model
    finally:
        model.requires_grad_(False)
        for key, parameter in trained.items():
            parameter.data.copy_(before[key])
            parameter.grad = None


def seeded_batches(source: SampleSource, batch_size: int, seed: int) -> Iterator[list[Sample]]:
    """Batches without end, pass after pass over the rows in seeded orders; a last batch is filled from the next."""
    waiting: list[Sample] = []
    epoch = 0
    while True:
        for index in draw(seed, epoch, ORDER).permutation(len(source)).tolist():
            waiting.append(source.sample(index, draw(seed, epoch, index, ROWS)))
            if len(waiting) == batch_size:
                yield waiting
                waiting = []
        epoch += 1


def batch_loss(model: Any, collator: Collator, samples: Sequence[Sample]) -> Tensor:
    """The share of this process in the token mean of the answers' cross-entropy; the shares add up to the mean."""
    state = process_state()
    rows = [(collator.encode_prompt(one), collator.encode_answer(str(one["answer"]))) for one in samples]
    tokens = sum(len(answer) for _, answer in rows)
    own = rows[state.process_index :: state.num_processes]
    pictured = [row for row in own if row[0].image_inputs]
    texts = [row for row in own if not row[0].image_inputs]
    device = model.get_input_embeddings().weight.device
    loss = torch.zeros((), device=device)
    half = device.type == "cuda" and model.dtype != torch.float32
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        for group in (texts, pictured):
            if group:
                loss = loss + _summed(model, collator, group)
    loss = loss / tokens
    if not math.isfinite(value := loss.item()):
        raise ValueError(f"relearning: the loss of a batch is {value}; lower relearn.lr, or use precision=fp32.")
    return loss


def _summed(model: Any, collator: Collator, rows: Sequence[tuple[Prompt, Sequence[int]]]) -> Tensor:
    """-ln p of all answers, summed."""
    batch = collator.pad(rows)
    inputs, keep = to_model(model, batch["inputs"]), batch["answer_length"]
    places = positions(model, inputs)
    logits = model(**inputs, position_ids=places, use_cache=False, logits_to_keep=keep + 1).logits[:, :-1].float()
    labels = batch["labels"][:, -keep:].to(logits.device)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


def share_gradients(parameters: Sequence[Tensor], loss: Tensor) -> None:
    """Backward, and the sum of the processes' gradients on each."""
    if loss.requires_grad:
        loss.backward()
    state = process_state()
    if state.num_processes > 1:
        import torch.distributed

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)


@torch.no_grad()
def answer_probabilities(model: Any, collator: Collator, task: EvalTask, batch_size: int) -> dict[str, float]:
    """{row: p of its exact answer}, on every process."""
    from accelerate.utils import gather_object

    state = process_state()
    places = by_length(task)
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    own: list[tuple[int, tuple[str, float]]] = []
    for batch in batches[state.process_index :: state.num_processes]:
        items: list[EvalItem] = [task.items[place] for place in batch]
        prompts = [collator.encode_prompt(item.sample) for item in items]
        answers = [[collator.encode_answer(str(item.sample["answer"]))] for item in items]
        prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
        scores = score_prompts(model, collator, prefix, prompts, answers, rows_per_forward=batch_size)
        values = [math.exp(-score.loss / score.tokens) for (score,) in scores]
        own += [(place, (item.row_id, value)) for place, item, value in zip(batch, items, values, strict=True)]
    return dict(value for _, value in sorted(gather_object(own)))
