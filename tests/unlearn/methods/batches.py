"""Random views as plain rows of numbers, and their packing into `Scored` with any padding around them."""

import math
import random
from dataclasses import dataclass

import torch

from unlearn.scoring import IGNORE_INDEX, Scored

VOCABULARY, WIDTH = 6, 4
ANSWERS = {
    "forget": 3, "retain": 5, "idk": 7, "random": 11, "augmented": 3, "noised": 3, "relabelled": 3, "alternate": 13,
    "anchor": 17, "corrupted": 19,
}  # fmt: skip  # same seed: same answers


@dataclass
class Row:
    logits: list[list[float]]  # [n, V]
    labels: list[int]  # [n]
    hidden: list[list[float]]  # [m, D]


def make_rows(view, *, batch=3, seed=0) -> list[Row]:
    """`batch` items of uneven length, answer-major. `seed` draws the numbers, the view's name the answers."""
    answers, numbers = random.Random(ANSWERS[view.name]), random.Random(seed * 100 + ANSWERS[view.name])
    rows = []
    for _ in range(batch * view.k):
        length, states = answers.randint(1, 4), answers.randint(1, 4)
        rows.append(
            Row(
                [[numbers.gauss(0, 1.5) for _ in range(VOCABULARY)] for _ in range(length)],
                [answers.randrange(VOCABULARY) for _ in range(length)],
                [[numbers.gauss(0, 1) for _ in range(WIDTH)] for _ in range(states)],
            )
        )
    return rows


def pack(rows: list[Row], *, left=0, right=0, fill=0.0) -> Scored:
    """Right-aligned rows with `left` and `right` extra positions; unscored logits and hidden states hold `fill`."""
    length = left + right + max(len(r.labels) for r in rows)
    states = left + right + max(len(r.hidden) for r in rows)
    logits = torch.full((len(rows), length, VOCABULARY), fill)
    labels = torch.full((len(rows), length), IGNORE_INDEX)
    hidden = torch.full((len(rows), states, WIDTH), fill)
    mask = torch.zeros(len(rows), states, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = slice(length - right - len(row.labels), length - right)
        logits[i, at], labels[i, at] = torch.tensor(row.logits), torch.tensor(row.labels)
        at = slice(states - right - len(row.hidden), states - right)
        hidden[i, at], mask[i, at] = torch.tensor(row.hidden), True
    return Scored(logits, labels, hidden, mask)


def views_of(method, *, batch=3, student_seed=1, teacher_seed=2):
    """(student rows, teacher rows) by view name, for everything `method` declares."""
    student = {v.name: make_rows(v, batch=batch, seed=student_seed) for v in method.student_views}
    teacher = {v.name: make_rows(v, batch=batch, seed=teacher_seed) for v in method.teacher_views}
    return student, teacher


def pack_all(views, **padding):
    return {name: pack(rows, **padding) for name, rows in views.items()}


def require_grad(views):
    """Logits and hidden states of every view as leaves that want a gradient; the list of leaves beside the views."""
    wanting = {
        name: Scored(s.logits.requires_grad_(), s.labels, s.hidden.requires_grad_(), s.hidden_mask)
        for name, s in views.items()
    }
    return wanting, [t for s in wanting.values() for t in (s.logits, s.hidden)]


def total(parts) -> torch.Tensor:
    return torch.stack(list(parts.values())).sum()


def reorder(rows, order, k=1):
    """Items in another order, each with all of its k answers."""
    items = len(rows) // k
    return [rows[answer * items + item] for answer in range(k) for item in order]


def from_probabilities(rows, labels) -> Scored:
    """Scored rows whose softmax is exactly the given probabilities."""
    return Scored(torch.tensor(rows).log(), torch.tensor(labels))


NAN = math.nan
