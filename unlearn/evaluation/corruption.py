"""Prompts whose embeddings are disturbed before a model reads them (ECO, 2406.07933): no weight changes.

All tokens of a prompt but its last are disturbed, the picture's among them; never a token of an answer, or all
probabilities of answers would be of other answers. Embeddings are handed to the forward (`inputs_embeds`, and the
picture's as `mm_encoder_outputs`); no hook is set. Where a prompt lies follows from its own length, so padding cannot
matter.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unlearn.data.collator import Prompt
from unlearn.models import compat
from unlearn.models.families import inner_model

logger = logging.getLogger(__name__)
Kind = Literal["zero_top_k", "zero_first_n", "noise_first_n"]


@dataclass(frozen=True)
class Corruption:
    """What happens to an embedding of d entries: `zero_top_k` sets the `size` entries of largest magnitude to 0,
    `zero_first_n` the first `size`; `noise_first_n` adds N(0, strength) to the first `size`, the same noise to all
    tokens. A `size` above d means all of them."""

    kind: Kind = "zero_top_k"
    size: int = 1000
    strength: float = 1.0
    seed: int = 0

    def __call__(self, embeddings: Tensor) -> Tensor:
        """[n, d] -> [n, d], a new tensor."""
        size = min(self.size, embeddings.shape[-1])
        if self.kind == "zero_top_k":
            return embeddings.scatter(-1, embeddings.abs().topk(size, dim=-1).indices, 0)
        changed = embeddings.clone()
        if self.kind == "zero_first_n":
            changed[:, :size] = 0
        else:
            noise = torch.randn(size, generator=torch.Generator().manual_seed(self.seed)) * self.strength
            changed[:, :size] += noise.to(changed)
        return changed


@dataclass(frozen=True)
class Disturbed:
    """Which of the prompts of a batch are disturbed, and how."""

    prompts: Sequence[Prompt]
    which: Sequence[bool]
    corruption: Corruption

    def of(self, rows: Sequence[int]) -> "Disturbed":
        """The same for a batch of these prompts, repeats allowed."""
        return Disturbed([self.prompts[row] for row in rows], [self.which[row] for row in rows], self.corruption)

    @torch.no_grad()
    def inputs(self, model: Any, inputs: dict[str, Tensor], answers: Sequence[int] = ()) -> dict[str, Any]:
        """`inputs` of these prompts, padded on the left, with their embeddings in place of the ids.

        Args:
            answers: how many tokens of an answer follow each prompt; () is none.
        """
        if not any(self.which):
            return inputs
        inner = inner_model(model)
        ids = inputs["input_ids"]
        mask = self._places(ids, answers or [0] * len(ids)) & (ids != _picture_token(inner))
        embeddings = inner.get_input_embeddings()(ids)
        embeddings = embeddings.masked_scatter(mask[..., None], self.corruption(embeddings[mask]))
        others = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
        return {**others, "inputs_embeds": embeddings} | self._pictures(inner, others)

    def _places(self, ids: Tensor, answers: Sequence[int]) -> Tensor:
        """[n, L] bool: the tokens of disturbed prompts but their last."""
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for row, (prompt, which, after) in enumerate(zip(self.prompts, self.which, answers, strict=True)):
            end = ids.shape[1] - after
            mask[row, end - len(prompt.ids) : end - 1] = which
        return mask.to(ids.device)

    def _pictures(self, inner: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the pictures' encoder gives, those of disturbed prompts disturbed; {} without a picture among them."""
        shown = [which for prompt, which in zip(self.prompts, self.which, strict=True) if prompt.image_inputs]
        if not any(shown):
            return {}
        whole = inner.model
        if "mm_encoder_outputs" not in compat.arguments(whole.forward):
            if type(whole).__name__ not in _warned:
                _warned.add(type(whole).__name__)
                logger.warning("%s takes no features: pictures are shown as they are.", type(whole).__name__)
            return {}
        taken = compat.arguments(whole.get_image_features)
        features = whole.get_image_features(
            **{name: value for name, value in inputs.items() if name in taken and name != "attention_mask"},
            return_dict=True,
        )
        parts = list(features.pooler_output)
        features.pooler_output = [
            self.corruption(part) if which else part for part, which in zip(parts, shown, strict=True)
        ]
        return {"pixel_values": None, "mm_encoder_outputs": {"image": features}}


_warned: set[str] = set()


def _picture_token(inner: Any) -> int:
    """The id that stands for a picture in a prompt; its embedding is how a model finds the place again."""
    for name in ("image_token_id", "image_token_index"):
        if (token := getattr(inner.config, name, None)) is not None:
            return int(token)
    return -1
