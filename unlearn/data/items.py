"""Rows of a dataset as evaluation items: which columns hold the answers, and which rows are taken."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unlearn.data.pictures import open_image
from unlearn.data.samples import EvalItem, Sample
from unlearn.data.texts import many_texts, missing, one_text, same_text

PICTURE = 10**6  # added to a row's length, so that rows with and without a picture meet in few batches


def select_rows(total: int, size: int | None, selection: str, seed: int) -> list[int]:
    """Row numbers in order: all, the `first` ones (the published way), or a `random` choice that `seed` fixes."""
    if size is None or size >= total:
        return list(range(total))
    if selection == "first":
        return list(range(size))
    return sorted(np.random.default_rng(seed).choice(total, size=size, replace=False).tolist())


def with_authors(rows: Any, size: int, split: str) -> Any:
    """The rows with a `name` where they have none: rows of one author stand together, `size` of them."""
    if "name" in rows.column_names:
        return rows
    return rows.add_column("name", [f"{split}, author {row // size + 1}" for row in range(len(rows))])


class TableItems(Sequence[EvalItem]):
    """The rows `places` of a split as items; a picture is decoded when its item is asked for. Row numbers are row ids.

    Args:
        rows: a split as `sources.load_split` returns it, with or without an `image` column.
        question: (row without its picture, row number) -> the one question that all answers of the item follow.
        name: what messages call the split, e.g. <data_path>/<split>.
        answer, base_answer: columns; `wrong_answers`: columns of lists or of single texts, one or several; or none.
        needs_image: a row without a picture is an error.
    """

    def __init__(
        self,
        rows: Any,
        places: Sequence[int],
        question: Callable[[Mapping[str, Any], int], str],
        *,
        name: str,
        answer: str,
        base_answer: str,
        wrong_answers: Sequence[str],
        needs_image: bool = False,
    ) -> None:
        self.rows, self.places, self.question, self.name = rows, list(places), question, name
        self.answer, self.base_answer = answer, base_answer
        self.wrong_answers, self.needs_image = wrong_answers, needs_image
        pictured = "image" in rows.column_names
        self.has_image = rows.data.column("image").is_valid().to_pylist() if pictured else [False] * len(rows)
        self.texts = (rows.remove_columns("image") if pictured else rows).select(self.places)
        self.picture_of = {place: place for place in self.places}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> EvalItem:  # type: ignore[override]  # one row at a time, no slices
        place, row = self.places[index], self.texts[index]
        shown = self.picture_of[place]
        image = open_image(self.rows[shown]["image"], f"row {shown} of {self.name}") if self.has_image[place] else None
        # the id names the picture: processed pictures are kept by it, and tasks of one split share them
        sample = Sample(question=self._asked(row, place), answer=self._text(row, self.answer, place), image=image,
                        id=f"{self.name}/{shown}")  # fmt: skip
        author = None if missing(row.get("name")) else str(row["name"])
        base, wrong = self._text(row, self.base_answer, place), self._wrong(row, place)
        return EvalItem(str(place), sample, base, wrong, author, compared=bool(self.wrong_answers))

    def lengths(self) -> list[int]:
        """A rough cost of each item, without opening a picture. ValueError names the first row that lacks something."""
        return list(self._costs())

    def shuffle_images(self, seed: int) -> None:
        """The control: a question about a picture is shown that of another person (of another answer, without
        names)."""
        label = "name" if "name" in self.texts.column_names else self.answer
        who = {place: same_text(str(cell)) for place, cell in zip(self.places, self.texts[label], strict=True)}
        order = [
            place for place in np.random.default_rng(seed).permutation(self.places).tolist() if self.has_image[place]
        ]
        for start, place in enumerate(order):
            others = (other for other in order[start + 1 :] + order[:start] if who[other] != who[place])
            if (other := next(others, None)) is None:
                raise ValueError(f"{self.name}: shuffled images need pictures of two people; raise ds_size.")
            self.picture_of[place] = other

    def _costs(self) -> Iterator[int]:
        for place, row in zip(self.places, self.texts, strict=True):
            if self.needs_image and not self.has_image[place]:
                raise ValueError(f"Row {place} of {self.name} has no picture to ask about; remove or mend it.")
            answers = [
                self._text(row, self.answer, place),
                self._text(row, self.base_answer, place),
                *self._wrong(row, place),
            ]
            yield PICTURE * self.has_image[place] + len(self._asked(row, place)) + max(map(len, answers))

    def _asked(self, row: Mapping[str, Any], place: int) -> str:
        return one_text(self.question(row, place), f"Row {place} of {self.name}: its question")

    def _wrong(self, row: Mapping[str, Any], place: int) -> list[str]:
        """Those of the row's list, or one per column; none is left out, so that every row says what it was scored
        on; empty for a task without wrong answers."""
        if not self.wrong_answers:
            return []
        cells = [row[column] for column in self.wrong_answers]
        columns = ", ".join(self.wrong_answers)
        return many_texts(cells, f"Row {place} of {self.name}: no wrong answer, or an empty one, in {columns}, which")

    def _text(self, row: Mapping[str, Any], column: str, place: int) -> str:
        return one_text(row[column], f"Row {place} of {self.name}: {column}")
