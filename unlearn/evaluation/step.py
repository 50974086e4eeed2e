"""One step of decoding whose tensors never change their place or shape, so that a GPU can record it and play it back.

Keys and values lie in a cache of fixed size; a mask says which places a row may see. Everything that changes from token
to token (the place of the next key, the position, who has ended) is a tensor on the device that the step itself
advances: the host sends no number and reads none.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from unlearn.evaluation.prefix import Prefix
from unlearn.evaluation.sampling import Choose


@functools.cache
def fixed_layer() -> Any:
    """The class of a layer; made on first use, so that importing this module does not load transformers."""
    from transformers.cache_utils import StaticLayer

    class FixedLayer(StaticLayer):
        """Keys and values at fixed places, in the type of the prompts': under autocast new ones may come in another."""

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            assert self.keys is not None and self.values is not None
            return super().update(key_states.to(self.keys.dtype), value_states.to(self.values.dtype), *args, **kwargs)

    return FixedLayer


class Step:
    """`rows` prompts and their answers in a cache of `size` places, at most `limit` tokens each.

    After `begin` the first token of every answer is chosen; each `advance` adds one to every row. Rows that have ended
    are carried on, and what they would say is not kept.
    """

    def __init__(
        self, model: Any, prefix: Prefix, *, rows: int, size: int, limit: int, choose: Choose, stop_ids: frozenset[int]
    ) -> None:
        from transformers.cache_utils import StaticCache

        device, self.model, self.choose, self.axes, self.size = prefix.mask.device, model, choose, prefix.axes, size
        self.cache = StaticCache(config=model.config.get_text_config(), max_cache_len=size)
        self.layers: list[Any] = [fixed_layer()(max_cache_len=size) for _ in prefix.cache.layers]
        self.cache.layers = self.layers
        for mine, layer in zip(self.layers, prefix.cache.layers, strict=True):
            mine.lazy_initialization(layer.keys[:1].expand(rows, -1, -1, -1), layer.values[:1].expand(rows, -1, -1, -1))
        kind = prefix.cache.layers[0].keys.dtype
        self.hidden = torch.finfo(kind).min
        self.mask = torch.empty(rows, 1, 1, size, dtype=kind, device=device)  # what is added to attention scores
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)  # the last ones, not yet in the cache
        self.position = torch.zeros(rows, 1, dtype=torch.long, device=device)  # of these
        self.at = torch.zeros(1, dtype=torch.long, device=device)  # the place of their keys
        self.t = torch.zeros(1, dtype=torch.long, device=device)  # how many tokens each answer has
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self.out = torch.empty(rows, limit, dtype=torch.long, device=device)  # -1 behind the end
        self.draws = torch.zeros(rows, limit, dtype=torch.float64, device=device)
        self.stop = torch.tensor(sorted(stop_ids), dtype=torch.long, device=device)
        self.play: Any = self.step  # or the recorded one
        self.recorded = False  # or was tried

    @property
    def state(self) -> list[Tensor]:
        """What a step changes, but for keys and values: those it adds are hidden by an earlier mask."""
        lengths = [layer.cumulative_length for layer in self.layers]
        return [self.mask, self.tokens, self.position, self.at, self.t, self.ended, self.out, *lengths]

    def begin(self, prefix: Prefix, rows: Tensor | None, draws: Tensor | None) -> None:
        """Puts the prompts `rows` of `prefix` (None: each once) in place and chooses their first tokens."""
        length = prefix.mask.shape[1]

        def mine(tensor: Tensor) -> Tensor:
            return tensor if rows is None else tensor.index_select(0, rows)

        for layer, prompt in zip(self.layers, prefix.cache.layers, strict=True):
            for kept, known in ((layer.keys, prompt.keys), (layer.values, prompt.values)):
                kept[:, :, :length].copy_(mine(known))
                kept[:, :, length:].zero_()  # hidden places are multiplied by 0, which leaves no room for NaN
            layer.cumulative_length.fill_(length)
        self.mask.fill_(self.hidden)
        self.mask[:, 0, 0, :length].masked_fill_(mine(prefix.mask).bool(), 0)
        self.position.copy_(mine(prefix.next_position)[:, None])
        self.at.fill_(length)
        self.out.fill_(-1)
        self.ended.fill_(False)
        if draws is not None:
            self.draws.copy_(draws)
        self.t.zero_()
        self._keep(mine(prefix.logits))

    def follow(self, other: "Step", rows: Tensor | None = None) -> "Step":
        """This step, going on where `other` (of no larger cache) stands: with all its rows or with `rows` of them."""

        def theirs(tensor: Tensor) -> Tensor:
            return tensor if rows is None else tensor.index_select(0, rows)

        for layer, before in zip(self.layers, other.layers, strict=True):
            for kept, known in ((layer.keys, before.keys), (layer.values, before.values)):
                kept[:, :, : other.size].copy_(theirs(known))
                kept[:, :, other.size :].zero_()
            layer.cumulative_length.copy_(before.cumulative_length)
        self.mask.fill_(self.hidden)
        self.mask[..., : other.size].copy_(theirs(other.mask))
        for name in ("tokens", "position", "ended", "out", "draws"):
            getattr(self, name).copy_(theirs(getattr(other, name)))
        self.at.copy_(other.at)
        self.t.copy_(other.t)
        return self

    @torch.no_grad()
    def step(self) -> Tensor:
        """One more token for every row; returns the logits [rows, V] it was chosen from."""
        self.mask.index_fill_(3, self.at, 0)
        output = self.model(
            input_ids=self.tokens,
            attention_mask=self.mask,
            position_ids=self.position.expand(3, -1, -1) if self.axes == 3 else self.position,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits = output.logits[:, -1]
        self.at.add_(1)
        self._keep(logits)
        return logits

    def _keep(self, logits: Tensor) -> None:
        """Chooses the next tokens and notes them where a row has not ended."""
        new = self.choose(logits, self.draws.index_select(1, self.t)[:, 0])
        self.position.add_((~self.ended & (self.t > 0))[:, None])  # a row that has ended stays where it is
        self.out.index_copy_(1, self.t, torch.where(self.ended, -1, new)[:, None])
        self.ended.logical_or_((new[:, None] == self.stop).any(-1))
        self.tokens.copy_(new[:, None])
        self.t.add_(1)

    def record(self) -> None:
        """Captures one step on a GPU: `play` then sends it as one piece. Two steps before it, on a stream of their own,
        let libraries choose kernels and take memory; what they changed is put back."""
        kept = [tensor.clone() for tensor in self.state]
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # casts of weights belong into the recording
        try:
            with torch.cuda.device(self.tokens.device):
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(2):
                        self.step()
                torch.cuda.current_stream().wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                # other threads load pictures and pin memory meanwhile: only this one must keep to what can be recorded
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    self.step()
            self.play = graph.replay
        finally:
            torch.set_autocast_cache_enabled(cached)
            for tensor, before in zip(self.state, kept, strict=True):
                tensor.copy_(before)
