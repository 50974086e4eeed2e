"""How much of an answer a model has by heart, teacher-forced (no generation), and how its right answer ranks.

ES: extraction strength (Carlini et al. 2021, in the form of open-unlearning); EM: exact memorisation (Tirumala et al.
2022). `hits` are per answer token whether the argmax is the token, the end token left out by the caller: it is trivial
and inflates both. Published ES never reaches k = |y|: it gives 1 / |y| after a wrong last token.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def extraction_strength(hits: Sequence[ArrayLike]) -> list[float | None]:
    """The trailing run of hits over the tokens, per answer, in [0, 1]; None for an answer without a token.

    Args:
        hits: N bool arrays of any length.
    """
    return [None if not len(row) else _trailing_run(row) / len(row) for row in map(_bools, hits)]


def exact_memorisation(hits: Sequence[ArrayLike]) -> list[float | None]:
    """The share of tokens that are hits, per answer, in [0, 1]; never below ES. None for an answer without a token."""
    return [None if not len(row) else float(row.mean()) for row in map(_bools, hits)]


def choice_rank(right_loss: ArrayLike, wrong_losses: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """[N]: 1 + the wrong answers with a lower loss + half of those with an equal one (nats per token).

    Raises:
        ValueError: another number of wrong lists than of right losses.
    """
    right = np.asarray(right_loss, dtype=np.float64)
    if len(right) != len(wrong_losses):
        raise ValueError(f"{len(right)} right losses for {len(wrong_losses)} lists of wrong ones")
    ranks = []
    for own, others in zip(right, wrong_losses, strict=True):
        wrong = np.asarray(others, dtype=np.float64)
        ranks.append(1.0 + np.sum(wrong < own) + 0.5 * np.sum(wrong == own))
    return np.array(ranks, dtype=np.float64)


def exposure(right_loss: ArrayLike, wrong_losses: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """[N]: log2(K + 1) - log2(rank) bits (Carlini et al. 2019): log2(K + 1) for the best of K + 1, 0 for the last."""
    candidates = np.array([len(np.asarray(wrong)) + 1 for wrong in wrong_losses], dtype=np.float64)
    return np.log2(candidates) - np.log2(choice_rank(right_loss, wrong_losses))


def _bools(row: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(row, dtype=bool).reshape(-1)


def _trailing_run(row: NDArray[np.bool_]) -> int:
    misses = np.flatnonzero(~row)
    return len(row) - 1 - int(misses[-1]) if len(misses) else len(row)
