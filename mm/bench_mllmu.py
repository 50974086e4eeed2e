"""MLLMU-Bench (Liu et al., 2025): 500 invented people, 153 celebrities, asked by choice, cloze and free text.

    accelerate launch mm/finetune.py benchmark=mllmu                          # base: Full_Set; gold: split=retain_95
    accelerate launch mm/forget.py   benchmark=mllmu forget_split=forget_5
    accelerate launch mm/eval.py     benchmark=mllmu split=forget_5 model_path=...

Training rows are the published (picture, question, answer) of a set; ft_Data, the authors' finetuning set, has lists of
them in `metadata`. Every question is asked without solved examples: the published prompts show some from the evaluated
set, forgotten people included. Instead of a judge model there are ROUGE, BLEU, the letter taken and the cloze filled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mm.benchmarks import Benchmark, retain_by_percent
from mm.published import base_of, nested, picture, rows
from mm.rows import Row, other_answers

GROUPS = ("forget", "retain", "real", "test")  # people who leave, who stay, celebrities; other pictures of the first
KINDS = ("generation", "choice", "cloze")
MODES = ("image", "text")
ONE_LETTER = "Answer with the letter of the right option."
WRONG = 3  # answers of others beside a free one; a choice has its own


class MLLMU(Benchmark):
    HUB, BASE_SPLIT, FORGET_SPLIT = "MLLMMU/MLLMU-Bench", "Full_Set", "forget_5"
    TASKS = tuple(f"mllmu_{group}_{kind}_{mode}" for group in GROUPS for kind in KINDS for mode in MODES)

    def retain_of(self, split: str) -> str:
        return retain_by_percent(split, "MLLMU-Bench")

    def training(self, path: str, split: str, revision: str | None) -> list[Row]:
        found = []
        for number, cells in enumerate(rows(path, split, revision)):
            image = picture(cells.get("image") or cells.get("images"), base_of(path))
            person = None if cells.get("ID") is None else str(cells["ID"])
            for place, (question, answer) in enumerate(_pairs(cells, f"{path}, split {split}, row {number}")):
                found.append(Row(f"{number}/{place}", question, answer, person, image, str(number)))
        return found

    def questions(self, path: str, split: str, revision: str | None) -> Mapping[str, list[Row]]:
        sets = {"forget": split, "retain": self.retain_of(split), "real": "Retain_Set", "test": "Test_Set"}
        found: dict[str, list[Row]] = {name: [] for name in self.TASKS}
        leaving: set[str] = set()
        for group, config in sets.items():
            for number, cells in enumerate(rows(path, config, revision)):
                person = str(cells.get("ID", number)) if group != "real" else f"real {cells.get('ID', number)}"
                leaving |= {person} if group == "forget" else set()
                if group == "test" and person not in leaving:
                    continue
                image = picture(cells.get("image") or cells.get("images"), base_of(path))
                for kind, mode, row in _asked(cells, f"{config}/{number}", person, f"{path}, split {config}"):
                    shown = image if mode == "image" else None
                    found[f"mllmu_{group}_{kind}_{mode}"].append(
                        replace(row, image=shown, picture=f"{config}/{number}")
                    )
        return {name: with_wrong(table) for name, table in found.items()}


def _pairs(cells: Mapping[str, Any], where: str) -> list[tuple[str, str]]:
    """The (question, answer) pairs that a row is trained on."""
    if cells.get("question") is not None:
        return [(str(cells["question"]), str(cells["answer"]))]
    listed = nested(cells.get("metadata"), f"{where}: metadata")
    if not isinstance(listed, list):
        raise ValueError(f"{where} has neither question and answer nor a list of them in metadata.")
    return [(str(pair["Question"]), str(pair["Answer"])) for pair in listed]


def _asked(cells: Mapping[str, Any], name: str, person: str, where: str) -> Iterator[tuple[str, str, Row]]:
    """(kind, image or text, row without its picture) of every question of a person."""
    choice = nested(cells["Classification_Task"], f"{where}: Classification_Task") or {}
    for mode, key in zip(MODES, ("Image_Textual_Questions", "Pure_Text_Questions"), strict=True):
        for place, entry in enumerate(choice.get(key) or ()):
            yield "choice", mode, choice_row(f"{name}/{mode}/{place}", entry["Question"], entry["Options"],
                                             str(entry["Correct_Answer"]), person)  # fmt: skip
    for kind, key in (("generation", "Generation_Task"), ("cloze", "Mask_Task")):
        for place, entry in enumerate(nested(cells[key], f"{where}: {key}") or ()):
            mode = "image" if str(entry["Type"]).startswith("Image") else "text"
            question = str(entry["Question"]).replace("__", "[Blank]") if kind == "cloze" else str(entry["Question"])
            yield kind, mode, Row(f"{name}/{mode}/{place}", question, str(entry["Ground_Truth"]), person)


def choice_row(name: str, question: str, options: Mapping[str, str | None], right: str, person: str) -> Row:
    """A closed question: options as lines "A. ...", and answers of the same form. ValueError for a letter without an
    option."""
    lines = {letter: f"{letter}. {text}" for letter, text in sorted(options.items()) if text is not None}
    letter = right.strip()[:1].upper()
    if letter not in lines:
        raise ValueError(f"Row {name}: the right answer {right!r} is none of the options {', '.join(lines)}; mend it.")
    wrong = tuple(line for other, line in lines.items() if other != letter)
    return Row(name, "\n".join([question, *lines.values(), ONE_LETTER]), lines[letter], person, wrong=wrong)


def with_wrong(table: list[Row]) -> list[Row]:
    """Rows with wrong answers: a choice has its own, others get what other people's are at the same place."""
    lent = other_answers(table, of=[row.id.rsplit("/", 1)[-1] for row in table], count=WRONG, seed=0)
    return [row if row.wrong else replace(row, wrong=wrong) for row, wrong in zip(table, lent, strict=True)]


BENCHMARK = MLLMU()
training_rows, tasks = BENCHMARK.training_rows, BENCHMARK.tasks
