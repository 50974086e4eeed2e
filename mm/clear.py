"""CLEAR's rows as samples: an image with its caption under one of nine requests, or a question with its answer, about
the row's image where it has one. A row with both is two samples."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

import minibench
from mm.people import SISTERS, check_excluded, check_not_forgotten, rows_about
from unlearn import ROOT
from unlearn.config.settings import FinetuneSettings, ForgetSettings
from unlearn.data.pictures import check_images, open_image
from unlearn.data.samples import Sample, read_lines
from unlearn.data.sources import check_disjoint, load_split
from unlearn.data.texts import missing, one_text

CAPTION_QUESTIONS = ROOT / "data" / "caption_questions.txt"
FACE_PROMPT = "The name of the person in the picture is"  # the cue of the name tasks
CAPTION, QUESTION = ("caption",), ("question", "answer")  # the texts of the two kinds of sample


class ClearSource:
    """One split of CLEAR or TOFU. `id` is `<path>/<split>/<row>`, and `<path>/<split>/<row>/question` for the question
    of a row that has a caption too, whose samples follow one another. The rows `left_out` give none.

    Raises ValueError that names the first row with nothing to learn, half a sample, or a cell that is no text.
    """

    def __init__(
        self, rows: Any, name: str, caption_questions: list[str], left_out: frozenset[int] = frozenset()
    ) -> None:
        self.rows, self.name, self.caption_questions = rows, name, caption_questions
        self.word_lists = {"caption questions": caption_questions}
        columns = rows.column_names
        self.images = rows.data.column("image").is_valid().to_pylist() if "image" in columns else [False] * len(rows)
        self.names = rows["name"] if "name" in columns else None
        texts = rows.select_columns([column for column in CAPTION + QUESTION if column in columns])
        kinds = [self._kinds(row, cells) for row, cells in enumerate(texts)]
        self.samples = [(row, kind) for row, own in enumerate(kinds) for kind in own if row not in left_out]

    def __len__(self) -> int:
        return len(self.samples)

    def has_image(self, index: int) -> bool:
        return self.images[self.samples[index][0]]

    def subject(self, index: int) -> str | None:
        name = None if self.names is None else self.names[self.samples[index][0]]
        return None if missing(name) else str(name)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Sample `index`; the request for a caption is drawn from `rng`."""
        number, kind = self.samples[index]
        row, where = self.rows[number], f"{self.name}/{number}"
        image = open_image(row["image"], f"row {where}") if self.images[number] else None
        if kind == CAPTION:
            question = self.caption_questions[int(rng.integers(len(self.caption_questions)))]
            return {"question": question, "answer": row["caption"], "image": image, "id": where}
        second = index > 0 and self.samples[index - 1][0] == number
        return {"question": row["question"], "answer": row["answer"], "image": image,
                "id": f"{where}/question" if second else where}  # fmt: skip

    def _kinds(self, row: int, cells: dict[str, Any]) -> list[tuple[str, ...]]:
        """Which samples a row holds."""
        there = [column for column, cell in cells.items() if not missing(cell)]
        kinds: list[tuple[str, ...]] = [kind for kind in (CAPTION, QUESTION) if set(kind) <= {*there}]
        if not self.images[row] and CAPTION in kinds:
            kinds.remove(CAPTION)
        if not kinds:
            lacks = "neither an image with a caption nor a question with an answer"
            raise ValueError(f"Row {self.name}/{row} has {lacks}; remove or mend it.")
        if left := [column for column in there if not any(column in kind for kind in kinds)]:
            rest = {"caption": "an image", "question": "an answer", "answer": "a question"}[left[0]]
            raise ValueError(f"Row {self.name}/{row} has a text in {left[0]} but not {rest} to go with it; mend it.")
        for column in there:
            one_text(cells[column], f"Row {self.name}/{row}: {column}")
        return kinds


def load_clear(path: str, split: str, revision: str | None = None, without: Sequence[str] = ()) -> ClearSource:
    """A training split by folder or hub id, but the rows about the people `without`; the embedded benchmark is built on
    first use.

    Raises ValueError for an unknown split, missing columns (captions with images, or questions with answers), broken
    images, rows that are no sample, somebody to leave out who is not there.
    """
    rows = load_split(str(minibench.ensure_dataset(path)), split, revision=revision)
    columns = rows.column_names
    asks = "image" not in columns or ("caption" not in columns and ({*QUESTION} & {*columns}))
    for column in QUESTION if asks else CAPTION:
        if column not in columns:
            raise ValueError(f"{path}, split {split}: no column {column!r}; its columns are {', '.join(columns)}.")
    check_images(rows, f"{path}, split {split}")
    left_out = rows_about(rows, path, without, f"{path}, split {split}", revision)
    return ClearSource(rows, f"{path}/{split}", read_lines(CAPTION_QUESTIONS), left_out)


def finetune_source(settings: FinetuneSettings) -> ClearSource:
    return load_clear(settings.data_path, settings.split, settings.data_revision, settings.exclude_people)


def forget_sources(settings: ForgetSettings) -> tuple[ClearSource, ClearSource | None]:
    """(forget, retain or None without a retain_split). ValueError when they share rows, or where `exclude_people` is
    not that of the start model or names somebody who is to be forgotten."""
    check_excluded(settings)
    names, revision = settings.exclude_people, settings.data_revision
    forget = load_clear(settings.forget_data_path, settings.forget_split, revision)
    check_not_forgotten(forget.rows, settings.forget_data_path, names, settings.forget_split, revision)
    if settings.retain_split is None:
        return forget, None
    retain = load_clear(settings.retain_data_path, settings.retain_split, revision, names)
    kinds = [("image", *CAPTION), ("image", *QUESTION)]
    check_disjoint(forget.rows, retain.rows, kinds, (settings.forget_split, settings.retain_split))
    return forget, retain


def with_modality(settings: ForgetSettings) -> ForgetSettings:
    """`modality` spelled out as the published keys: text is TOFU's forgetNN, visual CLEAR's forgetNN, both
    forgetNN+tofu.

    Without `modality`, it is read off the keys, so that every run's record says it.
    """
    path, split = settings.forget_data_path, settings.forget_split
    if settings.modality is None:
        text = "tofu" in path.rstrip("/").rsplit("/", 1)[-1].lower()
        return dataclasses.replace(
            settings, modality="text" if text else "both" if split.endswith("+tofu") else "visual"
        )
    size = re.match(r"(forget\d+(?:_tuning)?)", split)
    if size is None:
        raise ValueError(f"modality={settings.modality} needs a forget_split such as forget10, not {split!r}.")
    for images, texts in SISTERS:
        have, want = (images, texts) if settings.modality == "text" else (texts, images)
        if path.rstrip("/").endswith(have):
            path = path.rstrip("/").removesuffix(have) + want
    return dataclasses.replace(
        settings, forget_data_path=path, forget_split=size[1] + "+tofu" * (settings.modality == "both")
    )
