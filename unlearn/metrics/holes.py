"""Knowledge holes: does a model lose more of what stands near the forgotten rows than of the rest it should keep?

Nearness is the cosine to the closest forget row, of TF-IDF vectors of the texts (or any other features).
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAREST = 10  # the nearest 1 / 10 of the rows

Floats = NDArray[np.float64]


def tfidf(texts: Sequence[str]) -> Floats:
    """[N, words] of unit length: counts of words (\\w+, lower case) times ln((1 + N) / (1 + rows with it)) + 1; zeros
    for a text without a word."""
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    words = {word: place for place, word in enumerate(sorted(set().union(*counts)))}
    table = np.zeros((len(texts), len(words)))
    for row, own in enumerate(counts):
        table[row, [words[word] for word in own]] = list(own.values())
    table *= np.log((1 + len(texts)) / (1 + (table > 0).sum(0))) + 1
    return _unit(table)


def nearness(rows: ArrayLike, forget: ArrayLike) -> Floats:
    """[N]: the largest cosine of each of `rows` [N, d] with one of `forget` [F, d]."""
    return (_unit(rows) @ _unit(forget).T).max(axis=1)


def nearest(near: ArrayLike) -> NDArray[np.bool_]:
    """[N] which rows are the tenth (at least one) with the largest nearness; of equal ones the first."""
    values = np.asarray(near, dtype=np.float64)
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(-values, kind="stable")[: max(1, len(values) // NEAREST)]] = True
    return chosen


def knowledge_hole(drop: ArrayLike, near: ArrayLike) -> float | None:
    """Mean drop [N] of the rows nearest to a forget row minus that of the rest; None for fewer than two rows."""
    values, chosen = np.asarray(drop, dtype=np.float64), nearest(near)
    return float(values[chosen].mean() - values[~chosen].mean()) if len(values) > 1 else None


def _unit(rows: ArrayLike) -> Floats:
    table = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)
