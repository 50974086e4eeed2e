"""What is measured of one batch of evaluation items, and how rows become a task's log.

A `Row` is everything known of one item as plain JSON: losses in nats, texts, and what the questions were. The log keeps
the published schema; its numbers are functions of the row alone, so nothing here depends on the order of rows.
"""

import hashlib
import io
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from unlearn.data.collator import Collator, Prompt
from unlearn.data.samples import EvalItem
from unlearn.evaluation.eco import Eco
from unlearn.evaluation.generation import generate_greedy, stop_token_ids
from unlearn.evaluation.prefix import AnswerScore, read_prefix, score_prompts
from unlearn.evaluation.recorded import Steps
from unlearn.metrics.rouge import rouge_recall
from unlearn.results import COMPARED, RowMeta, TaskLog
from unlearn.token_log import TokenRow

THUMBNAIL_PIXELS = 128
EXP_LIMIT = 700.0  # the largest exponent whose exp is a finite double, rounded down


class Row(TypedDict):
    """One measured item. `exact`, `base` and each of `wrong` are (nats of the whole answer, its tokens); `by_token`:
    the tokens of the exact answer, where they were asked for."""

    row_id: str
    exact: tuple[float, int]
    base: tuple[float, int]
    wrong: list[tuple[float, int]]
    prompt: str
    generation: str
    generation_tokens: int
    meta: RowMeta
    seconds: float
    by_token: NotRequired[TokenRow]


@dataclass(frozen=True)
class Prepared:
    """All of a batch that needs no model: its items encoded, what the rows will say of them, their thumbnails written.
    Everything that opens a picture is here, so that one thread alone does it."""

    task: str
    items: list[EvalItem]
    prompts: list[Prompt]
    answers: list[list[list[int]]]  # [item][exact, base, *wrong] -> token ids
    rendered: list[str]
    meta: list[RowMeta]

    def __len__(self) -> int:
        return len(self.items)

    def part(self, start: int, stop: int) -> "Prepared":
        """Some of its items."""
        lists = {field.name: getattr(self, field.name)[start:stop] for field in fields(self) if field.name != "task"}
        return replace(self, **lists)


def prepare_batch(collator: Collator, items: Iterable[EvalItem], *, task: str, folder: Path) -> Prepared:
    """Encodes `items`; pictures go as thumbnails under `folder`.

    Raises:
        ValueError: an item that does not fit `max_length` or has no wrong answer; it is named.
    """
    items = list(items)
    prompts = [collator.encode_prompt(item.sample) for item in items]
    texts = [[str(item.sample["answer"]), item.base_answer, *item.wrong_answers] for item in items]
    answers = [[collator.encode_answer(text) for text in own] for own in texts]
    for item, prompt, own in zip(items, prompts, answers, strict=True):
        _check_item(task, item, len(prompt.ids), max(map(len, own)), collator.max_length)
    rendered = ["".join(collator.template.prompt(item.sample)) for item in items]
    return Prepared(task, items, prompts, answers, rendered, [_meta(item, folder) for item in items])


def measure_prepared(
    model: Any, collator: Collator, batch: Prepared, *, max_new_tokens: int, began: float, token_scores: bool = False,
    steps: Steps | None = None,
    eco: Eco | None = None,
) -> list[Row]:  # fmt: skip
    """Scores every answer of a batch (with `token_scores` also each token of the exact ones) and generates after its
    prompts, with the decoding `steps` of the batches before. The seconds of its rows count from `began` (perf_counter).
    With `eco` the prompts that it flags are read disturbed, and each row's meta says whether it was.

    Raises:
        ValueError: a loss that is not finite; its item is named.
    """
    scores, generated = _run_model(model, collator, batch, max_new_tokens, token_scores, steps, eco)
    stop = stop_token_ids(model, collator)
    seconds = (time.perf_counter() - began) / len(batch)
    return [
        _row(batch, place, own, tokens, collator, stop, seconds)
        for place, (own, tokens) in enumerate(zip(scores, generated, strict=True))
    ]


def measure_batch(
    model: Any, collator: Collator, items: Sequence[EvalItem], *, task: str, max_new_tokens: int, folder: Path
) -> list[Row]:
    """`prepare_batch` and `measure_prepared`, one after the other."""
    began = time.perf_counter()
    batch = prepare_batch(collator, items, task=task, folder=folder)
    return measure_prepared(model, collator, batch, max_new_tokens=max_new_tokens, began=began)


def _run_model(
    model: Any,
    collator: Collator,
    batch: Prepared,
    max_new_tokens: int,
    token_scores: bool,
    steps: Steps | None,
    eco: Eco | None,
) -> tuple[list[list[AnswerScore]], list[list[int]]]:
    """One prefill; scores from its cache where the cache allows it, plain forwards elsewhere; then greedy
    generation."""
    prompts, answers = batch.prompts, batch.answers
    questions = [item.sample["question"] for item in batch.items]
    disturbed = None if eco is None else eco.disturbed(model, collator, prompts, questions)
    for meta, which in zip(batch.meta, disturbed.which if disturbed else (), strict=False):
        meta["flagged"] = which
    # answers of up to two batches: enough to fill a GPU, and the memory follows batch_size
    how: dict[str, Any] = {"rows_per_forward": max(8, 2 * len(prompts)), "disturbed": disturbed}
    how["by_token"] = [own[:1] for own in answers] if token_scores else []
    prefix = read_prefix(model, collator.pad([(prompt, ()) for prompt in prompts])["inputs"], disturbed)
    scores = score_prompts(model, collator, prefix, prompts, answers, **how)
    stop = stop_token_ids(model, collator)
    return scores, generate_greedy(model, prefix, max_new_tokens=max_new_tokens, stop_ids=stop, steps=steps)


def _check_item(task: str, item: EvalItem, prompt: int, answer: int, limit: int) -> None:
    if item.compared and not item.wrong_answers:
        raise ValueError(f"{task}, row {item.row_id}: no wrong answer to compare with; choose a column that has some.")
    if prompt + answer > limit:
        raise ValueError(
            f"{task}, row {item.row_id}: {prompt + answer} tokens ({prompt} prompt and image, {answer} longest "
            f"answer) are more than max_length={limit}; raise max_length (answers and image tokens are never cut)."
        )


def _meta(item: EvalItem, folder: Path) -> RowMeta:
    """What a row says of its item, whatever a model makes of it."""
    sample = item.sample
    listed = {"keywords": list(item.keywords)} if item.keywords else {}
    return RowMeta(
        question=sample["question"], answer=str(sample["answer"]), base_answer=item.base_answer,
        wrong_answers=list(item.wrong_answers), author=item.author, thumbnail=_thumbnail(sample["image"], folder),
        picture=_picture(sample["image"]),
        wrong_equals_right=[_same(wrong, item) for wrong in item.wrong_answers],
        **listed,  # type: ignore[typeddict-item]
    )  # fmt: skip


def _row(
    batch: Prepared, place: int, scores: list[AnswerScore], tokens: list[int], collator: Collator, stop: frozenset[int],
    seconds: float,
) -> Row:  # fmt: skip
    item = batch.items[place]
    for name, score in zip(["exact answer", "base answer", *item.wrong_answers], scores, strict=True):
        if not math.isfinite(score.loss):
            raise ValueError(
                f"{batch.task}, row {item.row_id}: the loss of {name!r} is {score.loss}. The checkpoint is broken, or "
                "its number format overflows: evaluate with precision=fp32, or check how it was trained."
            )
    text = tokens[:-1] if tokens[-1] in stop else tokens
    exact, base, *wrong = [(score.loss, score.tokens) for score in scores]
    row = Row(
        row_id=item.row_id, exact=exact, base=base, wrong=wrong,
        prompt=batch.rendered[place],
        generation=collator.tokenizer.decode(text, skip_special_tokens=True).strip(),
        generation_tokens=len(tokens),
        meta=batch.meta[place],
        seconds=seconds,
    )  # fmt: skip
    if (tokens_of_exact := scores[0].by_token) is not None:
        row["by_token"] = cast(TokenRow, asdict(tokens_of_exact))
    return row


def _same(wrong: str, item: EvalItem) -> bool:
    """Whether a wrong answer says what the exact or the base answer says, whatever its spacing and case."""
    right = {" ".join(text.split()).casefold() for text in (str(item.sample["answer"]), item.base_answer)}
    return " ".join(wrong.split()).casefold() in right


def _picture(image: Any) -> str | None:
    """Identity of a picture by its size and pixels, whatever the file it came from."""
    if image is None:
        return None
    pixels = image.convert("RGB")
    return hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()[:16]


def _thumbnail(image: Any, folder: Path) -> str | None:
    """Writes a small JPEG named by its content (tasks share pictures) and returns its path relative to `folder`."""
    if image is None:
        return None
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    small.save(buffer := io.BytesIO(), "JPEG", quality=80)
    name = f"thumbnails/{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.jpg"
    if not (folder / name).exists():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{name}.{os.getpid()}"
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, folder / name)
    return name


def task_log(task: str, rows: Sequence[Row]) -> TaskLog:
    """The published per-task schema from measured rows, in their order; a task without wrong answers lacks what needs
    them. Recall of every generation is filled in."""
    log: dict[str, dict[str, Any]] = {key: {} for key in TaskLog.__annotations__}
    # as the released code scores them; the leaderboard takes its own from the texts
    recalls = rouge_recall([row["generation"] for row in rows], [row["meta"]["answer"] for row in rows], unicode=False)
    compared = any(row["wrong"] for row in rows)
    multiple_choice = compared and "eval_log" not in task  # the published name rule
    for key in (*COMPARED * (not compared), *["normalized_gt_loss"] * (not multiple_choice)):
        del log[key]
    for place, row in enumerate(rows):
        exact, base, *wrong = [loss / tokens for loss, tokens in (row["exact"], row["base"], *row["wrong"])]
        facts: dict[str, Any] = {
            "avg_gt_loss": exact, "gt_loss": row["exact"][0], "num_token_gt": row["exact"][1],
            "avg_paraphrased_loss": base, "paraphrased_loss": row["base"][0], "num_token_paraphrased": row["base"][1],
            "generated_text": [row["prompt"], row["generation"], row["meta"]["answer"]],
            "rouge1_recall": float(recalls["rouge1_recall"][place]),
            "rougeL_recall": float(recalls["rougeL_recall"][place]),
        }  # fmt: skip
        if compared:
            facts |= {
                "average_perturb_loss": wrong,
                "perturb_loss": [loss for loss, _ in row["wrong"]],
                "num_token_perturb": [tokens for _, tokens in row["wrong"]],
                "truth_ratio": math.exp(min(base - float(np.mean(wrong)), EXP_LIMIT)),
            }
        if multiple_choice:  # -ln(p / (p + sum of wrong p)), p = exp(-nats per token), in log space
            facts["normalized_gt_loss"] = exact + float(np.logaddexp.reduce([-exact, *(-loss for loss in wrong)]))
        for key, value in facts.items():
            log[key][row["row_id"]] = value
    return log  # type: ignore[return-value]
