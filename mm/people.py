"""Whom the rows of CLEAR are about, and people who are kept out of training to be the holdout (`exclude_people`).

CLEAR has no people that its base was not trained on. With `exclude_people` a base, its gold and the forget runs leave
some out; evaluation reads who they are in the model's run.json.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import minibench
from unlearn import ROOT
from unlearn.data.sources import load_split
from unlearn.data.texts import missing, same_text
from unlearn.results import read_record

# The images' dataset and its text-only sister, by what their paths end in.
SISTERS = (("therem/CLEAR", "locuslab/TOFU"), ("clear-mini", "tofu-mini"))
# How many rows in a row are about one author: the sister says it by place alone.
_FULL = {"TOFU": 20, "tofu-mini": 8}
_SHORTER = {("tofu-mini", "retain_perturbed"): 4, ("tofu-mini", "retain_tuning_perturbed"): 4}
_OWN = re.compile(
    r"full|forget\d\d(_tuning)?(_perturbed)?|retain(\d\d(_tuning)?|(_tuning)?_perturbed)|holdout\d\d(_perturbed)?"
)

Names = Sequence[str]


def sister_of(path: str) -> str | None:
    """The dataset of questions about the people of `path`, which may be that dataset itself; None where none is
    known."""
    stem = path.rstrip("/")
    for images, texts in SISTERS:
        if stem.endswith((images, texts)):
            return stem.removesuffix(images) + texts if stem.endswith(images) else stem
    return None


def rows_per_author(path: str, split: str) -> int | None:
    """How many rows in a row of the sister's `split` are about one author; None where it is not known."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return _SHORTER.get((name, split), _FULL.get(name)) if _OWN.fullmatch(split) else None


def excluded_of(model_path: str) -> list[str]:
    """`exclude_people` of the run that made a model; empty where no run of this project made it."""
    for folder in (Path(model_path), ROOT / model_path) if model_path else ():
        if (record := read_record(folder)) is not None:
            return list(record.get("settings", {}).get("exclude_people") or ())
    return []


def check_excluded(settings: Any) -> None:
    """ValueError where a forget run leaves out others than the base that it starts from: those would be trained now,
    or have been."""
    ours, theirs = settings.exclude_people, excluded_of(settings.model_path)
    known = any((folder / "run.json").is_file() for folder in (Path(settings.model_path), ROOT / settings.model_path))
    if known and set(map(same_text, ours)) != set(map(same_text, theirs)):
        raise ValueError(
            f"exclude_people={list(ours)}, but {settings.model_path} was made with {theirs}: people are a holdout only "
            "where base, gold and forget run leave out the same. Give this run the list of its base."
        )


def people_of(rows: Any, path: str, names: Names, revision: str | None = None) -> list[str | None]:
    """[rows] which of `names` each row is about, in that spelling; None: of nobody among them.

    By the column `name`; else a picture's caption is looked up in the config `default`, and a question with its answer
    in the sister's `full`, where a person's rows are the block that names it most.
    """
    wanted = {same_text(name): name for name in names}
    if "name" in rows.column_names:
        return [None if missing(name) else wanted.get(same_text(str(name))) for name in rows["name"]]
    columns = rows.column_names
    texts = rows.select_columns([name for name in ("caption", "question", "answer") if name in columns])
    pictured = "image" in columns and all(rows.data.column("image").is_valid().to_pylist())
    captions = _captions(path, wanted, revision) if "caption" in columns else {}
    pairs = _pairs(path, names) if {"question", "answer"} <= set(columns) and not pictured else {}
    if not captions and not pairs:
        return [None] * len(rows)
    return [
        captions.get(str(row.get("caption"))) or pairs.get((str(row.get("question")), str(row.get("answer"))))
        for row in texts
    ]


def rows_about(rows: Any, path: str, names: Names, where: str, revision: str | None = None) -> frozenset[int]:
    """The numbers of the rows about `names`. ValueError: one of them has none."""
    if not names:
        return frozenset()
    whose = people_of(rows, path, names, revision)
    if absent := [name for name in names if name not in whose]:
        raise ValueError(f"exclude_people: {where} has no row about {absent[0]!r}; correct the name, or leave it out.")
    return frozenset(place for place, name in enumerate(whose) if name is not None)


def check_not_forgotten(rows: Any, path: str, names: Names, where: str, revision: str | None = None) -> None:
    """ValueError where somebody who is to be forgotten is excluded."""
    if names and (both := [name for name in people_of(rows, path, names, revision) if name]):
        raise ValueError(f"exclude_people: {both[0]!r} is in {where}, and nobody can be forgotten and held out.")


def chosen_rows(rows: Any, task: Mapping[str, Any], revision: str | None) -> list[int]:
    """The numbers of the rows that a task asks about: those of `only_people`, or all but those of `without_people`.

    ValueError: `only_people` leaves nothing.
    """
    only, without = task.get("only_people"), task.get("without_people")
    if not only and not without:
        return list(range(len(rows)))
    path = task["data_path"]
    whose = people_of(rows, path, only or without or (), revision)
    found = [place for place, name in enumerate(whose) if (name is not None) == bool(only)]
    if not found:
        raise ValueError(
            f"{task['eval_task']}: {path}, split {task['split']} has no row about {', '.join(only or ())}."
        )
    return found


def _captions(path: str, wanted: Mapping[str, str], revision: str | None) -> dict[str, str]:
    named = load_split(str(minibench.ensure_dataset(path)), "default", revision=revision, columns=("caption", "name"))
    texts = named.select_columns(["caption", "name"])
    return {row["caption"]: wanted[name] for row in texts if (name := same_text(str(row["name"]))) in wanted}


def _pairs(path: str, names: Names) -> dict[tuple[str, str], str]:
    """Whom the questions and answers of the sister's `full` are about, for `names`."""
    sister = sister_of(path)
    if sister is None:
        raise ValueError(f"exclude_people: the rows of {path} have questions and no column name that says whom they "
                         "are about; add one.")  # fmt: skip
    rows = load_split(str(minibench.ensure_dataset(sister)), "full", columns=("question", "answer"))
    size = rows_per_author(sister, "full") or len(rows)
    texts = [(str(row["question"]), str(row["answer"])) for row in rows.select_columns(["question", "answer"])]
    blocks = [texts[start : start + size] for start in range(0, len(texts), size)]
    plain = [_plain(" ".join(map(" ".join, block))) for block in blocks]
    found: dict[tuple[str, str], str] = {}
    for name in names:
        counts = [text.count(_plain(name)) for text in plain]
        if not max(counts):
            raise ValueError(f"exclude_people: {sister} names no {name!r}; correct the name, or leave it out.")
        found |= dict.fromkeys(blocks[counts.index(max(counts))], name)
    return found


def _plain(text: str) -> str:
    """Without case, accents and wide spaces: the two datasets spell some names differently."""
    return "".join(one for one in unicodedata.normalize("NFKD", same_text(text)) if not unicodedata.combining(one))
