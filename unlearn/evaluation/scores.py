"""What is read off an answer's logits, in fp32 and a row [T, V] at a time: its loss, and the scores of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TokenScores:
    """The tokens of one answer, the end token last; lists of equal length.

    `logps`: ln p of the token; `hits`: whether it is the argmax (the first, where several logits are the largest:
    a collapsed model would know everything otherwise); `means`, `variances`: of ln p under the model's own prediction
    there, sum_v p ln p and sum_v p (ln p)^2 - mean^2, with 0 ln 0 = 0.
    """

    logps: list[float]
    hits: list[bool]
    means: list[float]
    variances: list[float]


@dataclass(frozen=True)
class AnswerScore:
    """`loss`: -log p of an answer given its prompt, in nats, summed over its `tokens` tokens (the end token is one).
    `by_token`: where it was asked for; -sum(by_token.logps) is `loss`."""

    loss: float
    tokens: int
    by_token: TokenScores | None = None


def token_scores(logits: Tensor, ids: Sequence[int]) -> TokenScores:
    """The scores of the tokens `ids` [T] that the logits [T, V] predict."""
    labels = torch.tensor(ids, device=logits.device)
    logp = torch.log_softmax(logits.float(), dim=-1)
    p = logp.exp()
    means = torch.where(p > 0, p * logp, 0).sum(-1)
    # about the mean, not E[x^2] - mean^2: no cancellation, and never below 0
    variances = torch.where(p > 0, p * (logp - means[:, None]).square(), 0).sum(-1)
    return TokenScores(
        logps=logp.gather(-1, labels[:, None])[:, 0].tolist(),
        hits=(logits.argmax(-1) == labels).tolist(),  # torch.argmax takes the first of equal values
        means=means.tolist(),
        variances=variances.tolist(),
    )


def row_losses(logits: Tensor, labels: Tensor, spans: Sequence[slice]) -> list[float]:
    """-log p summed over a span of each row; a row at a time, so that one [T, V] is upcast, not the batch."""
    rows = zip(logits, labels, spans, strict=True)
    sums = [
        F.cross_entropy(row[span].float(), label[span], reduction="none").double().sum() for row, label, span in rows
    ]
    return torch.stack(sums).tolist()
