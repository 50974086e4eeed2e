"""What a stress run leaves on disk: values per row, one file for each model and test.

<save_dir>/stress.json               which models, base and gold, which tests
<save_dir>/<model>/<test>.json       what one test found of one model; `base` and `gold` are models like others
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.atomic import read_json, write_json

INDEX = "stress.json"
BASE, GOLD = "base", "gold"
PLAIN = "plain"  # the label of a task as it is: its own wording, pictures and weights
FORGET, RETAIN = "forget", "retain"  # sides of the leakage matrix
PROMPTS = ("paraphrase", "roleplay", "insist", "options", "typographic", "incontext", "prefill")  # variants of these
VERSION = 1
_REMEDY = "Remove it and run the stress test again: the rest is kept."


@dataclass(frozen=True)
class Number:
    """A value per row: of a task, under a `label` (a variant, a step, a layer), of a `kind` (p, ROUGE, name, ...)."""

    task: str
    label: str
    kind: str
    rows: dict[str, float]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.task, self.label, self.kind


@dataclass(frozen=True)
class Unit:
    """One test of one model. `people`: task -> row -> whose it is (None: not known); `seconds`: what it took."""

    numbers: dict[tuple[str, str, str], Number]
    people: dict[str, dict[str, str | None]]
    seconds: float


def write_unit(
    file: Path, key: str, numbers: Sequence[Number], people: Mapping[str, Mapping[str, str | None]], seconds: float
) -> None:
    """Writes a unit atomically; `key` says what it was made from."""
    found = [dataclasses.asdict(number) for number in numbers]
    write_json(file, {"schema_version": VERSION, "key": key, "seconds": seconds, "people": people, "numbers": found})


def unit_key(file: Path) -> str | None:
    """What the unit in a file was made from; None where there is none."""
    return None if not file.is_file() else str(_whole(file)["key"])


def read_unit(file: Path) -> Unit:
    """ValueError for a file that is missing or damaged."""
    found = _whole(file)
    numbers = [Number(**number) for number in found["numbers"]]
    return Unit({number.key: number for number in numbers}, found["people"], float(found["seconds"]))


def write_index(folder: Path, facts: Mapping[str, Any]) -> Path:
    write_json(folder / INDEX, {"schema_version": VERSION, **facts})
    return folder / INDEX


def read_index(folder: Path) -> dict[str, Any]:
    """ValueError where `folder` holds no stress run."""
    facts: dict[str, Any] = read_json(folder / INDEX, _REMEDY)
    if not isinstance(facts, dict) or facts.get("schema_version") != VERSION or "models" not in facts:
        raise ValueError(f"{folder / INDEX} is no index of a stress run. {_REMEDY}")
    return facts


def _whole(file: Path) -> dict[str, Any]:
    found = read_json(file, _REMEDY)
    if not isinstance(found, dict) or found.get("schema_version") != VERSION:
        raise ValueError(f"{file} is no result of a stress test of this version. {_REMEDY}")
    for number in found["numbers"]:
        values = number["rows"].values()
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            raise ValueError(f"{file}: a value of {number['task']}, {number['label']} is no finite number. {_REMEDY}")
    return found
