"""Length-normalised probability of the right answer, alone or against wrong answers (TOFU 2024; CLEAR 5.1).

p = exp(-nats per token). Ratios are taken in log space: exp(-loss) of a collapsed model underflows, a ratio does not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def answer_probability(loss: ArrayLike) -> NDArray[np.float64]:
    """exp(-loss) [N] for losses [N] in nats per token."""
    return np.exp(-np.asarray(loss, dtype=np.float64))


def choice_probability(right_loss: ArrayLike, wrong_losses: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """p / (p + sum_k w_k) [N] for losses in nats per token: right [N], wrong N lists of any length >= 1."""
    right = np.asarray(right_loss, dtype=np.float64)
    wrong, _ = pad_losses(wrong_losses, len(right))
    with np.errstate(over="ignore"):  # an infinite odds sum is a probability of 0
        return 1.0 / (1.0 + np.exp(right[:, None] - wrong).sum(axis=1))


def pad_losses(wrong_losses: Sequence[ArrayLike], rows: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """N ragged lists as one array [N, K] padded with +inf (probability 0), and their lengths [N].

    ValueError if there are not `rows` lists or one is empty.
    """
    lists = [np.asarray(losses, dtype=np.float64).ravel() for losses in wrong_losses]
    lengths = np.array([losses.size for losses in lists], dtype=np.int64)
    if len(lists) != rows:
        raise ValueError(f"{len(lists)} lists of wrong answers for {rows} right answers")
    if not lengths.all():
        raise ValueError(f"item {int(np.argmin(lengths))} has no wrong answer: nothing to compare the right one with")
    padded = np.full((rows, int(lengths.max(initial=0))), np.inf)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate([*lists, np.empty(0)])
    return padded, lengths
