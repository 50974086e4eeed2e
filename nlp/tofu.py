"""TOFU's rows as samples, a question with its answer, and the published flat keys (`split`, `data_path`) as
settings."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

import minibench
from unlearn.config.settings import FinetuneSettings, ForgetSettings
from unlearn.data.samples import Sample
from unlearn.data.sources import check_disjoint, load_split
from unlearn.data.texts import missing, one_text

CONTENT = ("question", "answer")
# How many rows in a row are about one author, in the perturbed splits: TOFU says it by place alone.
ROWS_PER_AUTHOR = {
    "TOFU": {"retain": 20, "forget": 20, "holdout": 20}, "tofu-mini": {"retain": 4, "forget": 8, "holdout": 8},
}  # fmt: skip


class TofuSource:
    """One split of TOFU; `id` is `<split>/<row>`. A `name` column, where there is one, tells whom a row is about."""

    def __init__(self, rows: Any, name: str) -> None:
        self.name = name
        self.questions, self.answers = list(rows["question"]), list(rows["answer"])
        self.names: list[Any] | None = list(rows["name"]) if "name" in rows.column_names else None
        for index, pair in enumerate(zip(self.questions, self.answers, strict=True)):
            if any(map(missing, pair)):
                raise ValueError(f"Row {name}/{index} lacks a question or an answer; remove or mend it.")
            for column, cell in zip(CONTENT, pair, strict=True):
                one_text(cell, f"Row {name}/{index}: {column}")

    def __len__(self) -> int:
        return len(self.questions)

    def has_image(self, index: int) -> bool:
        return False

    def subject(self, index: int) -> str | None:
        return None if self.names is None or missing(self.names[index]) else str(self.names[index])

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Row `index`; nothing about a text row is drawn."""
        where = f"{self.name}/{index}"
        return {"question": self.questions[index], "answer": self.answers[index], "image": None, "id": where}


def load_rows(path: str, split: str, revision: str | None, columns: tuple[str, ...] = CONTENT) -> Any:
    """The rows of a split by folder or hub id, `columns` checked; the embedded benchmark is built on first use.
    ValueError for a row with a picture, which a text model cannot see."""
    rows = load_split(str(minibench.ensure_dataset(path)), split, revision=revision, columns=columns)
    if "image" in rows.column_names:
        pictured = rows.data.column("image").is_valid().to_pylist()
        if any(pictured):
            raise ValueError(
                f"Row {pictured.index(True)} of {path}, split {split} has a picture, and nlp/ trains and asks without "
                "pictures; use the mm/ scripts, or remove the column image."
            )
    return rows


def finetune_source(settings: FinetuneSettings) -> TofuSource:
    """The split to finetune on. ValueError: no such dataset or split, a missing column, an empty cell."""
    return TofuSource(load_rows(settings.data_path, settings.split, settings.data_revision), settings.split)


def forget_sources(settings: ForgetSettings) -> tuple[TofuSource, TofuSource | None]:
    """(forget, retain or None without a retain_split). ValueError as for finetuning, or when the two share rows."""
    forget = load_rows(settings.forget_data_path, settings.forget_split, settings.data_revision)
    if settings.retain_split is None:
        return TofuSource(forget, settings.forget_split), None
    retain = load_rows(settings.retain_data_path, settings.retain_split, settings.data_revision)
    check_disjoint(forget, retain, CONTENT, (settings.forget_split, settings.retain_split))
    return TofuSource(forget, settings.forget_split), TofuSource(retain, settings.retain_split)


def rows_per_author(path: str, split: str) -> int | None:
    """For the perturbed splits of TOFU and of the embedded benchmark, and the holdout; None where it is not known."""
    kind = re.fullmatch(r"(retain|forget\d\d)(?:_tuning)?_perturbed|(holdout)\d\d(_perturbed)?", split)
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return ROWS_PER_AUTHOR.get(name, {}).get((kind[1] or kind[2])[:7].rstrip("0123456789")) if kind else None


def forget_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat keys of config/nlp/forget.yaml as those of ForgetSettings.

    `split` is the forget split; the retain split follows as retain(100 - NN), unless `retain_split` names another.
    `data_path` holds both. The published config knows no `l_norm_from`; its L1 is of the change. ValueError where no
    retain split follows.
    """
    values = dict(config)
    split, path = values.pop("split"), values.pop("data_path")
    retain = values.pop("retain_split", None) or retain_split(split)
    return {
        **values, "forget_split": split, "retain_split": retain, "forget_data_path": path, "retain_data_path": path,
        "modality": "text", "l_norm_from": values.get("l_norm_from", "init"),
    }  # fmt: skip


def retain_split(split: str) -> str:
    """`retain90` for `forget10`. ValueError for a name that says no size."""
    size = re.fullmatch(r"forget(\d\d)(_tuning)?", str(split))
    if size is None:
        raise ValueError(
            f"split={split!r} is not a forget split such as forget10; set retain_split to what goes with it."
        )
    return f"retain{100 - int(size[1]):02d}{size[2] or ''}"
