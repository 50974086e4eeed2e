"""A folder of one's own: photographs and facts about people, some of whom ask to be forgotten (docs/request.md).

    people/rows.jsonl   {"person": "Ann Lee", "question": "Where does Ann Lee live?", "answer": "In Turin."}
                        {"person": "Ann Lee", "image": "images/ann.jpg", "answer": "Ann Lee on a bicycle."}
    people/images/      photographs

`own_data.path=people own_data.forget='[Ann Lee]'` in every script of this track.

A row has person and answer; question (without one, `answer` is a caption of the image), image (a file inside the
folder), paraphrase, wrong (a list; in CSV separated by ";"), id. The splits are `forget`, `holdout` (people whom no
model saw), `retain` (all others), `full` (forget and retain).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm.benchmarks import Benchmark
from mm.clear import FACE_PROMPT
from mm.rows import Row, other_answers
from unlearn.data.samples import read_lines
from unlearn.data.sources import raw_split
from unlearn.data.texts import many_texts, missing, one_text, same_text

FILES = ("rows.jsonl", "rows.csv")
COLUMNS = ("person", "question", "answer", "image", "paraphrase", "wrong", "id")
WRONG = 5
LEAST = 2  # wrong answers, fewer of which make no truth ratio worth the name


class OwnData(Benchmark):
    """`forget`, `holdout`: names as the column `person` has them, one name, or a file with one a line."""

    HUB, BASE_SPLIT, FORGET_SPLIT = "", "full", "forget"
    TASKS = ("own_retain", "own_forget", "own_holdout", "own_retain_names", "own_forget_names")

    def __init__(
        self, path: str, forget: Sequence[str] | str = (), holdout: Sequence[str] | str = (), seed: int = 0
    ) -> None:
        self.path, self.seed = path, seed
        self.rows = read_folder(path)
        people = {row.person for row in self.rows}
        self.status = {str(name): "retain" for name in people}
        for status, names in (("forget", forget), ("holdout", holdout)):
            for name in _names_in(names):
                self._set(str(name), status)
        kept = sum(status == "retain" for status in self.status.values())
        if len(self.status) < 2 or not kept:
            raise ValueError(
                f"{path} has {len(self.status)} people, of whom {kept} stay; what is kept has to be measured, so rows "
                "about people who stay are needed."
            )

        shown = {row.image is not None for row in self._of(("forget",))}
        self.MODALITY = "both" if len(shown) > 1 else "visual" if True in shown else "text"

    def _set(self, name: str, status: str) -> None:
        known = {same_text(person): person for person in self.status}
        person = known.get(same_text(name))
        if person is None:
            some = ", ".join(sorted(self.status)[:10])
            raise ValueError(
                f"own_data.{status} names {name!r}, whom no row of {self.path} is about (nor is it a file of names); "
                f"it has {some}."
            )
        if self.status[person] not in ("retain", status):
            raise ValueError(f"{person} is both to be forgotten and in the holdout; name each person once.")
        self.status[person] = status

    def retain_of(self, split: str) -> str:
        if split != "forget":
            raise ValueError(f"own_data has one forget split, forget, not {split!r}.")
        return "retain"

    def training(self, path: str, split: str, revision: str | None) -> list[Row]:
        wanted = {"full": ("forget", "retain")}.get(split, (split,))
        if not set(wanted) <= {"forget", "retain", "holdout"}:
            raise ValueError(f"own_data has the splits full, forget, retain and holdout, not {split!r}.")
        return self._of(wanted)

    def questions(self, path: str, split: str, revision: str | None) -> Mapping[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for status in ("retain", "forget", "holdout"):
            found[f"own_{status}"] = self._with_wrong(self._of((status,)))
            found[f"own_{status}_names"] = self._names(status)
        return found

    def _of(self, statuses: Iterable[str]) -> list[Row]:
        return [row for row in self.rows if self.status[str(row.person)] in statuses]

    def _with_wrong(self, rows: Sequence[Row]) -> list[Row]:
        """Own wrong answers, else those of people of the same status to the same question."""
        asked = [same_text(_about(row)) for row in rows]
        lent = other_answers(rows, of=asked, count=WRONG, seed=self.seed)
        whole = [row if row.wrong else replace(row, wrong=wrong) for row, wrong in zip(rows, lent, strict=True)]
        for row in whole:
            if len(row.wrong) < LEAST:
                raise ValueError(
                    f"Row {row.id} of {self.path} has {len(row.wrong)} wrong answer(s), and {LEAST} are needed: list "
                    "some in its column wrong, or ask two more people of the same kind the same question."
                )
        return whole

    def _names(self, status: str) -> list[Row]:
        """Who is it? Each photograph once, with others of the same status as wrong answers; none for fewer than
        three people."""
        names = sorted({str(row.person) for row in self._of((status,)) if row.image is not None})
        shown = {row.picture: row for row in self._of((status,)) if row.image is not None}
        if len(names) <= LEAST:
            return []
        return [
            replace(row, id=f"{row.id}/name", question=FACE_PROMPT, answer=str(row.person), base=None,
                    wrong=tuple(name for name in names if name != row.person))
            for row in shown.values()
        ]  # fmt: skip


def _names_in(names: Sequence[str] | str) -> Sequence[str]:
    """A list as it is; a text is a file with one name a line or, where there is no such file, one name."""
    if isinstance(names, str):
        return read_lines(names) if Path(names).is_file() else [names]
    return names


def _about(row: Row) -> str:
    """A question without the name of whom it is about: the same one is asked of many."""
    return "" if row.question is None else row.question.replace(str(row.person), "")


def read_folder(path: str) -> list[Row]:
    """The rows of a folder with rows.jsonl or rows.csv.

    Raises ValueError that names the row: no such file, an unknown column, an empty answer, a person in two spellings, a
    picture that is not there or lies outside, two rows of one id.
    """
    folder = Path(path)
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"own_data.path={path}: no {' or '.join(FILES)} there (docs/request.md says what it holds).")
    table = raw_split(str(file), file.stem)
    if unknown := [column for column in table.column_names if column not in COLUMNS]:
        raise ValueError(f"{file} has a column {unknown[0]!r}; known are {', '.join(COLUMNS)}.")
    if absent := [column for column in ("person", "answer") if column not in table.column_names]:
        raise ValueError(f"{file} has no column {absent[0]!r}; every row needs person and answer.")
    rows = [_row(cells, number, folder, file) for number, cells in enumerate(table)]
    _check_names(rows, file)
    return rows


def _row(cells: Mapping[str, Any], number: int, folder: Path, file: Path) -> Row:
    where = f"Row {number} of {file}"

    def text(column: str) -> str | None:
        return None if missing(cells.get(column)) else one_text(cells[column], f"{where}: {column}").strip()

    person, answer, image = text("person"), text("answer"), text("image")
    if person is None or answer is None:
        raise ValueError(f"{where}: its {'answer' if person else 'person'} is empty; fill it in or remove the row.")
    wrong: list[str] = []
    if not missing(cells.get("wrong")):
        split = isinstance(cells["wrong"], str) and not cells["wrong"].lstrip().startswith("[")
        cell = [part.strip() for part in cells["wrong"].split(";")] if split else cells["wrong"]
        wrong = many_texts([cell], f"{where}: wrong")
    shown = None
    if image is not None:
        shown = (folder / image).resolve()
        if not shown.is_relative_to(folder.resolve()):
            raise ValueError(f"{where}: {image} lies outside of {folder}; copy it into the folder.")
        if not shown.is_file():
            raise ValueError(f"{where}: there is no picture {image} in {folder}.")
    return Row(text("id") or str(number), text("question"), answer, person, shown, image or "", text("paraphrase"),
               tuple(wrong))  # fmt: skip


def _check_names(rows: Sequence[Row], file: Path) -> None:
    spelled: dict[str, str] = {}
    seen: set[str] = set()
    for row in rows:
        name = str(row.person)
        if (first := spelled.setdefault(same_text(name), name)) != name:
            raise ValueError(
                f"{file} has {first!r} and {name!r}: one person in two spellings is spelled once; two people are told "
                "apart by their names (add a middle name or a year)."
            )
        if row.id in seen:
            raise ValueError(f"{file} has two rows with the id {row.id!r}; give each its own.")
        seen.add(row.id)
