"""Which photo goes into which batch: planned before training starts, by (seed, model, view) alone.

Every view reads an endless stream of shuffles of its photos and every batch is full, so models with the same numbers of
steps can train side by side, and a model gets the same batches whoever trains beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearn.method import Method, StepInfo

_VIEWS = ("forget", "retain", "random")  # their places seed their streams


@dataclass(frozen=True)
class Batch:
    """One step of one model (tensors [B]) or, stacked, of M models ([M, B]).

    `rows` numbers photos by view; `random` holds labels, of k * B other photos, for the view of that name.
    """

    info: StepInfo
    rows: Mapping[str, Tensor]
    random: Tensor | None = None


def plan_batches(
    method: Method,
    rows: Mapping[str, Tensor],
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int,
    oversample: int = 1,
    seed: int,
    model: int,
) -> list[Batch]:
    """All batches of one model.

    An epoch is `oversample` passes over the forget photos, each batch beside one of as many retain photos; a method
    without a forget view passes over the retain photos instead. Methods that alternate passes go over each view in
    turn.

    Args:
        rows: photo numbers under "retain" and, if the method looks at them, "forget".
        labels: [N] identity of every photo.

    Raises:
        ValueError: a view that faces do not have (idk), or one without photos.
    """
    names = _view_names(method, rows)
    schedule = []  # (epoch, running pass or None, number of steps)
    for epoch in range(epochs):
        for name in method.passes(epoch) or (None,):
            lead = name or ("forget" if "forget" in names else "retain")
            count = len(rows[lead]) * (oversample if lead == "forget" and name is None else 1)
            schedule.append((epoch, name, math.ceil(count / batch_size)))
    total = sum(steps for _, _, steps in schedule)
    streams = {name: _stream(rows[name], total, batch_size, (seed, model, _VIEWS.index(name))) for name in names}
    others = _random_labels(method, rows, labels, total, batch_size, (seed, model, _VIEWS.index("random")))
    plan: list[Batch] = []
    for epoch, name, steps in schedule:
        for _ in range(steps):
            info = StepInfo(len(plan), total, epoch, epochs, name)
            running = (name,) if name else names
            at = info.step
            plan.append(
                Batch(info, {view: streams[view][at] for view in running}, None if others is None else others[at])
            )
    return plan


def stack_plans(plans: Sequence[Sequence[Batch]], device: str = "cpu") -> list[Batch]:
    """The plans of M models, step by step, as one plan with [M, B] tensors. They must have the same numbers of
    steps."""
    if len({tuple(batch.info for batch in plan) for plan in plans}) != 1:
        raise ValueError("only models with the same number of steps can train together")
    stacked = []
    for step in zip(*plans, strict=True):
        rows = {view: torch.stack([batch.rows[view] for batch in step]).to(device) for view in step[0].rows}
        others = [batch.random for batch in step if batch.random is not None]
        stacked.append(Batch(step[0].info, rows, torch.stack(others).to(device) if others else None))
    return stacked


def _view_names(method: Method, rows: Mapping[str, Tensor]) -> tuple[str, ...]:
    views = {view.name: view for view in method.student_views}
    for name, view in views.items():
        if name not in _VIEWS or (name == "random" and (view.source != "retain" or "forget" not in views)):
            raise ValueError(
                f"the method asks for the view {name!r}, which faces do not have; choose a method of cv.methods."
            )
    names = tuple(name for name in views if name != "random")
    empty = [name for name in names if len(rows.get(name, ())) == 0]
    if empty:
        raise ValueError(f"there is no {empty[0]} photo to train on; check the split's {empty[0]} identities.")
    return names


def _stream(rows: Tensor, steps: int, batch_size: int, seed: tuple[int, ...]) -> Tensor:
    """[steps, batch_size] photo numbers cut from shuffle after shuffle of `rows`."""
    rng = np.random.default_rng(seed)
    rounds = math.ceil(steps * batch_size / len(rows))
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(rounds)])[: steps * batch_size]
    return rows[torch.from_numpy(order)].view(steps, batch_size)


def _random_labels(
    method: Method, rows: Mapping[str, Tensor], labels: Tensor, steps: int, batch_size: int, seed: tuple[int, ...]
) -> Tensor | None:
    """[steps, k * batch_size] identities of random retain photos, answer-major, or None if no view wants them."""
    wanted = [view.k for view in method.student_views if view.name == "random"]
    if not wanted:
        return None
    drawn = np.random.default_rng(seed).integers(len(rows["retain"]), size=(steps, wanted[0] * batch_size))
    return labels[rows["retain"][torch.from_numpy(drawn)]]
