"""What a method sees of one view: logits that already line up with the labels they predict.

Everything here is shifted and masked once, so that a loss cannot get it wrong again. Only scored positions (answer
tokens, never prompt, image or padding) count: the rest may hold anything, NaN included, and gets an exactly zero
gradient.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.vocabulary import token_logps

IGNORE_INDEX = -100


def readable(tensor: Tensor) -> bool:
    """Whether its values can be looked at for free: on an accelerator a look makes the step wait for the device."""
    return tensor.device.type == "cpu"


@dataclass(frozen=True, eq=False)
class Scored:
    """One scored view. Position t of `logits` already predicts `labels[:, t]`.

    Args:
        logits: [B, T, V] in any float type; T spans the answers only.
        labels: [B, T] int64, IGNORE_INDEX where not scored.
        hidden: [B, L, D] of the layer the method asked for, or None.
        hidden_mask: [B, L] bool, the positions the method asked for; given exactly when `hidden` is.
        cached_sums, cached_lengths: only set by `from_logps`.

    Raises:
        ValueError: shapes that do not belong together, an empty view, or a row without a scored token. The last is
            checked where the labels lie on the CPU; on an accelerator it would cost a synchronisation per step, and
            the collator has already made sure of it.
    """

    logits: Tensor
    labels: Tensor
    hidden: Tensor | None = None
    hidden_mask: Tensor | None = None
    cached_sums: Tensor | None = None
    cached_lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.logits.ndim != 3 or self.logits.shape[:2] != self.labels.shape:
            raise ValueError(
                f"Scored needs logits [B, T, V] and labels [B, T], got {tuple(self.logits.shape)} and "
                f"{tuple(self.labels.shape)}"
            )
        if (self.hidden is None) != (self.hidden_mask is None):
            raise ValueError("Scored needs hidden and hidden_mask together, or neither")
        if self.hidden is not None and self.hidden_mask is not None:
            expected = (self.labels.shape[0], self.hidden.shape[1]) if self.hidden.ndim == 3 else None
            if tuple(self.hidden_mask.shape) != expected or self.hidden_mask.dtype != torch.bool:
                raise ValueError(
                    "Scored needs hidden [B, L, D] and a bool hidden_mask [B, L] with the labels' B, got "
                    f"{tuple(self.hidden.shape)}, {tuple(self.hidden_mask.shape)} {self.hidden_mask.dtype}, "
                    f"labels {tuple(self.labels.shape)}"
                )
        if self.labels.shape[0] == 0:
            raise ValueError("Scored needs at least one row")
        if readable(self.labels):
            empty = (self.lengths() == 0).nonzero().flatten().tolist()
            if empty:
                raise ValueError(f"rows {empty} have no scored token: their answers are empty or were cut away")

    @classmethod
    def from_logps(cls, sequence_logps: Tensor, lengths: Tensor) -> Scored:
        """The log-prob-only form, for a teacher whose scores were computed once and cached.

        Args:
            sequence_logps: [B], summed log-probability of each answer, nats.
            lengths: [B], its number of scored tokens.

        `sequence_logps`, `lengths` and `cross_entropy` work; whatever needs logits raises.
        """
        if sequence_logps.ndim != 1 or sequence_logps.shape != lengths.shape:
            raise ValueError(
                f"cached scores are [B] sums and [B] lengths, got {tuple(sequence_logps.shape)} and "
                f"{tuple(lengths.shape)}"
            )
        rows = sequence_logps.shape[0]
        return cls(
            logits=sequence_logps.new_empty((rows, 0, 0)),
            labels=lengths.new_empty((rows, 0)),
            cached_sums=sequence_logps.float(),
            cached_lengths=lengths,
        )

    @property
    def mask(self) -> Tensor:
        """[B, T] bool, True where a label is scored."""
        return self.labels != IGNORE_INDEX

    def lengths(self) -> Tensor:
        """[B] number of scored tokens."""
        return self.mask.sum(1) if self.cached_lengths is None else self.cached_lengths

    def answer_logits(self) -> Tensor:
        """`logits`, or a ValueError where only their sums were kept."""
        if self.cached_sums is not None:
            raise ValueError("this view holds cached sequence scores only; the method needs the teacher's logits")
        return self.logits

    def hidden_states(self) -> tuple[Tensor, Tensor]:
        """`hidden` [B, L, D] and `hidden_mask` [B, L], or a ValueError where the forward returned none."""
        if self.hidden is None or self.hidden_mask is None:
            raise ValueError("this view holds no hidden states: the method has to declare `hidden`")
        return self.hidden, self.hidden_mask

    def token_logps(self) -> Tensor:
        """[B, T] log-probability of each label in nats, fp32; 0 where not scored."""
        return token_logps(self.answer_logits(), self.labels, self.mask)

    def sequence_logps(self) -> Tensor:
        """[B] log-probability of each whole answer (a sum, as every likelihood ratio needs), fp32."""
        return self.token_logps().sum(1) if self.cached_sums is None else self.cached_sums

    def cross_entropy(self) -> Tensor:
        """Scalar, mean over the scored tokens of -log p, nats, fp32."""
        return -self.sequence_logps().sum() / self.lengths().sum()

    def with_labels(self, ids: Tensor) -> Scored:
        """The same view, its label at scored position t replaced by ids[t mod n], `ids` [n]."""
        place = (self.mask.cumsum(1) - 1).clamp(min=0) % len(ids)
        labels = torch.where(self.mask, ids.to(self.labels.device, non_blocking=True)[place], self.labels)
        return Scored(self.logits, labels, self.hidden, self.hidden_mask)

    def chunk(self, k: int) -> list[Scored]:
        """Split a view with k answers per item into k views of B / k rows.

        Rows are answer-major: first every item with answer 0, then every item with answer 1, and so on.
        """
        rows, rest = divmod(self.labels.shape[0], k)
        if rest:
            raise ValueError(f"{self.labels.shape[0]} rows cannot hold {k} answers per item")
        parts = [slice(i * rows, (i + 1) * rows) for i in range(k)]
        return [self._map(operator.itemgetter(part)) for part in parts]

    def detach(self) -> Scored:
        """The same view, cut from the graph: what a loss takes of the teacher."""
        return self._map(Tensor.detach)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Scored:
        tensors = (
            self.logits, self.labels, self.hidden, self.hidden_mask, self.cached_sums, self.cached_lengths,
        )  # fmt: skip
        return Scored(*(t if t is None else function(t) for t in tensors))  # type: ignore[arg-type]


def score_causal(
    logits: Tensor, labels: Tensor, *, hidden: Tensor | None = None, hidden_mask: Tensor | None = None
) -> Scored:
    """Score a causal language model: position t predicts token t + 1, so logits and labels are shifted, once.

    Args:
        logits: [B, L, V] as the model returned them.
        labels: [B, L] aligned with the input ids, IGNORE_INDEX outside the answer.
        hidden, hidden_mask: [B, L, D] and [B, L], passed through unshifted.
    """
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            f"score_causal needs logits [B, L, V] and labels [B, L], got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    return Scored(logits[:, :-1], labels[:, 1:], hidden, hidden_mask)


def score_classes(logits: Tensor, labels: Tensor, *, hidden: Tensor | None = None) -> Scored:
    """Score a classifier as an answer of one token (T = 1), so that it can use the same methods.

    Args:
        logits: [B, C].
        labels: [B] class indices.
        hidden: [B, D] embeddings, or None.
    """
    if logits.ndim != 2 or logits.shape[:1] != labels.shape:
        raise ValueError(
            f"score_classes needs logits [B, C] and labels [B], got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if hidden is None:
        return Scored(logits[:, None], labels[:, None])
    mask = torch.ones(hidden.shape[0], 1, dtype=torch.bool, device=hidden.device)
    return Scored(logits[:, None], labels[:, None], hidden[:, None], mask)


def mean_over_answers(scored: Scored, k: int) -> Tensor:
    """Scalar: the token mean of each of the k answers over the batch, then the mean over k (so that long answers do
    not outweigh short ones). `scored` is answer-major, as `Scored.chunk` says."""
    return torch.stack([answer.cross_entropy() for answer in scored.chunk(k)]).mean()
