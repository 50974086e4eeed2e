"""UMU-Bench (Wang et al., 2025): every fact asked with the picture and without, so that half a forgetting shows.

    accelerate launch mm/finetune.py benchmark=umu                            # base: full_data; gold: split=retain_95
    accelerate launch mm/forget.py   benchmark=umu forget_split=forget_5
    accelerate launch mm/eval.py     benchmark=umu split=forget_5 model_path=...

Structures are published as Python literals in strings, one of them with the key "muitimodal". Of text score a and image
score b the benchmark reports (a^2 + b^2) / (a + b) for what is forgotten, which is low only where both are, and
2 a b / (a + b) for what is kept (config/tracks/umu.yaml).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mm.bench_mllmu import choice_row, with_wrong
from mm.benchmarks import Benchmark, retain_by_percent
from mm.published import base_of, nested, picture, rows
from mm.rows import Row

GROUPS = ("forget", "retain", "real")
KINDS = {"generation": "Generation", "choice": "Classify", "cloze": "Cloze"}
MODES = {"image": ("multimodal", "muitimodal"), "text": ("unimodal",)}  # the second is how one column spells it
SHORT = {"cloze": "\nPlease ONLY provide the correct answer without any explanation"}


class UMU(Benchmark):
    HUB, BASE_SPLIT, FORGET_SPLIT = "linbojunzi/UMU-bench", "full_data", "forget_5"
    TASKS = tuple(f"umu_{group}_{kind}_{mode}" for group in GROUPS for kind in KINDS for mode in MODES)

    def retain_of(self, split: str) -> str:
        return retain_by_percent(split, "UMU-Bench")

    def training(self, path: str, split: str, revision: str | None) -> list[Row]:
        found = []
        for number, cells in enumerate(rows(path, split, revision)):
            image, person = picture(cells.get("image"), base_of(path)), str(cells.get("ID", number))
            for column, shown in (("MM_QA", image), ("UM_QA", None)):
                pairs = nested(cells[column], f"{path}, split {split}, row {number}: {column}")
                for key, question in pairs["question"].items():
                    name = f"{number}/{column}/{key}"
                    found.append(Row(name, str(question), str(pairs["answer"][key]), person, shown, str(number)))
        return found

    def questions(self, path: str, split: str, revision: str | None) -> Mapping[str, list[Row]]:
        sets = {"forget": split, "retain": self.retain_of(split), "real": "real_person"}
        found: dict[str, list[Row]] = {name: [] for name in self.TASKS}
        for group, config in sets.items():
            for number, cells in enumerate(rows(path, config, revision)):
                image, person = picture(cells.get("image"), base_of(path)), f"{config} {cells.get('ID', number)}"
                for kind, mode, row in _asked(cells, f"{config}/{number}", person, f"{path}, split {config}"):
                    shown = image if mode == "image" else None
                    found[f"umu_{group}_{kind}_{mode}"].append(replace(row, image=shown, picture=f"{config}/{number}"))
        return {name: with_wrong(table) for name, table in found.items()}


def _asked(cells: Mapping[str, Any], name: str, person: str, where: str) -> Iterator[tuple[str, str, Row]]:
    """(kind, image or text, row without its picture) of every question of a person."""
    for kind, column in KINDS.items():
        structure = nested(cells[column], f"{where}: {column}")
        for mode, spellings in MODES.items():
            asked: Mapping[str, Any] = next((structure[key] for key in spellings if key in structure), {})
            for key, entry in asked.items():
                row, question = f"{name}/{key}", str(entry["question"])
                if kind == "choice":
                    yield kind, mode, choice_row(row, question, entry["options"], str(entry["answer"]), person)
                else:
                    yield kind, mode, Row(row, question + SHORT.get(kind, ""), str(entry["answer"]), person)


BENCHMARK = UMU()
training_rows, tasks = BENCHMARK.training_rows, BENCHMARK.tasks
