"""Perturbed inputs that a teacher is shown: a flipped, cropped, recoloured picture or a question without the name
(`twins`), or noise for a picture (`vgid`)."""

import re
from typing import Any

import numpy as np

from unlearn.data.samples import Sample

CAPITALISED = re.compile(r"\b[A-ZÀ-ÖØ-Þ][\w'’-]*(?:\s+[A-ZÀ-ÖØ-Þ][\w'’-]*)*")


def augmented(sample: Sample, name: str | None, rng: np.random.Generator, epoch: int) -> Sample:
    """The sample with its picture perturbed; without one, with a question that does not say the name."""
    marked = f"{sample['id']} (augmented, epoch {epoch})"
    if sample["image"] is None:
        return {**sample, "question": drop_name(sample["question"], name), "id": marked}
    return {**sample, "image": augment_image(sample["image"], rng), "id": marked}


def noised(sample: Sample, prefix: str, rng: np.random.Generator, epoch: int) -> Sample:
    """The sample with noise for its picture, where it has one, and the prefix before its question."""
    asked = " ".join(filter(None, (prefix, sample["question"])))
    if sample["image"] is None:
        return {**sample, "question": asked}
    marked = f"{sample['id']} (noise, epoch {epoch})"
    return {**sample, "question": asked, "image": noise_image(sample["image"], rng), "id": marked}


def augment_image(image: Any, rng: np.random.Generator) -> Any:
    """A mirrored PIL image of the same size, cropped to 85-100 % of each side, with brightness and colour scaled by
    0.8-1.2."""
    from PIL import Image, ImageEnhance, ImageOps

    width, height = image.size
    scale = rng.uniform(0.85, 1.0)
    crop_w, crop_h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = int(rng.integers(width - crop_w + 1)), int(rng.integers(height - crop_h + 1))
    image = ImageOps.mirror(image).crop((left, top, left + crop_w, top + crop_h))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.8, 1.2))


def noise_image(image: Any, rng: np.random.Generator) -> Any:
    """An RGB picture of the same size, each of its values drawn from 0 to 255, all equally likely."""
    from PIL import Image

    return Image.fromarray(rng.integers(0, 256, (image.height, image.width, 3), dtype=np.uint8))


def drop_name(question: str, name: str | None) -> str:
    """The question without the author's name; where no name is known, without the longest capitalised run after its
    first word ("Did Jaime Vásquez write?" -> "Did write?"); unchanged when there is none."""
    if name and name in question:
        return _tidy(question.replace(name, ""))
    first = re.match(r"\s*\S+", question)
    runs = list(CAPITALISED.finditer(question, first.end() if first else 0))
    if not runs:
        return question
    longest = max(runs, key=lambda match: match.end() - match.start())
    return _tidy(question[: longest.start()] + question[longest.end() :])


def _tidy(text: str) -> str:
    return re.sub(r"\s+([?.!,;:])", r"\1", re.sub(r"\s{2,}", " ", text)).strip()
