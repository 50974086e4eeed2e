"""Tasks evaluated as ever, and their logs as numbers per row."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.data.collator import Collator
from unlearn.data.samples import EvalItem
from unlearn.evaluation.suite import EvalTask, evaluate_suite
from unlearn.metrics.choice import contains_name, option_letter
from unlearn.metrics.rouge import rouge_recall
from unlearn.results import read_meta, read_task
from unlearn.stress_log import Number

KINDS = ("p", "ROUGE", "name", "choice")


@dataclass(frozen=True)
class Asked:
    """A task with what is read off its log. `of`: the task whose rows these are, `label`: under which variant.

    Kinds: `p` exp(-nats per token) of the exact answer, `ROUGE` ROUGE-L recall of the generation, `name` whether it
    holds the answer, a name, `choice` whether it takes the right one of the options that were shown.
    """

    task: EvalTask
    of: str
    label: str
    kinds: tuple[str, ...] = ("p", "ROUGE")


def ask(
    model: Any,
    collator: Collator,
    asked: Sequence[Asked],
    *,
    folder: Path,
    batch_size: int,
    max_new_tokens: int,
) -> list[Number]:
    """Evaluates the tasks into `folder` (an evaluation's, which goes on where it was interrupted). Of a row's wrong
    answers the first is scored: no number here is made of them, and they are most of the work."""
    evaluate_suite(
        model, collator, [_slim(one.task) for one in asked], save_dir=folder, batch_size=batch_size,
        max_new_tokens=max_new_tokens, overwrite=False,
    )  # fmt: skip
    return [number for one in asked for number in numbers_of(folder, one)]


def numbers_of(folder: Path, asked: Asked) -> list[Number]:
    """The numbers of one log."""
    log = read_task(folder, asked.task.name)
    rows = list(log["avg_gt_loss"])
    texts = [log["generated_text"][row] for row in rows]
    values: dict[str, list[float]] = {"p": [math.exp(-log["avg_gt_loss"][row]) for row in rows]}
    if "ROUGE" in asked.kinds:
        recall = rouge_recall([text[1] for text in texts], [text[2] for text in texts])["rougeL_recall"]
        values["ROUGE"] = [float(value) for value in recall]
    if "name" in asked.kinds:
        values["name"] = [float(contains_name(text[1], text[2])) for text in texts]
    if "choice" in asked.kinds:
        meta = read_meta(folder)
        assert meta is not None
        facts = meta["tasks"][asked.task.name]["rows"]
        values["choice"] = []
        for row, text in zip(rows, texts, strict=True):
            options = re.findall(r"^[A-Z]\. (.*)$", facts[row]["question"], re.MULTILINE)
            right = chr(ord("A") + options.index(" ".join(text[2].split())))
            values["choice"].append(float(option_letter(text[1], options) == right))
    return [Number(asked.of, asked.label, kind, dict(zip(rows, values[kind], strict=True))) for kind in asked.kinds]


class FewerAnswers(Sequence[EvalItem]):
    """Items with the first of their wrong answers alone."""

    def __init__(self, items: Sequence[EvalItem]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> EvalItem:  # type: ignore[override]  # one row at a time, no slices
        item = self.items[index]
        return dataclasses.replace(item, wrong_answers=item.wrong_answers[:1])


def _slim(task: EvalTask) -> EvalTask:
    return dataclasses.replace(task, items=FewerAnswers(task.items))
