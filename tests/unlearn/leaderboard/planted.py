"""Logs of the own-data track whose numbers are planted: the probability and the share of words that a model has."""

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearn.atomic import write_json
from unlearn.results import AGGREGATE, META
from unlearn.stress_log import BASE, GOLD, Number, write_index, write_unit

PEOPLE = {
    "own_forget": [f"Ann{name} Lee" for name in "abcdefgh"],
    "own_retain": [f"Bob{name} Ray" for name in "abcdefgh"],
    "own_holdout": [f"Cem{name} Ode" for name in "abcdefgh"],
}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
KNOWN = {"own_forget": 0.9, "own_retain": 0.9, "own_holdout": 0.2}
NEVER_MET = {**KNOWN, "own_forget": 0.2}


def write_planted(
    folder: Path, known: Mapping[str, float], *, noise: float = 0.001, seed: int = 0, people: int = 8, tasks: Any = None
) -> Path:
    """The log's path. `known`: by task the chance that a model gives the right answer, and the share of it that it
    says, in tenths; `noise`: how far a person's rows lie from it; up to .03 by person, alike in all models,
    so that people held out lie between those to forget."""
    draw = random.Random(seed)
    log: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for task in tasks or PEOPLE:
        columns: dict[str, dict[str, Any]] = {key: {} for key in (
            "avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "generated_text")}  # fmt: skip
        rows = facts[f"{task}"] = {}
        for number, person in enumerate(PEOPLE[task][:people]):
            bias = draw.uniform(-noise, noise)
            for half in range(2):
                row = str(2 * number + half)
                chance = min(
                    max(known[task] + 0.03 * (2 * number - 7) / 7 + 0.0043 * (task == "own_holdout") + bias, 0.01), 0.99
                )
                columns["avg_gt_loss"][row] = columns["avg_paraphrased_loss"][row] = -math.log(chance)
                columns["average_perturb_loss"][row] = [-math.log(1 - chance)]
                said = " ".join(WORDS[: round(10 * known[task])])
                columns["generated_text"][row] = [f"USER: {person}?", said, " ".join(WORDS)]
                rows[row] = {
                    "question": f"What of {person}?", "answer": " ".join(WORDS), "base_answer": " ".join(WORDS),
                    "wrong_answers": ["eleven"], "wrong_equals_right": [False], "author": person, "thumbnail": None,
                    "picture": None,
                }  # fmt: skip
        log[f"{task}.json"] = columns
    run = {"method": folder.name, "model": str(folder), "model_path": str(folder), "max_new_tokens": 64, "seed": 0,
           "modality": "both", "settings_hash": f"made {folder.name}"}  # fmt: skip
    meta = {name: {"rows": rows, "seconds": 1.0, "peak_memory_mb": None, "generation_tokens": dict.fromkeys(rows, 10)}
            for name, rows in facts.items()}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / META, {"schema_version": 1, "run": run, "tasks": meta})
    write_json(folder / AGGREGATE, log)
    return folder / AGGREGATE


def write_stress(folder: Path, model: Path, values: Mapping[str, float], *, tests: tuple[str, ...] = ()) -> Path:
    """A stress run of `model` beside base (.9 in every test) and gold (.2); `values`: the model's number by label."""
    labels = {
        "variants": ("plain", "insist"), "leak": ("k=1", "k=64"), "quantisation": ("rtn8", "rtn4"),
        "relearning": ("few, step 0", "few, step 32", "retain, step 0", "retain, step 8", "retain, step 32"),
    }  # fmt: skip
    chosen = tests or (*labels, "depth")
    models = {BASE: 0.9, GOLD: 0.2, "own": None}
    people = {"own_forget": {str(row): PEOPLE["own_forget"][row // 2] for row in range(16)}}
    for name, always in models.items():
        for test in chosen:
            if test == "depth":
                drops = {BASE: (0.0, 0.0, 1.0), GOLD: (0.5, 1.0, 2.0), "own": (0.5, values.get("depth", 1.0), 2.0)}
                numbers = [Number("own_forget", f"layer {layer}", "drop", _rows(drop))
                           for layer, drop in enumerate(drops[name])]  # fmt: skip
            else:
                numbers = [Number("own_forget", label, "p", _rows(always or values.get(label, 0.2)))
                           for label in labels[test]]  # fmt: skip
            write_unit(folder / name / f"{test}.json", "key", numbers, people, 1.0)
    paths = {BASE: "models/base", GOLD: "models/gold", "own": str(model)}
    write_index(folder, {"models": [{"name": name, "path": paths[name]} for name in models], "tests": list(chosen)})
    return folder


def _rows(value: float) -> dict[str, float]:
    return {str(row): value + 0.001 * math.cos(row) for row in range(16)}
