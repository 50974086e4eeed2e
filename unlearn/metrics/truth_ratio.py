"""Truth ratio R = mean_k w_k / c: how likely the wrong answers are beside the base answer (TOFU 2024; CLEAR 5.1).

w_k, c: length-normalised probabilities. Near 0 the model knows the fact, near 1 it cannot tell, above 1 it is wrong.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from unlearn.metrics.probability import pad_losses


def truth_ratio(
    base_loss: ArrayLike, wrong_losses: Sequence[ArrayLike], *, mean: str = "arithmetic"
) -> NDArray[np.float64]:
    """R [N] from losses in nats per token: base answers [N], wrong answers N lists of any length >= 1.

    `mean` over the wrong probabilities: "arithmetic" (the paper) or "geometric" (exp of the mean log: released nlp).
    Finite for a collapsed model (60 against 61 nats give e^-1); overflows to inf beyond 709 nats of difference.
    """
    base = np.asarray(base_loss, dtype=np.float64)
    wrong, lengths = pad_losses(wrong_losses, len(base))
    if mean == "arithmetic":
        log_mean = logsumexp(-wrong, axis=1) - np.log(lengths)
    elif mean == "geometric":
        log_mean = -np.where(np.arange(wrong.shape[1]) < lengths[:, None], wrong, 0.0).sum(axis=1) / lengths
    else:
        raise ValueError(f"mean={mean!r}: expected arithmetic or geometric")
    with np.errstate(over="ignore"):
        return np.exp(log_mean + base)


def knowledge(R: ArrayLike) -> NDArray[np.float64]:
    """max(0, 1 - R) [N]: 1 where the model knows the fact, 0 where the wrong answers are as likely."""
    return np.maximum(0.0, 1.0 - np.asarray(R, dtype=np.float64))


def knowledge_score(R: ArrayLike) -> float:
    """Mean of max(0, 1 - R) over items: higher = more knowledge."""
    return float(np.mean(knowledge(R)))


def closeness_score(R: ArrayLike) -> float:
    """Mean of min(R, 1/R) over items: 1 where right and wrong cannot be told apart (released forget score)."""
    R = np.asarray(R, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        return float(np.mean(np.minimum(R, 1.0 / R)))
