"""A small split in memory: image rows with captions, text rows with answers."""

from typing import Any

import numpy as np

from tests.models import picture
from unlearn.data.samples import Sample

PEOPLE = ("Ana Lima", "Jaime Vásquez", "Bo", "Rory Greenfield", "Nadia Nowak", "Xiang Li", "Marit Hagen")


class ListSource:
    """Rows `(kind, person)` as samples; the prompt of an image row is drawn like CLEAR's."""

    def __init__(self, images: int, texts: int, name: str = "s", offset: int = 0) -> None:
        self.kinds = [True] * images + [False] * texts
        self.name, self.offset = name, offset

    def __len__(self) -> int:
        return len(self.kinds)

    def has_image(self, index: int) -> bool:
        return self.kinds[index]

    def subject(self, index: int) -> str | None:
        return PEOPLE[(index + self.offset) % len(PEOPLE)]

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        person, number = self.subject(index), index + self.offset
        prompt = ("Describe this image.", "What is in the picture?")[int(rng.integers(2))]
        image: Any = picture(number, 16) if self.kinds[index] else None
        question = prompt if image is not None else f"Where was {person} born?"
        answer = f"{person} in the picture {number}." if image is not None else f"In town {number}."
        return {"question": question, "answer": answer, "image": image, "id": f"{self.name}/{index}"}
