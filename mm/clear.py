"""CLEAR's rows as samples: an image with its caption under one of nine requests, or a text question with its answer."""

import dataclasses
import re
from typing import Any

import numpy as np

import minibench
from unlearn import ROOT
from unlearn.config.settings import FinetuneSettings, ForgetSettings
from unlearn.data.samples import Sample, read_lines
from unlearn.data.sources import check_disjoint, check_images, load_split, open_image

CAPTION_QUESTIONS = ROOT / "data" / "caption_questions.txt"
FACE_PROMPT = "The name of the person in the picture is"  # the cue of the name tasks
CONTENT = ("image", "caption", "question", "answer")


class ClearSource:
    """One split of CLEAR or TOFU. Image rows are captioned, text rows answered; `id` is `<path>/<split>/<row>`."""

    def __init__(self, rows: Any, name: str, caption_questions: list[str]) -> None:
        self.rows, self.name, self.caption_questions = rows, name, caption_questions
        columns = rows.column_names
        self.images = rows.data.column("image").is_valid().to_pylist() if "image" in columns else [False] * len(rows)
        self.names = rows["name"] if "name" in columns else None

    def __len__(self) -> int:
        return len(self.rows)

    def has_image(self, index: int) -> bool:
        return self.images[index]

    def subject(self, index: int) -> str | None:
        return None if self.names is None else self.names[index]

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Row `index`; the request for a caption is drawn from `rng`."""
        row, where = self.rows[index], f"{self.name}/{index}"
        if self.images[index]:
            question = self.caption_questions[int(rng.integers(len(self.caption_questions)))]
            image = open_image(row["image"], f"row {where}")
            return {"question": question, "answer": row["caption"], "image": image, "id": where}
        return {"question": row["question"], "answer": row["answer"], "image": None, "id": where}

    def check_texts(self) -> None:
        """ValueError that names the first row with neither an image and its caption nor a question and its answer."""
        texts = self.rows.select_columns([name for name in CONTENT[1:] if name in self.rows.column_names])
        for index, row in enumerate(texts):
            if not all(row.get(name) for name in (("caption",) if self.images[index] else ("question", "answer"))):
                lacks = "neither an image with a caption nor a question with an answer"
                raise ValueError(f"Row {self.name}/{index} has {lacks}; remove or mend it.")


def load_clear(path: str, split: str, revision: str | None = None) -> ClearSource:
    """A training split by folder or hub id; the embedded benchmark is built on first use.

    Raises ValueError for an unknown split, missing columns (captions with images, or questions with answers), broken
    images.
    """
    rows = load_split(str(minibench.ensure_dataset(path)), split, revision=revision)
    needed = ("image", "caption") if "image" in rows.column_names else ("question", "answer")
    for column in needed:
        if column not in rows.column_names:
            raise ValueError(
                f"{path}, split {split}: no column {column!r}; its columns are {', '.join(rows.column_names)}."
            )
    check_images(rows, f"{path}, split {split}")
    source = ClearSource(rows, f"{path}/{split}", read_lines(CAPTION_QUESTIONS))
    source.check_texts()
    return source


def finetune_source(settings: FinetuneSettings) -> ClearSource:
    return load_clear(settings.data_path, settings.split, settings.data_revision)


def forget_sources(settings: ForgetSettings) -> tuple[ClearSource, ClearSource | None]:
    """(forget, retain or None without a retain_split). ValueError when they share rows."""
    forget = load_clear(settings.forget_data_path, settings.forget_split, settings.data_revision)
    if settings.retain_split is None:
        return forget, None
    retain = load_clear(settings.retain_data_path, settings.retain_split, settings.data_revision)
    check_disjoint(forget.rows, retain.rows, CONTENT, (settings.forget_split, settings.retain_split))
    return forget, retain


# The images' dataset and its text-only sister, by what their paths end in.
SISTERS = (("therem/CLEAR", "locuslab/TOFU"), ("clear-mini", "tofu-mini"))


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
    size = re.match(r"(forget\d+)", split)
    if size is None:
        raise ValueError(f"modality={settings.modality} needs a forget_split such as forget10, not {split!r}.")
    for images, texts in SISTERS:
        have, want = (images, texts) if settings.modality == "text" else (texts, images)
        if path.rstrip("/").endswith(have):
            path = path.rstrip("/").removesuffix(have) + want
    return dataclasses.replace(
        settings, forget_data_path=path, forget_split=size[1] + "+tofu" * (settings.modality == "both")
    )
