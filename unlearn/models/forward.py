"""One module call a step: all views of a batch through the model together, and back as scored views."""

import logging
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.method import HiddenSpec
from unlearn.models.compat import unsplit_blocks
from unlearn.models.families import decoder_blocks, decoder_layers, inner_model
from unlearn.models.features import Features
from unlearn.models.layout import Chunk, Layout, Typesetter, tree_mask
from unlearn.models.trees import trees, why_apart
from unlearn.scoring import Scored

logger = logging.getLogger(__name__)


class StudentForward(nn.Module):
    """Wraps a model so that one call scores every view, with one inner forward (models/layout.py).

    Wrappers for several processes then see one forward per backward. Logits are computed for the places that predict
    an answer's token only. Plain tensors come back (see `score_views`), since sharding engines cannot look into other
    objects.
    """

    def __init__(self, model: Any, hidden: HiddenSpec | None = None, *, default_layer: int = 7) -> None:
        super().__init__()
        self.model = model
        self.layer = None if hidden is None else _state_index(hidden, default_layer, decoder_layers(model))
        self.hidden = hidden
        self.features: Features | None = None  # of pictures, where they are kept
        why = why_apart(model)
        if why is not None and why not in _said:
            _said.add(why)
            logger.info("each answer has a row of its own, text and pictures apart: %s", why)
        self.typesetter = Typesetter(model, apart=why is not None, scope=hidden.scope if hidden else None)

    @property
    def config(self) -> Any:
        """The inner model's: the Trainer and its engines ask for it."""
        return self.model.config

    @property
    def _no_split_modules(self) -> list[str]:
        """Class names of the blocks that a sharding engine gathers one at a time: the inner model's own list."""
        present = {type(module).__name__ for module in self.model.modules()}
        return sorted(unsplit_blocks(inner_model(self.model)) & present)

    def tie_weights(self) -> None:
        """Shared weights become one again; engines that replace weights ask for it."""
        inner_model(self.model).tie_weights()

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Called by the Trainer (`every_n_layers`, `offload`: its own). transformers then makes every embedding's
        output require grad, a vision tower's too, which builds a graph through a frozen tower. Non-reentrant
        checkpointing needs no such inputs, so they are taken back."""
        how = {**(activation_checkpointing_kwargs or {}), "use_reentrant": False}
        inner_model(self.model).activation_checkpointing_enable(how, **options)
        inner_model(self.model).disable_input_require_grads()

    def forward(self, views: Mapping[Any, Mapping[str, Any]]) -> dict[Hashable, dict[str, Tensor]]:
        """`views`: name -> {"rows": [(prompt, answer ids), ...]} (`Collator.rows`), any of a step's views ->
        name -> {"logits" [n,T,V], "labels" [n,T], "hidden" [n,S,D], "hidden_mask" [n,S] (only if asked for)}, rows in
        their view's order, each view as wide as it is alone."""
        layout = self.lay_out(views)
        logits, states = zip(*(self._read(chunk) for chunk in layout.chunks), strict=True)
        outputs: dict[Hashable, dict[str, Tensor]] = {}
        for (name, labels), own in zip(
            layout.labels.items(), _by_view(logits, layout.order, layout.labels), strict=True
        ):
            outputs[name] = {"logits": own, "labels": labels}
        if self.layer is not None:
            for (name, mask), own in zip(
                layout.hidden_masks.items(), _by_view(states, layout.state_order, layout.hidden_masks), strict=True
            ):
                outputs[name] |= {"hidden": own, "hidden_mask": mask}
        return outputs

    def tokens(self, views: Mapping[Any, Mapping[str, Any]]) -> int:
        """How many tokens the model reads of these views, without padding."""
        rows = {name: view["rows"] for name, view in views.items()}
        return sum(len(tree) for tree in trees(rows, share=not self.typesetter.apart))

    def lay_out(self, views: Mapping[Any, Mapping[str, Any]]) -> Layout:
        """The layout of these views, on the device of the model's embeddings."""
        layout = self.typesetter.lay_out({name: view["rows"] for name, view in views.items()})
        if self.features is not None:
            for chunk in layout.chunks:
                self.features.take_out(chunk)
        return layout.to(inner_model(self.model).get_input_embeddings().weight.device)

    def _read(self, chunk: Chunk) -> tuple[Tensor, Tensor | None]:
        """Logits [N, V] at the places of a chunk, and its states [S, D] if a layer is asked for."""
        inputs: dict[str, Any] = dict(chunk.inputs)
        if self.features is not None:
            inputs |= self.features.inputs(self.model, chunk)
        if chunk.tree is not None and chunk.branch is not None:
            inputs["attention_mask"] = tree_mask(chunk.tree, chunk.branch, self._compute_dtype(chunk.tree.device))
        with _states_of(self.model, self.layer) as seen, _head_reads(self.model, chunk.places):
            output = self.model(**inputs, use_cache=False)
        assert output.logits.shape[:2] == (1, len(chunk.places)), "the model does not call its head as a module"
        states = None if self.layer is None else seen[0].flatten(0, 1)[chunk.states]
        return output.logits[0], states

    def _compute_dtype(self, device: torch.device) -> torch.dtype:
        """What attention computes in: a mask of another type would be an error, or be cast in each block."""
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        return inner_model(self.model).get_input_embeddings().weight.dtype


_said: set[str] = set()  # reasons for rows of their own, each said once


@contextmanager
def _states_of(model: nn.Module, entry: int | None) -> Iterator[list[Tensor]]:
    """Meanwhile entry `entry` of the model's `hidden_states` [rows, S, D] lands in the list; no other one is kept.

    `output_hidden_states=True` would leave hooks inside every block that torch.compile cannot read, for good.
    """
    seen: list[Tensor] = []
    if entry is None:
        yield seen
        return
    blocks = decoder_blocks(model)
    if entry < len(blocks):
        hook = blocks[entry - 1].register_forward_hook(
            lambda block, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    else:  # the last entry has the final norm on top: what the head is given
        head = inner_model(model).get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def _head_reads(model: nn.Module, places: Tensor) -> Iterator[None]:
    """Meanwhile the head gets the states at `places` of the flattened rows and no others, as one row. The rest of the
    model's own forward (scaled or capped logits) stays as it is."""

    def only(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return inputs[0].flatten(0, 1)[places][None]

    hook = inner_model(model).get_output_embeddings().register_forward_pre_hook(only)
    try:
        yield
    finally:
        hook.remove()


def _by_view(parts: tuple[Any, ...], order: Tensor | None, shapes: Mapping[Hashable, Tensor]) -> list[Tensor]:
    """[N, D] of each chunk -> [n, width, D] of each view, whose shapes [n, width] are given."""
    joined = parts[0] if order is None else torch.cat(parts)[order]
    pieces = joined.split([shape.numel() for shape in shapes.values()])
    return [piece.view(*shape.shape, -1) for piece, shape in zip(pieces, shapes.values(), strict=True)]


def check_layer(hidden: HiddenSpec | None, default_layer: int, layers: int) -> None:
    """ValueError when the method's decoder block does not exist in a model of `layers` blocks."""
    if hidden is not None:
        _state_index(hidden, default_layer, layers)


def _state_index(hidden: HiddenSpec, default_layer: int, layers: int) -> int:
    """Index into `hidden_states`: block l's output is entry l + 1, the last entry has the final norm on top."""
    if hidden.layer == "last":
        return layers
    layer = default_layer if hidden.layer is None else int(hidden.layer)
    if not 0 <= layer < layers:
        raise ValueError(f"layer={layer} is out of range: this model has decoder blocks 0 to {layers - 1}.")
    return layer + 1


def score_views(outputs: Mapping[Any, Mapping[str, Tensor]]) -> dict[Any, Scored]:
    """What a forward returned, as the scored views a method sees."""
    return {
        name: Scored(out["logits"], out["labels"], out.get("hidden"), out.get("hidden_mask"))
        for name, out in outputs.items()
    }
