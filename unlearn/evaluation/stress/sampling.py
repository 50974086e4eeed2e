"""leak@k: whether one of many samples says what the greedy answer does not."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.generation import generate_greedy, generate_sampled, stop_token_ids
from unlearn.evaluation.prefix import read_prefix
from unlearn.evaluation.stress.rows import measure_rows
from unlearn.evaluation.suite import EvalTask
from unlearn.metrics.choice import contains_name
from unlearn.metrics.leak import leak_at_k
from unlearn.metrics.rouge import rouge_recall
from unlearn.stress_log import Number

GREEDY = "greedy"


def text_values(kind: str, texts: Sequence[str], answer: str) -> list[float]:
    """What each generated text gives away of the answer: `name` 1 where it holds it, `ROUGE` its ROUGE-L recall."""
    if kind == "name":
        return [float(contains_name(text, answer)) for text in texts]
    return [float(value) for value in rouge_recall(texts, [answer] * len(texts))["rougeL_recall"]]


def leak(
    model: Any,
    collator: Collator,
    task: EvalTask,
    kind: str,
    *,
    ks: Sequence[int],
    samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
    folder: Path,
    key: str,
) -> list[Number]:
    """Per row the greedy answer's value and leak@k of `samples` seeded samples, for each k."""

    def measure(items: list[EvalItem]) -> list[list[float]]:
        prompts = [collator.encode_prompt(item.sample) for item in items]
        prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"])
        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "stop_ids": stop_token_ids(model, collator)}
        rows = [item.row_id for item in items]
        sampled = generate_sampled(
            model, prefix, rows, samples=samples, seed=seed, temperature=temperature, top_p=top_p, **how
        )
        greedy = generate_greedy(model, prefix, **how)
        return [
            text_values(kind, texts_of(collator, [first, *others]), str(item.sample["answer"]))
            for item, first, others in zip(items, greedy, sampled, strict=True)
        ]

    values = measure_rows(task, measure, folder=folder, key=key, batch_size=batch_size)
    numbers = [Number(task.name, GREEDY, kind, {row: own[0] for row, own in values.items()})]
    for k in ks:
        numbers.append(Number(task.name, f"k={k}", kind, {row: leak_at_k(own[1:], k) for row, own in values.items()}))
    return numbers


def texts_of(collator: Collator, generated: Sequence[Sequence[int]]) -> list[str]:
    """Generated ids as texts, without the marks of the end."""
    decode: Callable[..., str] = collator.tokenizer.decode
    return [decode(ids, skip_special_tokens=True).strip() for ids in generated]
