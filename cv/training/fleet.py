"""Many independent models at once: groups of models, over processes, over the ranks of `accelerate launch`.

On a CPU each core gets a process of one thread that trains one model after the other, which is faster there than vmap
(benchmarks/cv_shadow.py). On a GPU one process trains as many models in a stack as its memory holds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from cv.settings import ComputeSettings
from unlearn.plugins import load_plugins, loaded_plugins

logger = logging.getLogger(__name__)
R = TypeVar("R")
MEMORY_SHARE = 0.8  # of the free memory; the rest is for the allocator's gaps


class Fleet:
    """Runs `function(models, device, *arguments)` on groups of models. Use it as a context: its processes end with
    it."""

    def __init__(self, compute: ComputeSettings) -> None:
        local = int(os.environ.get("LOCAL_RANK", 0))
        cuda = torch.cuda.is_available() if compute.device is None else compute.device == "cuda"
        if cuda and not torch.cuda.is_available():
            raise ValueError("compute.device=cuda, but torch sees no GPU here; leave it null.")
        self.device = f"cuda:{local}" if cuda else "cpu"
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.models_per_batch = compute.models_per_batch
        on_node = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        self.processes = 1 if cuda else compute.processes or max(1, len(os.sched_getaffinity(0)) // on_node)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def mine(self, models: Sequence[int]) -> list[int]:
        """This rank's share of the models."""
        return list(models[self.rank :: self.world])

    def wait(self) -> None:
        """Until every rank of `accelerate launch` is here."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState(cpu=self.device == "cpu").wait_for_everyone()

    def groups(
        self, models: Sequence[int], steps: Callable[[int], object], memory: Callable[[], int]
    ) -> list[list[int]]:
        """Models in groups that train together: as many steps each, and no more of them than fit.

        Args:
            steps: what two models must have in common to share a stack.
            memory: bytes one model needs; asked on a GPU only, when `models_per_batch` is null.
        """
        if not models:
            return []
        if self.device == "cpu":
            size = self.models_per_batch or 1
        else:
            size = self.models_per_batch or models_that_fit(torch.cuda.mem_get_info(self.device)[0], memory())
        alike: dict[object, list[int]] = {}
        for model in models:
            alike.setdefault(steps(model), []).append(model)
        return [same[i : i + size] for same in alike.values() for i in range(0, len(same), size)]

    def map(self, function: Callable[..., R], groups: Sequence[Sequence[int]], *arguments: Any) -> Iterator[R]:
        """Results in the order in which groups finish. `function` is a module's own, so that a process can import
        it."""
        if self.processes == 1 or len(groups) < 2:
            for group in groups:
                yield function(group, self.device, *arguments)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(loaded_plugins(),)
            )
        waiting = [self._pool.submit(function, group, self.device, *arguments) for group in groups]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()


def models_that_fit(free: int, per_model: int) -> int:
    """How many models of `per_model` bytes fit into `free` bytes of a GPU, at least one."""
    return max(1, int(MEMORY_SHARE * free / max(1, per_model)))


def _begin(plugins: Sequence[str]) -> None:
    """A process of the pool: one thread, and the methods from outside."""
    torch.set_num_threads(1)
    load_plugins(plugins)
