"""Answers that the original model writes before training: what it is asked for each, and the file that keeps them.

`<save_dir>/answers_<view>.jsonl` holds the recipe in its first line, then a line for each answer: the row's id, the
question where it is not the row's own, and the answer. The recipe says all that the answers follow from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from unlearn import ROOT
from unlearn.atomic import write_text
from unlearn.data.samples import read_lines
from unlearn.method import View

WRITTEN = ("alternate", "anchor", "corrupted")
BANK = ROOT / "data" / "anchor_questions.txt"
LEAST = 8  # questions of the bank
ALTERNATE = (
    "{question}\n\nOne answer to this is: {answer}\n\nGive another plausible answer of the same form and about the "
    "same length, with different facts. Write only the answer."
)


class Answer(NamedTuple):
    """`question` is "" where it is the row's own."""

    question: str
    text: str


Answers = list[list[Answer]]  # by row of the forget split


@dataclass(frozen=True)
class Recipe:
    """How the answers of a view are made.

    Args:
        prompt: what the model is asked; {question} and {answer} are the row's.
        temperature: 0 is the likeliest answer.
        answers: so many for each row (and for each of `questions`, asked in place of the row's, that is answered by
            anything but the true answer).
        corrupted: whether the prompt's embeddings are disturbed (evaluation/corruption.py, its defaults).
    """

    prompt: str = "{question}"
    temperature: float = 0.0
    max_new_tokens: int = 200
    answers: int = 1
    corrupted: bool = False
    questions: tuple[str, ...] = ()


def recipe_of(view: View) -> Recipe | None:
    """None for a view that nobody writes. ValueError for a bank of questions that is missing or too small."""
    if view.name == "alternate":
        return Recipe(prompt=ALTERNATE, temperature=1.0, answers=view.written)
    if view.name == "corrupted":
        return Recipe(corrupted=True)
    return Recipe(questions=tuple(read_bank(view.text or BANK))) if view.name == "anchor" else None


def read_bank(path: str | Path) -> list[str]:
    """The identity-free questions of a text file, one a line. ValueError for fewer than 8 different ones."""
    lines = list(dict.fromkeys(read_lines(path)))
    if len(lines) < LEAST:
        raise ValueError(f"{path} holds {len(lines)} different questions; at least {LEAST} are needed.")
    return lines


def recipes(views: Sequence[View]) -> dict[str, dict[str, Any]]:
    """What of these views' answers is decided by the code and its options, by view, as plain JSON."""
    found = {view.name: recipe_of(view) for view in views}
    return {name: json.loads(json.dumps(asdict(recipe))) for name, recipe in found.items() if recipe is not None}


def answers_path(folder: str | Path, view: str) -> Path:
    return Path(folder) / f"answers_{view}.jsonl"


def save_answers(path: Path, recipe: Mapping[str, Any], ids: Sequence[str], answers: Answers) -> None:
    """Writes the answers of the rows `ids`, atomically."""
    lines: list[dict[str, Any]] = [{"recipe": recipe}]
    for row, own in zip(ids, answers, strict=True):
        lines += [{"row": row, **({"question": a.question} if a.question else {}), "answer": a.text} for a in own]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def load_answers(path: Path, recipe: Mapping[str, Any], ids: Sequence[str]) -> Answers | None:
    """The answers of the rows `ids`, or None where the file is not there, is of another recipe or is damaged."""
    if not path.is_file():
        return None
    try:
        head, *lines = map(json.loads, path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
        if head != {"recipe": recipe}:
            return None
        found: dict[str, list[Answer]] = {row: [] for row in ids}
        for line in lines:
            found[line["row"]].append(Answer(line.get("question", ""), line["answer"]))
    except (ValueError, KeyError, TypeError):
        return None
    return [found[row] for row in ids]
