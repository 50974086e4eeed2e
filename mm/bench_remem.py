"""ReMem (Kwon et al., 2026): people whose facts the base model has really learnt, each attribute asked by itself.

    accelerate launch mm/finetune.py benchmark=remem                          # base: finetune
    accelerate launch mm/forget.py   benchmark=remem forget_split=forget1
    accelerate launch mm/eval.py     benchmark=remem split=forget1 model_path=...

The forget splits forget1 to forget4 hold 100, 200, 300 and 400 rows, `retain` 560 and `test` 560 of other pictures.
Wrong answers are those of other people for the same attribute. A generation is scored by the row's keywords, asked
freely and as `cloze_prompt`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mm.benchmarks import Benchmark
from mm.published import base_of, nested, picture, rows
from mm.rows import Row, other_answers

WRONG = 5
FORGET = tuple(f"forget{number}" for number in (1, 2, 3, 4))


class ReMem(Benchmark):
    HUB, BASE_SPLIT, FORGET_SPLIT = "herbwood27/Remem", "finetune", "forget1"
    MODALITY = "visual"
    TASKS = ("remem_retain", "remem_forget", "remem_test", "remem_retain_cloze", "remem_forget_cloze")

    def retain_of(self, split: str) -> str:
        if split not in FORGET:
            raise ValueError(f"{split!r} is no forget split of ReMem; it has {', '.join(FORGET)}.")
        return "retain"

    def training(self, path: str, split: str, revision: str | None) -> list[Row]:
        return [row for row, _ in _facts(path, split, revision)]

    def questions(self, path: str, split: str, revision: str | None) -> Mapping[str, list[Row]]:
        sets = {"remem_forget": split, "remem_retain": self.retain_of(split), "remem_test": "test"}
        found: dict[str, list[Row]] = {}
        for name, config in sets.items():
            facts = _facts(path, config, revision)
            lent = other_answers([row for row, _ in facts], of=[cells["attribute"] for _, cells in facts],
                                 count=WRONG, seed=0)  # fmt: skip
            found[name] = [replace(row, wrong=wrong) for (row, _), wrong in zip(facts, lent, strict=True)]
            found[f"{name}_cloze"] = [
                replace(row, question=str(cells["cloze_prompt"]))
                for row, (_, cells) in zip(found[name], facts, strict=True) if cells.get("cloze_prompt")
            ]  # fmt: skip
        return found


def _facts(path: str, split: str, revision: str | None) -> Sequence[tuple[Row, Mapping[str, Any]]]:
    found = []
    for number, cells in enumerate(rows(path, split, revision)):
        words = cells.get("keywords") or ()
        if isinstance(words, str):
            listed = words.lstrip().startswith("[")
            words = nested(words, f"{path}, split {split}, row {number}: keywords") if listed else [words]
        keywords = tuple(map(str, words))
        person = cells.get("name") or cells.get("ID") or cells.get("person")
        image = picture(cells.get("image"), base_of(path))
        row = Row(str(number), str(cells["question"]), str(cells["answer"]), None if person is None else str(person),
                  image, f"{split}/{number}", keywords=keywords)  # fmt: skip
        found.append((row, cells))
    return found


BENCHMARK = ReMem()
training_rows, tasks = BENCHMARK.training_rows, BENCHMARK.tasks
