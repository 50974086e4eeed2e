"""The micro-batches of an optimiser step in as few forwards as hold them.

Each micro-batch keeps its own loss, token means included, and the step's is their mean: that is accumulation, whatever
the method. Only the forward is shared: views of all micro-batches are laid out together under the names
"<micro-batch>/<view>" (text, since ZeRO-3 reads the names of what a module returns), and read back one at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from unlearn.data.views import Draw
from unlearn.method import View
from unlearn.scoring import Scored

T = TypeVar("T")
Batch = Mapping[str, Any]  # a micro-batch: the views by name, epoch, pass_name


def together(batches: Sequence[Batch], views: Sequence[View]) -> dict[str, Any]:
    """The declared views of each micro-batch, as far as it has them."""
    return {
        f"{place}/{view.name}": batch["views"][view.name]
        for place, batch in enumerate(batches)
        for view in views
        if view.name in batch["views"]
    }


def one(found: Mapping[str, T], place: int) -> dict[str, T]:
    """What was found for one micro-batch, by view."""
    own = f"{place}/"
    return {name.removeprefix(own): value for name, value in found.items() if name.startswith(own)}


def relabelled(views: Mapping[str, Scored], batch: Batch) -> dict[str, Scored]:
    """The views of a micro-batch, with the labels that lie beside their rows in place of the answers'."""
    targets = {name: view["labels"] for name, view in batch["views"].items() if "labels" in view}
    return {name: view.with_labels(targets[name]) if name in targets else view for name, view in views.items()}


class Steps:
    """The batches of a sampler as `count` optimiser steps of `accumulation` batches each (the last may have fewer).
    A step is one list of draws, since a DataLoader fetches lists; each draw says which batch of the step it is in."""

    def __init__(self, batches: Any, count: int, accumulation: int) -> None:
        self.batches, self.count, self.accumulation = batches, count, accumulation

    def __len__(self) -> int:
        return min(-(-len(self.batches) // self.accumulation), self.count)

    def __iter__(self) -> Iterator[list[Draw]]:
        batches = iter(self.batches)
        for _ in range(len(self)):
            step = islice(batches, self.accumulation)
            yield [
                Draw(draw.epoch, draw.index, draw.pass_name, place)
                for place, batch in enumerate(step)
                for draw in batch
            ]


class StepItems:
    """Collates the items of a step: a list of micro-batches, each as `collate` makes it."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: Sequence[dict[str, Any]]) -> list[Batch]:
        return [self.collate(list(own)) for _, own in groupby(items, key=lambda item: item["micro_batch"])]


def forwards(batches: Sequence[T], tokens: Sequence[int], most: int) -> list[list[T]]:
    """Batches in their order, in groups of at most `most` tokens; a larger one stays alone.

    Processes group alike, by the largest counts among them: an engine's forward is one that all of them take part in.
    """
    found: list[list[T]] = []
    room = 0
    for batch, count in zip(batches, _largest(tokens), strict=True):
        if not found or count > room:
            found.append([])
            room = most
        found[-1].append(batch)
        room -= count
    return found


def _largest(counts: Sequence[int]) -> list[int]:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1) or len(counts) == 1:
        return list(counts)
    held = torch.tensor(counts)
    dist.all_reduce(held, op=dist.ReduceOp.MAX, group=_on_the_host())
    return held.tolist()


_groups: list[Any] = []


def _on_the_host() -> Any:
    """A group of all processes that exchanges over the CPU: read back from a device, each step would wait for it."""
    if not _groups:
        _groups.append(dist.new_group(backend="gloo"))
    return _groups[0]
