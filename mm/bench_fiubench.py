"""FIUBench (Ma et al., 2025): 400 invented people, one face and twenty private facts each.

    accelerate launch mm/finetune.py benchmark=fiubench                       # base: full; gold: split=retain95
    accelerate launch mm/forget.py   benchmark=fiubench forget_split=forget5
    accelerate launch mm/eval.py     benchmark=fiubench split=forget5 model_path=...

`full.json` holds the people, of whom the first 400 count, `split.json` who is forgotten. Where the published code asks
a language model whether a generation is right, here it is the share of the row's keywords in it. The published code
lower-cases answers and cuts a generation at its first full stop; neither is done here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mm.benchmarks import Benchmark
from mm.published import folder, picture
from mm.rows import Row

PEOPLE = 400
SIZES = ("1", "5", "10")


class FIUBench(Benchmark):
    HUB, BASE_SPLIT, FORGET_SPLIT = "gray311/FIUBench", "full", "forget5"
    MODALITY = "visual"
    TASKS = ("fiu_retain", "fiu_forget")

    def retain_of(self, split: str) -> str:
        size = split.removeprefix("forget")
        if size not in SIZES or not split.startswith("forget"):
            raise ValueError(
                f"{split!r} is no forget split of FIUBench; it has {', '.join(f'forget{s}' for s in SIZES)}."
            )
        return f"retain{100 - int(size)}"

    def training(self, path: str, split: str, revision: str | None) -> list[Row]:
        base = folder(path, revision)
        people = _read(base / "full.json")[:PEOPLE]
        return [row for place, person in _chosen(people, split, base) for row in _facts(person, place, base)]

    def questions(self, path: str, split: str, revision: str | None) -> Mapping[str, list[Row]]:
        return {
            "fiu_forget": self.training(path, split, revision),
            "fiu_retain": self.training(path, self.retain_of(split), revision),
        }


def _read(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"{file} is not there; FIUBench's folder has full.json, split.json and the pictures.")
    return json.loads(file.read_text(encoding="utf-8"))


def _chosen(people: Sequence[Mapping[str, Any]], split: str, base: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """(place, person) of a split: full, forgetN, or retain(100 - N), those who are not in forgetN."""
    numbered = list(enumerate(people))
    if split == "full":
        return numbered
    splits = _read(base / "split.json")
    forget = split if split.startswith("forget") else f"forget{100 - int(split.removeprefix('retain') or 0)}"
    if forget not in splits:
        raise ValueError(f"{base} has no split {split!r}; it has full, {', '.join(splits)} and their retain splits.")
    named = {str(entry) for entry in splits[forget]}  # places, or names
    leave = [pair for pair in numbered if str(pair[0]) in named or str(pair[1]["name"]) in named]
    if len(leave) != len(named):
        raise ValueError(f"{base / 'split.json'}: {forget} names {len(named)} people, of whom {len(leave)} are known.")
    return leave if split == forget else [pair for pair in numbered if pair not in leave]


def _facts(person: Mapping[str, Any], place: int, base: Path) -> list[Row]:
    image = picture(person.get("image") or person.get("image_path"), base)
    return [
        Row(
            f"{place}/{number}", str(fact["question"]), str(fact["answer"]), str(person["name"]), image, str(place),
            base=fact.get("paraphrased_answer"), wrong=tuple(map(str, fact["perturbed_answer"])),
            keywords=tuple(map(str, fact["keywords"])),
        )
        for number, fact in enumerate(person["qa_list"])
    ]  # fmt: skip


BENCHMARK = FIUBench()
training_rows, tasks = BENCHMARK.training_rows, BENCHMARK.tasks
