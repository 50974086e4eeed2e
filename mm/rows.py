"""Rows of any benchmark in one form, as training samples and as evaluation items.

A benchmark's file (mm/bench_*.py) turns what its authors published into these rows; from there on all are alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unlearn import ROOT
from unlearn.atomic import content_hash
from unlearn.data.items import PICTURE
from unlearn.data.pictures import check_cells, open_image
from unlearn.data.samples import EvalItem, Sample, read_lines, stable_choice
from unlearn.data.texts import same_text

CAPTION_QUESTIONS = ROOT / "data" / "caption_questions.txt"


@dataclass(frozen=True)
class Row:
    """One thing that is known of a person.

    Args:
        question: None asks for a caption of the picture, in one of nine requests.
        image: the bytes of a picture, its file, or None.
        picture: identity of the picture among those of its dataset; processed pictures are kept by it.
        base: the answer in other words, by which truth ratios are scored; None takes the answer.
        wrong: answers that are false and of the same kind. keywords: what FIUBench and ReMem look for in a generation.
        side: pixels of the square that the picture is squeezed into, where a protocol does so.
    """

    id: str
    question: str | None
    answer: str
    person: str | None
    image: bytes | str | Path | None = None
    picture: str = ""
    base: str | None = None
    wrong: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    side: int | None = None


class RowSource(Sequence[Sample]):
    """Rows to train on, as `pipeline` reads a split; as a sequence, with the requests for captions fixed."""

    def __init__(self, rows: Sequence[Row], name: str) -> None:
        self.table, self.name = list(rows), name
        self.requests = read_lines(CAPTION_QUESTIONS)
        self.word_lists = {"caption questions": self.requests}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Sample:  # type: ignore[override]  # one row at a time, no slices
        return self._sample(self.table[index], stable_choice(self.requests, self.table[index].id))

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Row `index`; the request for a caption is drawn from `rng`."""
        row = self.table[index]
        drawn = self.requests[int(rng.integers(len(self.requests)))] if row.question is None else ""
        return self._sample(row, drawn)

    def has_image(self, index: int) -> bool:
        return self.table[index].image is not None

    def subject(self, index: int) -> str | None:
        return self.table[index].person

    def _sample(self, row: Row, request: str) -> Sample:
        image = None if row.image is None else open_image(row.image, f"row {row.id} of {self.name}")
        return Sample(question=row.question or request, answer=row.answer, image=image, id=f"{self.name}/{row.id}")


class RowItems(Sequence[EvalItem]):
    """The rows of a task as items; a picture is opened when its item is asked for."""

    def __init__(self, rows: Sequence[Row], name: str) -> None:
        self.table, self.name = list(rows), name
        self.requests = read_lines(CAPTION_QUESTIONS)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> EvalItem:  # type: ignore[override]  # one row at a time, no slices
        row = self.table[index]
        image = None if row.image is None else open_image(row.image, f"row {row.id} of {self.name}")
        if image is not None and row.side is not None:
            image = image.resize((row.side, row.side))
        sample = Sample(question=self._asked(row), answer=row.answer, image=image,
                        id=f"{self.name}/{row.picture or row.id}")  # fmt: skip
        return EvalItem(row.id, sample, row.base or row.answer, list(row.wrong), row.person, row.keywords)

    def lengths(self) -> list[int]:
        """A rough cost of each item, without opening a picture."""
        return [
            PICTURE * (row.image is not None)
            + len(self._asked(row))
            + max(map(len, (row.answer, row.base or "", *row.wrong)))
            for row in self.table
        ]

    def identity(self) -> str:
        """What tells these rows from others."""
        return content_hash(*(f"{row.id}\0{self._asked(row)}\0{row.answer}\0{row.wrong}" for row in self.table))

    def _asked(self, row: Row) -> str:
        return row.question or stable_choice(self.requests, row.id)


def other_answers(rows: Sequence[Row], *, of: Sequence[str], count: int, seed: int) -> list[tuple[str, ...]]:
    """For each row up to `count` different answers that other people gave to the same thing, drawn by `seed`.

    Args:
        of: [N] what a row asks for; rows that ask for the same thing lend one another their answers.
    """
    pools: dict[str, list[Row]] = {}
    for row, kind in zip(rows, of, strict=True):
        pools.setdefault(kind, []).append(row)
    found = []
    for place, (row, kind) in enumerate(zip(rows, of, strict=True)):
        different = {
            same_text(other.answer): other.answer
            for other in pools[kind]
            if (row.person is None or other.person != row.person) and same_text(other.answer) != same_text(row.answer)
        }
        texts = list(different.values())
        order = np.random.default_rng([seed, place]).permutation(len(texts))[:count]
        found.append(tuple(texts[number] for number in order))
    return found


def check_rows(rows: Sequence[Row], where: str) -> None:
    """ValueError for a split without rows, an empty text, or a picture that cannot be opened, each with its row."""
    if not rows:
        raise ValueError(f"{where} is empty; check data_path and the split.")
    for row in rows:
        texts = {"question": row.question, "answer": row.answer, "paraphrase": row.base}
        for name, text in texts.items():
            if text is not None and not text.strip():
                raise ValueError(f"Row {row.id} of {where}: its {name} is empty; remove or mend the row.")
        if row.question is None and row.image is None:
            raise ValueError(f"Row {row.id} of {where} has neither a question nor a picture; remove or mend it.")
    pictured = {row.picture or row.id: row for row in rows if row.image is not None}
    check_cells(((row.id, row.image) for row in pictured.values()), where)


def check_apart(forget: Iterable[Row], retain: Iterable[Row], names: tuple[str, str]) -> None:
    """ValueError when a person, or a row, is to be forgotten and trained again."""
    leaving, staying = list(forget), list(retain)
    people = {same_text(row.person): row.person for row in leaving if row.person}
    if both := sorted(people[key] or "" for key in people.keys() & {same_text(r.person) for r in staying if r.person}):
        raise ValueError(
            f"{both[0]} is both in {names[0]} and in {names[1]}: what is to be forgotten would be trained again. "
            "Choose a retain split without the people of the forget split."
        )
    held = {(row.question, row.answer, row.picture) for row in staying}
    if shared := [row.id for row in leaving if row.person is None and (row.question, row.answer, row.picture) in held]:
        raise ValueError(f"Row {shared[0]} of {names[0]} is also in {names[1]}; choose a retain split without it.")
