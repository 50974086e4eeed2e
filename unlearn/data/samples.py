"""What one example is, how its identity is computed, and the prompts that examples share."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np

from unlearn import ROOT

REFUSALS = ROOT / "data" / "idontknow.jsonl"  # the bank of refusals, one a line


class Sample(TypedDict):
    """One question with its answer. `image` is a PIL picture, or None for text; a list of answers means K
    alternatives. `id` names the picture: processed pictures are kept by it. `labels`: a text whose tokens take the
    place of the answer's labels. `prefill`: how the model's turn begins already; the answer follows it."""

    question: str
    answer: str | list[str]
    image: Any
    id: str
    labels: NotRequired[str]
    prefill: NotRequired[str]


class SampleSource(Protocol):
    """A split seen as examples: rows by number, in a fixed order, each rendered with the draws of `rng`."""

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: np.random.Generator) -> Sample: ...

    def has_image(self, index: int) -> bool: ...

    def subject(self, index: int) -> str | None:
        """The person a row is about, where the row says so; None otherwise."""


class PartOfSource:
    """A seeded share of a split's rows in their own order. Of one seed the smaller shares lie within the larger
    ones."""

    def __init__(self, source: SampleSource, fraction: float, seed: int) -> None:
        self.source = source
        shuffled = np.random.default_rng(seed).permutation(len(source))
        self.rows = sorted(int(row) for row in shuffled[: round(fraction * len(source))])
        self.word_lists = getattr(source, "word_lists", {})

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        return self.source.sample(self.rows[index], rng)

    def has_image(self, index: int) -> bool:
        return self.source.has_image(self.rows[index])

    def subject(self, index: int) -> str | None:
        return self.source.subject(self.rows[index])


def part_of(source: SampleSource, fraction: float, seed: int) -> SampleSource:
    """`source` itself for a fraction of 1. ValueError outside (0, 1], or where no row is left."""
    if not 0 < fraction <= 1:
        raise ValueError(f"data_fraction={fraction:g} must be above 0 and at most 1.")
    if fraction == 1:
        return source
    part = PartOfSource(source, fraction, seed)
    if not len(part):
        raise ValueError(f"data_fraction={fraction:g} leaves none of {len(source)} rows; raise it.")
    return part


def draw(*key: int) -> np.random.Generator:
    """The generator of one place in a run, e.g. `draw(seed, epoch, index, purpose)`: the same on every worker and
    rank."""
    return np.random.default_rng([abs(int(part)) for part in key])


def read_lines(path: str | Path) -> list[str]:
    """The non-empty lines of a text file, stripped. ValueError if it is missing or has none."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a text file with one entry a line.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"{path} holds no line of text; give it one entry a line.")
    return lines


def stable_choice(options: Sequence[str], key: str) -> str:
    """One of `options`, fixed by `key` alone: an evaluated item meets the same prompt in every run and for every
    answer."""
    digest = hashlib.sha256(key.encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


KEY_BYTES = 16


@dataclass(frozen=True)
class EvalItem:
    """One question with the answers it is scored on. `sample["answer"]` is the exact answer, as the dataset has it;
    `keywords`: words that a right generation holds, where the dataset lists them.

    `compared`: the right answer competes with wrong ones; False for all items of a task without wrong answers.
    """

    row_id: str
    sample: Sample
    base_answer: str
    wrong_answers: list[str]
    author: str | None = None
    keywords: tuple[str, ...] = ()
    compared: bool = True
