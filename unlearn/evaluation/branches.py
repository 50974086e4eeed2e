"""A layer of a cache that several answers continue without copying what they share."""

import functools
from typing import Any

from torch import Tensor


@functools.cache
def branch_layer() -> Any:
    """The class; made on first use, so that importing this module does not load transformers."""
    from transformers.cache_utils import DynamicLayer

    class BranchLayer(DynamicLayer):
        """Keys and values of n prompts, seen by `counts[i]` answers each. Nothing is stored: memory is that of one
        layer."""

        def __init__(self, layer: Any, counts: dict[int, int]) -> None:
            super().__init__()
            self.__dict__.update(layer.__dict__)
            self.counts = counts

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            return self._join(self.keys, key_states), self._join(self.values, value_states)

        def _join(self, prompts: Any, answers: Tensor) -> Tensor:
            """[n, heads, L, d] and [r, heads, T, d] -> [r, heads, L + T, d]."""
            rows, heads, length, size = answers.shape
            known = prompts.shape[2]
            joined = answers.new_empty(rows, heads, known + length, size)
            joined[:, :, known:] = answers
            start = 0
            for item, count in self.counts.items():
                joined[start : start + count, :, :known] = prompts[item]
                start += count
            return joined

    return BranchLayer
