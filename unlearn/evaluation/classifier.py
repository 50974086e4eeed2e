"""Whether a prompt asks for what shall be forgotten: a kernel classifier over its words and its picture's features.

Words and pairs of words are hashed into a fixed number of places and compared by their inner product; pictures, by the
mean of the features that the model's own encoder makes of each, are alike where they are near one another (a person's
pictures are; no plane parts 3 people from 57). A logistic regression with class weights over these likenesses, in fp64,
takes seconds, needs no download and is the same in every run; it stands in for a finetuned text encoder
(docs/fidelity.md).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearn.data.collator import Collator, Prompt
from unlearn.evaluation.prefix import to_model
from unlearn.models import compat
from unlearn.models.families import inner_model

PLACES = 4096
RIDGE = 1e-9  # weight of the squared weights: the threshold asks for near certainty
NEAR = 16.0  # likeness of two pictures: exp(-NEAR d^2 / median d^2)


def word_features(question: str) -> Tensor:
    """fp64 [PLACES] of length 1 (0 without words): which words and pairs of neighbours there are, in any letter
    case."""
    words = re.findall(r"\w+", question.casefold())
    found = torch.zeros(PLACES, dtype=torch.float64)
    for term in {*words, *map(" ".join, zip(words, words[1:], strict=False))}:
        found[int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big") % PLACES] = 1
    return F.normalize(found, dim=0)


@torch.no_grad()
def picture_features(model: Any, collator: Collator, prompts: Sequence[Prompt]) -> list[Tensor | None]:
    """fp64 [d] of each prompt's picture, the mean over its tokens; None for a prompt without one."""
    shown = [prompt for prompt in prompts if prompt.image_inputs]
    if not shown:
        return [None] * len(prompts)
    inputs = to_model(model, collator.pad([(prompt, ()) for prompt in shown])["inputs"])
    encode = inner_model(model).model.get_image_features
    taken = compat.arguments(encode) - {"attention_mask"}
    output = encode(**{name: value for name, value in inputs.items() if name in taken}, return_dict=True)
    means = iter([part.double().flatten(0, -2).mean(0).cpu() for part in output.pooler_output])
    return [next(means) if prompt.image_inputs else None for prompt in prompts]


def check_pictures(model: Any) -> None:
    """ValueError for a model whose picture features cannot be asked for."""
    inner = inner_model(model)
    if not hasattr(getattr(inner, "model", None), "get_image_features"):
        raise ValueError(f"eco needs the features of pictures, which {type(inner).__name__} does not give; drop eco.")


@dataclass(frozen=True)
class Rows:
    """Prompts as numbers, fp64: words [n, PLACES], standardised pictures [n, d], and who has one [n] bool."""

    words: Tensor
    pictures: Tensor
    shown: Tensor


@dataclass(frozen=True)
class Classifier:
    """`strengths` [n] of the training rows; `mean`, `scale` of their pictures' features; `width`: median d^2 of two."""

    rows: Rows
    strengths: Tensor
    mean: Tensor
    scale: Tensor
    width: Tensor

    @classmethod
    def fit(cls, words: Sequence[Tensor], pictures: Sequence[Tensor | None], forget: Tensor) -> "Classifier":
        """From the words and pictures of the training rows, and which of them are to be forgotten: [n] bool."""
        known = torch.stack([one for one in pictures if one is not None] or [torch.zeros(0, dtype=torch.float64)])
        mean = known.mean(0)
        scale = (known - mean).square().mean(0).sqrt().clamp(min=1e-6)
        rows = _rows(words, pictures, mean, scale)
        apart = torch.cdist(rows.pictures[rows.shown], rows.pictures[rows.shown]).square()
        width = apart.median().clamp(min=1e-6) if apart.numel() else torch.tensor(1.0)
        values, axes = torch.linalg.eigh(_likeness(rows, rows, width))
        kept = values > 1e-9 * values.max()
        axes, lengths = axes[:, kept], values[kept].sqrt()
        found = _regression(axes * lengths, forget)
        return cls(rows, axes / lengths @ found, mean, scale, width)

    def probabilities(self, questions: Sequence[str], pictures: Sequence[Tensor | None]) -> list[float]:
        """Of each prompt, that it asks for what shall be forgotten."""
        rows = _rows([word_features(question) for question in questions], pictures, self.mean, self.scale)
        return torch.sigmoid(_likeness(rows, self.rows, self.width) @ self.strengths).tolist()


def _regression(rows: Tensor, forget: Tensor) -> Tensor:
    """Weights [d] of a logistic regression over rows [n, d], both classes counting alike."""
    weight = torch.where(forget, 0.5 / forget.sum(), 0.5 / (~forget).sum())
    found = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        wrong = F.binary_cross_entropy_with_logits(rows @ found, forget.double(), reduction="none")
        value = (weight * wrong).sum() + RIDGE * found.square().sum()
        value.backward()
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return found.detach()


def _rows(words: Sequence[Tensor], pictures: Sequence[Tensor | None], mean: Tensor, scale: Tensor) -> Rows:
    standard = [torch.zeros_like(mean) if one is None else (one - mean) / scale for one in pictures]
    return Rows(torch.stack(list(words)), torch.stack(standard), torch.tensor([one is not None for one in pictures]))


def _likeness(one: Rows, other: Rows, width: Tensor) -> Tensor:
    """[n, m]: 1 (for the bias), the words' inner product and the pictures' likeness, added up."""
    near = torch.exp(-NEAR * torch.cdist(one.pictures, other.pictures).square() / width)
    return 1 + one.words @ other.words.T + near * (one.shown[:, None] & other.shown)
