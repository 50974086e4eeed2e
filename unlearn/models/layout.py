"""One layout for every training forward: which tokens of which rows go through the model, and where its answers are.

A *tree* is a prompt with the answers that views give it: a trunk with branches. Rows hold trees, first fit, those with
a picture first, text behind them, padding on the right:

    row 0   [ picture, question | forget answer | idk answer ][ question | answer ][ padding ]
    row 1   [ picture, question | answer ][ padding ......................................... ]

- A prompt that several views ask about (equal ids, equal picture) is read once: DPO's two answers cost one picture.
- A token sees its tree's prompt and its own answer, up to itself. Where every row is one tree with one answer that is
  what a causal model does anyway, and no mask is made; else `tree_mask` says who sees whom.
- Positions count from 0 in each tree, and each answer goes on where the prompt ended, on all axes of a Qwen-VL.
- The head runs at the places that predict an answer's token and nowhere else, for all views at once; the result comes
  back view by view, answers aligned on the right.

Only models that are known to attend plainly are laid out like this (`trees.why_apart`). For all others each answer has
a row of its own, text and pictures go apart, and what tells tokens from padding is the usual mask of 0 and 1.

Everything here happens on the CPU, in whole numbers; `Layout.to` moves it. The forward lays out what it is called
with, so any set of views can go through it together; the collator, a room above this one, makes their prompts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unlearn.models.families import inner_model
from unlearn.models.pictures import join_inputs
from unlearn.models.trees import Prompt, Row, Tree, View, fill_rows, trees
from unlearn.models.vision import positions
from unlearn.scoring import IGNORE_INDEX

Spans = dict[
    tuple[View, int], tuple[int, range, range]
]  # row of a view -> chunk, and where in it prompt and answer are


@dataclass
class Chunk:
    """What one call of the model reads.

    Args:
        inputs: by the names of the model's forward; `image_keys` are the digests of its pictures in the order in which
            the model meets them (features that were kept go in by them).
        places: [N] of the flattened [B * L], each predicts a token.
        states: [S] likewise, where hidden states are asked for.
        tree, branch: [B, L], the tree of its row that a token belongs to (-1: padding) and its answer in that (0: the
            prompt); None where no mask is needed.
        features, pictures: where features are kept (models/features.py), those of the pictures, None for those that
            are still to be made, and what these are made from.
    """

    inputs: dict[str, Tensor]
    places: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    states: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    tree: Tensor | None = None
    branch: Tensor | None = None
    image_keys: list[bytes] = field(default_factory=list)
    features: list[Tensor | None] = field(default_factory=list)
    pictures: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Layout:
    """Chunks and the way back from them.

    Args:
        labels: view -> [n, T], IGNORE_INDEX left of shorter answers.
        hidden_masks: view -> [n, S], False left of shorter rows; empty where no states are asked for.
        order, state_order: where the results of all chunks, one after another, stand in the views; None: in order.
    """

    chunks: list[Chunk]
    labels: dict[View, Tensor]
    hidden_masks: dict[View, Tensor]
    order: Tensor | None = None
    state_order: Tensor | None = None

    def to(self, device: torch.device) -> "Layout":
        """The same on a device. A GPU's copies start from pinned memory and are not waited for."""

        def moved(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
            return {key: moved(each) for key, each in value.items()} if isinstance(value, dict) else value

        chunks = [Chunk(**{name: moved(value) for name, value in vars(chunk).items()}) for chunk in self.chunks]
        return Layout(chunks, **{name: moved(value) for name, value in vars(self).items() if name != "chunks"})


class Page:
    """The tokens of one chunk while they are written: [B, L] each, positions [axes, B, L]."""

    def __init__(self, rows: int, length: int, *, axes: int, pad_id: int, types: Iterable[str]) -> None:
        self.ids = torch.full((rows, length), pad_id)
        self.positions = torch.zeros(axes, rows, length, dtype=torch.long)
        self.tree, self.branch = torch.full_like(self.ids, -1), torch.zeros_like(self.ids)
        self.types = {name: torch.zeros_like(self.ids) for name in types}
        self.at = [0] * rows

    def write(
        self, row: int, ids: Sequence[int], positions: Tensor, *, tree: int, branch: int, types: Mapping[str, Any]
    ) -> range:
        """Tokens behind what the row holds already; where they are in the flattened [B * L]."""
        here = slice(self.at[row], self.at[row] + len(ids))
        self.ids[row, here], self.positions[:, row, here] = torch.tensor(ids), positions
        self.tree[row, here], self.branch[row, here] = tree, branch
        for name, values in types.items():
            self.types[name][row, here] = torch.as_tensor(values)
        self.at[row] = here.stop
        start = row * self.ids.shape[1]
        return range(start + here.start, start + here.stop)

    def count_on(self) -> None:
        """Positions of padding go on: a step back would tell transformers of a second sequence in the row."""
        for row, at in enumerate(self.at):
            self.positions[:, row, at:] = (
                self.positions[:, row, at - 1].max() + 1 + torch.arange(self.ids.shape[1] - at)
            )


class Typesetter:
    """Sets the rows of views as one model reads them.

    Args:
        apart: an answer a row (see `trees.why_apart`).
        scope: of the hidden states that are gathered, "all" (no padding, no image tokens) or "answer"; None: none.
    """

    def __init__(self, model: Any, *, apart: bool, scope: str | None = None) -> None:
        self.model, self.apart, self.scope = model, apart, scope
        config = inner_model(model).config
        self.image_token_id = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        self.pad_id = int(self.image_token_id == 0)  # any id but a picture's: padding is told by place
        self.axes = 3 if any(hasattr(module, "get_rope_index") for module in model.modules()) else 1

    def lay_out(self, views: Mapping[View, Sequence[Row]]) -> Layout:
        """The layout of these views, on the CPU."""
        found = trees(views, share=not self.apart)
        parts = [found]
        if self.apart:
            both = [[tree for tree in found if bool(tree.prompt.image_inputs) == shown] for shown in (False, True)]
            parts = [part for part in both if part]
        spans: Spans = {}
        return self._way_back(views, [self._chunk(number, part, spans) for number, part in enumerate(parts)], spans)

    def _chunk(self, number: int, found: Sequence[Tree], spans: Spans) -> Chunk:
        """One forward over `found`; notes in `spans` where each row of a view is in it."""
        rows, length = fill_rows(found, pack=not self.apart)
        types = {name for tree in found for name in tree.prompt.token_inputs}
        page = Page(len(rows), length, axes=self.axes, pad_id=self.pad_id, types=types)
        for row, t, tree in ((row, t, tree) for row, held in enumerate(rows) for t, tree in enumerate(held)):
            prompt, own = tree.prompt, self._positions(tree.prompt)
            trunk = page.write(row, prompt.ids, own, tree=t, branch=0, types=prompt.token_inputs)
            kinds = dict.fromkeys(prompt.token_inputs, prompt.answer_type)
            for k, (view, place, answer) in enumerate(tree.answers, 1):
                behind = own.max() + 1 + torch.arange(len(answer))
                leaf = page.write(row, answer, behind, tree=t, branch=k, types=kinds)
                spans[view, place] = number, trunk, leaf
        shown = [tree.prompt for held in rows for tree in held if tree.prompt.image_inputs]
        pictures = {name: join_inputs([each.image_inputs[name] for each in shown]) for name in _names(shown)}
        inputs = {"input_ids": page.ids, **page.types, **pictures}
        chunk = Chunk(inputs, image_keys=[prompt.image_key for prompt in shown])
        if self.apart:  # the model counts for itself, and knows best what its padding must not touch
            inputs["attention_mask"] = (page.tree >= 0).long()
            return chunk
        page.count_on()
        inputs["position_ids"] = page.positions if self.axes > 1 else page.positions[0]
        if any(len(held) > 1 or len(held[0].answers) > 1 for held in rows):
            chunk.tree, chunk.branch = page.tree, page.branch
        return chunk

    def _positions(self, prompt: Prompt) -> Tensor:
        """[axes, P], from the ids and the picture's grid alone."""
        if self.axes == 1 or not prompt.image_inputs or self.apart:
            return torch.arange(len(prompt.ids)).expand(self.axes, -1)
        given = {name: torch.tensor([values]) for name, values in prompt.token_inputs.items()}
        ids = torch.tensor([prompt.ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **given, **prompt.image_inputs}
        return positions(self.model, inputs).view(self.axes, -1)

    def _way_back(self, views: Mapping[View, Sequence[Row]], chunks: list[Chunk], spans: Spans) -> Layout:
        """Fills in the places of each chunk, and how results are put back into the views' order."""
        layout = Layout(chunks, {}, {})
        places, states, owners = [], [], []  # for each row of each view
        for view, rows in views.items():
            width = max(len(answer) for _, answer in rows)
            layout.labels[view] = torch.full((len(rows), width), IGNORE_INDEX)
            asked = []
            for place, (prompt, answer) in enumerate(rows):
                number, trunk, leaf = spans[view, place]
                owners.append(number)
                places.append([0] * (width - len(answer)) + [trunk[-1], *leaf[:-1]])
                layout.labels[view][place, width - len(answer) :] = torch.tensor(answer)
                asked.append([*self._in_scope(prompt, trunk), *leaf])
            if self.scope is not None:
                lengths = torch.tensor([len(own) for own in asked])
                longest = int(lengths.max())
                layout.hidden_masks[view] = torch.arange(longest).flip(0) < lengths[:, None]
                states += [[0] * (longest - len(own)) + own for own in asked]
        for number, chunk in enumerate(chunks):
            chunk.places, chunk.states = (_of_chunk(rows, owners, number) for rows in (places, states))
        if len(chunks) > 1:
            layout.order, layout.state_order = _order(places, owners), _order(states, owners)
        return layout

    def _in_scope(self, prompt: Prompt, trunk: range) -> list[int]:
        """The places of a prompt whose states are asked for."""
        if self.scope != "all":
            return []
        return [place for place, token in zip(trunk, prompt.ids, strict=True) if token != self.image_token_id]


def _names(prompts: Sequence[Prompt]) -> Iterable[str]:
    return prompts[0].image_inputs if prompts else ()


def _of_chunk(rows: Sequence[Sequence[int]], owners: Sequence[int], number: int) -> Tensor:
    """The places of the rows that a chunk owns, one row after another."""
    owned = [own for own, owner in zip(rows, owners, strict=True) if owner == number] if rows else []
    return torch.tensor([place for own in owned for place in own], dtype=torch.long)


def _order(rows: Sequence[Sequence[int]], owners: Sequence[int]) -> Tensor:
    """For each place of the views, where it stands when chunk stands behind chunk."""
    owner = torch.tensor([number for own, number in zip(rows, owners, strict=False) for _ in own])
    return torch.argsort(torch.argsort(owner, stable=True))


def tree_mask(tree: Tensor, branch: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, 1, L, L], 0 where the token of a row may look at that of a column and the least number elsewhere. Padding
    sees padding: a token that sees nothing would be NaN."""
    prompt_or_own = (branch[:, None] == 0) | (branch[:, :, None] == branch[:, None])
    seen = ((tree[:, :, None] == tree[:, None]) & prompt_or_own).tril()
    return torch.zeros(seen.shape, dtype=dtype, device=tree.device).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
