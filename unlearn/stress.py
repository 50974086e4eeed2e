"""Stress on the weights: what a little damage brings back."""

import torch
from torch import Tensor


def round_to_nearest(weight: Tensor, bits: int) -> Tensor:
    """Weight-only quantisation without a library: each row rounded to 2^bits - 1 symmetric levels.

    s = max |w| of the row / (2^(bits - 1) - 1), w -> round-half-even(w / s) * s. A row of zeros stays; doing it twice
    changes nothing.

    Args:
        weight: [out, in], any float type; computed in fp32, returned in the weight's own type.
        bits: 2 to 16.

    Raises:
        ValueError: not a matrix, or another number of bits.
    """
    if weight.ndim != 2 or not 2 <= bits <= 16:
        raise ValueError(f"round_to_nearest needs a matrix and 2 to 16 bits, got {tuple(weight.shape)} and {bits}")
    values = weight.float()
    step = values.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    rounded = torch.where(step > 0, (values / step.clamp(min=torch.finfo(torch.float32).tiny)).round() * step, values)
    return rounded.to(weight.dtype)
