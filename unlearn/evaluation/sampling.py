"""How the next token is chosen from logits: the likeliest, or one that a number in [0, 1) points at.

A sampled token is the first v, in the order of the vocabulary, whose cumulative probability is above u. All u of a
sample are drawn ahead from its own generator, so what it says does not depend on the rows it shares a batch with.
"""

import functools
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Choose = Callable[[Tensor, Tensor | None], Tensor]  # (logits [r, V], u [r] or None) -> tokens [r]


def likeliest(logits: Tensor, u: Tensor | None = None) -> Tensor:
    """The token of the largest logit of each row; of equals the first."""
    return logits.argmax(-1)


@functools.cache
def sampler(temperature: float, top_p: float) -> Choose:
    """Draws from softmax(logits / temperature), cut to the fewest likeliest tokens that hold `top_p` of it.

    Temperature 0 is the likeliest token. Probabilities are summed in fp64. Nothing is read back from a GPU.

    Raises:
        ValueError: a negative temperature, or top_p outside (0, 1].
    """
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature} must be 0 (the likeliest token) or more.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must be above 0 and at most 1 (all tokens).")
    if temperature == 0:
        return likeliest

    def choose(logits: Tensor, u: Tensor | None) -> Tensor:
        assert u is not None
        p = torch.softmax(logits.double() / temperature, dim=-1)
        if top_p < 1:
            ordered, places = p.sort(dim=-1, descending=True, stable=True)
            ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0)
            p = torch.zeros_like(p).scatter(-1, places, ordered)
        below = p.cumsum(-1)
        total = below[:, -1:]
        last = (below < total).sum(-1)  # the last token that adds anything: rounding must not lead beyond it
        return torch.minimum((below <= u[:, None] * total).sum(-1), last)

    return choose


def uniforms(row_ids: Sequence[str], samples: int, seed: int, count: int) -> Tensor:
    """fp64 [rows * samples, count]: the numbers of sample j of a row are those of Random(f"{seed}/{row}/{j}")."""
    drawn = []
    for row in row_ids:
        for j in range(samples):
            generator = random.Random(f"{seed}/{row}/{j}")
            drawn.append([generator.random() for _ in range(count)])
    return torch.tensor(drawn, dtype=torch.float64)
