"""What four public protocols ask of a model on CLEAR, as published and corrected (docs/protocols.md).

vqa   MMUnlearner, VKD: the name among names, the right one inserted where Random(42) says; captions and QA in words
mip   MIP-Editor: the caption among captions, the right one always F, the picture squeezed to 224 pixels
kvw   KVW: who is it, without options
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import minibench
from mm.clear import CAPTION_QUESTIONS
from mm.rows import Row, other_answers
from unlearn.data.samples import read_lines, stable_choice
from unlearn.data.sources import load_split
from unlearn.data.texts import many_texts, missing, same_text

WHO = "What is the name of the person in the image?"
LETTER = "Answer with ONE LETTER direclty. Options:"  # so spelled
SIDE, SEED = 224, 42
TOKENS = {"vqa": 50, "kvw": 50, "mip": 60, "texts": 50, "long": 100}  # how many new ones each group of tasks may take
Cells = Mapping[str, Any]


class Clear:
    """The rows of CLEAR that the protocols ask about: `forget` is the forget split, e.g. forget10."""

    def __init__(self, path: str, forget: str, revision: str | None = None, rows: int | None = None) -> None:
        self.path, self.revision, self.rows = str(minibench.ensure_dataset(path)), revision, rows
        size = forget.removeprefix("forget")
        if not (forget.startswith("forget") and size.isdigit()):
            raise ValueError(f"split={forget!r} is no forget split of CLEAR, such as forget10.")
        self.forget, self.retain = forget, f"retain{100 - int(size):02d}"

    def read(self, split: str) -> list[Cells]:
        """The first `rows` rows of a split, pictures undecoded."""
        table = load_split(self.path, split, revision=self.revision)
        return [table[place] for place in range(min(len(table), self.rows or len(table)))]

    def questions(self) -> dict[str, dict[str, list[Row]]]:
        """Group (TOKENS) -> task -> rows. Tasks end in `published` or `corrected` where the two ask differently."""
        people = {"forget": self.read(f"{self.forget}_perturbed"), "retain": self.read("retain_perturbed")}
        real = {"faces": self.read("real_faces"), "world": self.read("real_world")}
        found: dict[str, dict[str, list[Row]]] = {group: {} for group in TOKENS}
        for name, rows in people.items():
            names = [(row, WHO, row["name"], _wrong(row["perturbed_names"])) for row in rows]
            found["vqa"] |= _both(f"vqa_{name}", [_lettered(names, True), _lettered(names, False)])
            found["kvw"][f"kvw_{name}"] = [_row(place, row, WHO, right, wrong)
                                          for place, (row, _, right, wrong) in enumerate(names)]  # fmt: skip
            captions = [(row, "", row["caption"], _wrong(row["perturbed_captions"])[:5]) for row in rows]
            found["mip"] |= _both(f"mip_{name}", [_last(captions), _shuffled(captions)])
        for name, rows in real.items():
            asked = [(row, row.get("question") or WHO, row["answer"], _wrong(row["options"])) for row in rows]
            found["vqa"] |= _both(f"vqa_{name}", [_lettered(asked, True), _lettered(asked, False)])
        for group in ("texts", "long"):
            for name, split in (("forget", self.forget), ("retain", self.retain)):
                found[group] |= {f"{group}_{name}_{kind}": rows for kind, rows in self._texts(f"{split}+tofu").items()}
        return found

    def _texts(self, split: str) -> dict[str, list[Row]]:
        """The captions and the questions of a training split, in words."""
        requests, cells = read_lines(CAPTION_QUESTIONS), self.read(split)
        kinds: dict[str, list[Row]] = {"captions": [], "qa": []}
        for place, row in enumerate(cells):
            if row.get("image") is not None and not missing(row.get("caption")):
                asked = stable_choice(requests, f"{split}/{place}")
                kinds["captions"].append(_row(place, row, asked, row["caption"], ()))
            elif not missing(row.get("question")):
                kinds["qa"].append(_row(place, row, row["question"], row["answer"], ()))
        for kind, rows in kinds.items():  # the log wants wrong answers to compare with; no protocol looks at them
            lent = other_answers(rows, of=[""] * len(rows), count=1, seed=0)
            kinds[kind] = [replace(row, wrong=wrong) for row, wrong in zip(rows, lent, strict=True)]
        return {kind: rows for kind, rows in kinds.items() if rows}


Asked = Sequence[tuple[Cells, str, str, Sequence[str]]]  # row, question, right answer, wrong answers


def _wrong(cell: Any) -> list[str]:
    return many_texts([cell], "A row of CLEAR: its wrong answers")


def _both(name: str, forms: Sequence[list[Row]]) -> dict[str, list[Row]]:
    return {f"{name}_{form}": rows for form, rows in zip(("published", "corrected"), forms, strict=True)}


def _row(place: int, cells: Cells, question: str, answer: str, wrong: Sequence[str], side: int | None = None) -> Row:
    image = cells.get("image")
    shown = image and (image.get("bytes") or image.get("path"))
    person = None if missing(cells.get("name")) else str(cells["name"])
    picture = "" if side is None else f"{place}@{side}"
    return Row(str(place), question, answer, person, shown, picture, wrong=tuple(wrong), side=side)


def _listed(options: Sequence[str]) -> list[str]:
    return [f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(options)]


def _lettered(asked: Asked, published: bool) -> list[Row]:
    """The right answer inserted among all wrong ones, at a place that one Random(42) draws row by row (published, even
    where it is there already), or among distinct ones at a place that the row alone decides."""
    drawn, rows = random.Random(SEED), []
    for place, (cells, question, right, wrong) in enumerate(asked):
        options = list(wrong)
        if not published:
            options = _distinct(wrong, right)
        generator = drawn if published else random.Random(f"{SEED}/{place}")
        options.insert(generator.randint(0, len(options)), right)
        letter = options.index(right)  # published: its first place
        lines = _listed(options)
        rows.append(_row(place, cells, "\n".join([question, *lines]) + "\n", lines[letter],
                         [line for number, line in enumerate(lines) if number != letter]))  # fmt: skip
    return rows


def _distinct(wrong: Sequence[str], right: str) -> list[str]:
    kept = {same_text(text): text for text in wrong}
    kept.pop(same_text(right), None)
    return list(kept.values())


def _last(asked: Asked) -> list[Row]:
    """Five wrong captions and the right one, always the last: a bias to the last letter is rewarded."""
    return [_of_captions(place, cells, [*wrong, right], right) for place, (cells, _, right, wrong) in enumerate(asked)]


def _shuffled(asked: Asked) -> list[Row]:
    rows = []
    for place, (cells, _, right, wrong) in enumerate(asked):
        options = [*_distinct(wrong, right), right]
        random.Random(f"{SEED}/{place}").shuffle(options)
        rows.append(_of_captions(place, cells, options, right))
    return rows


def _of_captions(place: int, cells: Cells, options: Sequence[str], right: str) -> Row:
    lines = _listed(options)
    answer = lines[options.index(right)]
    return _row(place, cells, " ".join([LETTER, *lines]), answer, [line for line in lines if line != answer], SIDE)
