"""One module call a step: all views of a batch through the model together, and back as scored views."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearn.method import HiddenSpec
from unlearn.models.compat import unsplit_blocks
from unlearn.models.families import counts_positions, decoder_layers, inner_model, padded_positions
from unlearn.models.pictures import join_inputs
from unlearn.scoring import IGNORE_INDEX, Scored

Rows = dict[str, Any]  # what Collator.pad returns: inputs, labels, answer_length


class StudentForward(nn.Module):
    """Wraps a model so that one call scores every view, with one inner forward per modality present.

    Wrappers for several processes then see one forward per backward. Logits are computed for the answer positions
    only. Plain tensors come back (see `score_views`), since sharding engines cannot look into other objects.
    """

    def __init__(self, model: Any, hidden: HiddenSpec | None = None, *, default_layer: int = 7) -> None:
        super().__init__()
        self.model = model
        self.hidden = hidden
        self.counts_positions = counts_positions(model)
        config = inner_model(model).config
        self.image_token_id = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        self.layer = None if hidden is None else _state_index(hidden, default_layer, decoder_layers(model))

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

    def forward(self, views: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
        """`views`: name -> {"text": rows, "image": rows, "order": [B]} -> name -> {"logits" [B,T,V], "labels" [B,T],
        "hidden" [B,L,D], "hidden_mask" [B,L] (only if asked for)}, rows in their view's order."""
        pieces: dict[str, list[dict[str, Tensor]]] = {name: [] for name in views}
        for modality in ("text", "image"):
            names = [name for name in views if modality in views[name]]
            if names:
                output = self._forward_rows(merge_rows([views[name][modality] for name in names]))
                sizes = [len(views[name][modality]["labels"]) for name in names]
                for name, *parts in zip(names, *(tensor.split(sizes) for tensor in output.values()), strict=True):
                    pieces[name].append(_own_length(dict(zip(output, parts, strict=True)), views[name][modality]))
        return {name: _join(parts, views[name]["order"]) for name, parts in pieces.items()}

    def _forward_rows(self, rows: Rows) -> dict[str, Tensor]:
        answer, length = rows["answer_length"], rows["labels"].shape[1]
        # The position before an answer predicts its first token. Indices rather than a count: the last position's
        # logits would be cut off again, and the gradient of a cut is a copy of all the others.
        predicting = torch.arange(length - answer - 1, length - 1, device=rows["labels"].device)
        inputs = rows["inputs"]
        if self.counts_positions:
            inputs = {**inputs, "position_ids": padded_positions(inputs["attention_mask"])}
        output = self.model(
            **inputs, logits_to_keep=predicting, use_cache=False, output_hidden_states=self.layer is not None
        )
        scored = {"logits": output.logits, "labels": rows["labels"][:, -answer:]}
        if self.layer is not None:
            scored |= {"hidden": output.hidden_states[self.layer], "hidden_mask": self._hidden_mask(rows)}
        return scored

    def _hidden_mask(self, rows: Rows) -> Tensor:
        assert self.hidden is not None
        if self.hidden.scope == "answer":
            return rows["labels"] != IGNORE_INDEX
        mask = rows["inputs"]["attention_mask"] == 1
        if self.image_token_id is not None:
            mask = mask & (rows["inputs"]["input_ids"] != self.image_token_id)
        return mask


def check_layer(hidden: HiddenSpec | None, default_layer: int, layers: int) -> None:
    """ValueError when the method's decoder block does not exist in a model of `layers` blocks."""
    if hidden is not None:
        _state_index(hidden, default_layer, layers)


def _state_index(hidden: HiddenSpec, default_layer: int, layers: int) -> int:
    """Index into `hidden_states`: block l's output is entry l + 1, the last entry has the final norm on top."""
    if hidden.layer == "last":
        return -1
    layer = default_layer if hidden.layer is None else int(hidden.layer)
    if not 0 <= layer < layers:
        raise ValueError(f"layer={layer} is out of range: this model has decoder blocks 0 to {layers - 1}.")
    return layer + 1


def merge_rows(parts: Sequence[Rows]) -> Rows:
    """Rows of several views as one batch, padded on the left to the longest."""
    length = max(part["labels"].shape[1] for part in parts)
    inputs = {name: join_inputs(name, [part["inputs"][name] for part in parts], length) for name in parts[0]["inputs"]}
    labels = [F.pad(part["labels"], (length - part["labels"].shape[1], 0), value=IGNORE_INDEX) for part in parts]
    return {
        "inputs": inputs,
        "labels": torch.cat(labels),
        "answer_length": max(part["answer_length"] for part in parts),
    }


def _own_length(piece: dict[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """Without the padding that other views of the same forward needed: a view has one shape, whoever scores it."""
    widths = {
        name: rows["answer_length"] if name in ("logits", "labels") else rows["labels"].shape[1] for name in piece
    }
    return {name: t if t.shape[1] == widths[name] else t[:, -widths[name] :] for name, t in piece.items()}


def _join(parts: Sequence[dict[str, Tensor]], order: Tensor) -> dict[str, Tensor]:
    """The text and image rows of one view, padded on the left to a common length and put back in order."""
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for name in parts[0]:
        tensors = [part[name] for part in parts]
        length = max(tensor.shape[1] for tensor in tensors)
        value = IGNORE_INDEX if name == "labels" else 0
        padded = [F.pad(t, (0, 0) * (t.ndim - 2) + (length - t.shape[1], 0), value=value) for t in tensors]
        joined[name] = torch.cat(padded)[order]
    return joined


def score_views(outputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Scored]:
    """What a forward returned, as the scored views a method sees."""
    return {
        name: Scored(out["logits"], out["labels"], out.get("hidden"), out.get("hidden_mask"))
        for name, out in outputs.items()
    }
