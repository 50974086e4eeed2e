"""From what a model wrote to the numbers of the four protocols, as published and corrected, side by side."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unlearn.metrics.bleu import bleu
from unlearn.metrics.choice import contains_name, option_letter, published_contains, published_letter
from unlearn.metrics.rouge import rouge_l_f1, rouge_l_f1_unstemmed
from unlearn.results import TaskLog

Texts = Sequence[tuple[str, str]]  # (generation, reference) of each row
Asked = Mapping[str, str]  # row -> question
_OPTION = re.compile(r"(?:^|(?<=[\n ]))([A-Z])\. (.*?)(?=[\n ][A-Z]\. |\n|$)", re.DOTALL)


def share(values: Sequence[bool]) -> float:
    """Of the rows; 0 for none."""
    return float(np.mean(values)) if len(values) else 0.0


def by_published_letter(texts: Texts, questions: Sequence[str]) -> float:
    """Share of rows whose first letter or digit is the right option's. An empty text is wrong."""
    return share([published_letter(text) == right[0] for text, right in texts])


def by_option(texts: Texts, questions: Sequence[str]) -> float:
    """Share of rows that take the right option by our rule (metrics.choice.option_letter)."""
    found = []
    for (text, right), question in zip(texts, questions, strict=True):
        options = [option.strip() for _, option in _OPTION.findall(question)]
        found.append(option_letter(text, options) == right[0])
    return share(found)


def by_published_name(texts: Texts, questions: Sequence[str]) -> float:
    """Share of rows that hold the name, as a substring of ASCII letters and digits."""
    return share([published_contains(text, name) for text, name in texts])


def by_name(texts: Texts, questions: Sequence[str]) -> float:
    """Share of rows that hold the words of the name in a row."""
    return share([contains_name(text, name) for text, name in texts])


Rule = Callable[[Texts, Sequence[str]], float]
CHOICES: dict[str, tuple[str, Rule, Rule, tuple[str, ...]]] = {  # protocol: tasks, published and our rule, sets
    "vqa+qa": ("vqa", by_published_letter, by_option, ("forget", "retain", "faces", "world")),
    "mip": ("mip", by_option, by_option, ("forget", "retain")),
}
Both = dict[str, float | None]


def protocol_numbers(logs: Mapping[str, TaskLog], questions: Mapping[str, Asked]) -> dict[str, dict[str, Both]]:
    """protocol -> number -> {"as_published", "corrected"}; None where the published code has no such number.

    Args:
        logs: by task name (protocol_rows), as the evaluation wrote them; questions: of each row, from eval_meta.json.
    """

    def score(task: str, rule: Rule) -> float:
        rows = list(logs[task]["generated_text"])
        texts = [(logs[task]["generated_text"][row][1], logs[task]["generated_text"][row][2]) for row in rows]
        return rule(texts, [questions[task][row] for row in rows])

    found: dict[str, dict[str, Both]] = {}
    for name, (prefix, published, ours, sets) in CHOICES.items():
        found[name] = {
            f"{part} accuracy": {
                "as_published": score(f"{prefix}_{part}_published", published),
                "corrected": score(f"{prefix}_{part}_corrected", ours),
            }
            for part in sets
        }
    found["kvw"] = {
        "forget accuracy": {
            "as_published": score("kvw_forget", by_published_name), "corrected": score("kvw_forget", by_name),
        },
        "retain accuracy": {"as_published": None, "corrected": score("kvw_retain", by_name)},  # their call crashes
        **{f"{part} accuracy": found["vqa+qa"][f"{part} accuracy"] for part in ("faces", "world")},
    }  # fmt: skip
    for name, group, rouge in (("vqa+qa", "texts", rouge_l_f1), ("mip", "long", rouge_l_f1_unstemmed)):
        found[name] |= _texts(logs, group, rouge, qa_published=group == "long")
    return found


def _texts(logs: Mapping[str, TaskLog], group: str, rouge: Any, *, qa_published: bool) -> dict[str, Both]:
    """ROUGE-L F1 and BLEU of captions and QA. MMUnlearner's loop over QA scores the last caption instead."""
    found: dict[str, Both] = {}
    for task, log in logs.items():
        if task.startswith(f"{group}_"):
            _, part, kind = task.split("_")
            cells = list(log["generated_text"].values())
            texts = [cell[1] for cell in cells], [cell[2] for cell in cells]
            for metric, function in (("ROUGE-L F1", rouge), ("BLEU", bleu)):
                value = float(function(*texts).mean())
                published = value if kind == "captions" or qa_published else None
                found[f"{part} {kind} {metric}"] = {"as_published": published, "corrected": value}
    return found
