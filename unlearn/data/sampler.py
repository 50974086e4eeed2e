"""In which order a run sees its items: batches of one modality, the same kind on every rank at each step."""

from collections.abc import Callable, Iterator

from torch.utils.data import Sampler

from unlearn.data.samples import draw
from unlearn.data.views import ORDER, Draw, ForgetRetainDataset


class EpochSampler(Sampler):
    """Batches of `Draw`s for the whole run, epoch after epoch, for one rank.

    Every batch holds rows of one modality, and at each step all ranks hold the same modality and the same number of
    rows, so no rank waits for an image another one does not have. One process sees the union of what n processes see.

    With `alike` the partners of a batch have one modality too, which engines need that gather weights as they are used:
    rows are grouped by what is drawn for them, so every draw stays, and only which rows share a step changes.

    With `accumulation` micro-batches to a step, a pass of a method that alternates is filled up to whole steps by at
    most `accumulation` - 1 batches of its own, seen twice: ascent and descent never share a step.
    """

    def __init__(
        self,
        dataset: ForgetRetainDataset,
        *,
        batch_size: int,
        epochs: float,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        passes: Callable[[int], tuple[str, ...] | None] = lambda epoch: None,
        accumulation: int = 1,
        alike: bool = False,
    ) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.rank, self.world_size, self.passes = rank, world_size, passes
        self.accumulation, self.alike = accumulation, alike
        whole = int(epochs)
        counts = [self.batches_in_epoch(epoch) for epoch in range(whole + (epochs > whole))]
        if epochs > whole:
            counts[-1] = round(counts[-1] * (epochs - whole))
        self.counts = counts

    def __len__(self) -> int:
        return sum(self.counts)

    def batches_in_epoch(self, epoch: int) -> int:
        """Batches of a whole epoch on each rank."""
        return sum(len(self._global_batches(epoch, name)) for name in self.passes(epoch) or (None,))

    def __iter__(self) -> Iterator[list[Draw]]:
        for epoch, count in enumerate(self.counts):
            batches = [
                [Draw(epoch, index, name) for index in batch]
                for name in self.passes(epoch) or (None,)
                for batch in self._global_batches(epoch, name)
            ]
            for batch in batches[:count]:
                yield batch[self.rank :: self.world_size]

    def _global_batches(self, epoch: int, name: str | None) -> list[list[int]]:
        """The rows of each step over all ranks. A remainder is filled up to a multiple of the ranks, by at most n -
        1 rows."""
        rng = draw(self.seed, epoch, ORDER, {None: 0, "forget": 1, "retain": 2}.get(name, 3))
        order = rng.permutation(self.dataset.length(name)).tolist()
        size = self.batch_size * self.world_size
        batches = []
        groups: dict[tuple[bool, ...], list[int]] = {}
        for index in order:
            groups.setdefault(self._group(epoch, index, name), []).append(index)
        for _, rows in sorted(groups.items()):
            missing = -len(rows) % self.world_size
            rows += (rows * self.world_size)[:missing]
            batches += [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [batches[position] for position in rng.permutation(len(batches))]
        missing = -len(batches) % self.accumulation if name else 0
        return batches + (batches * self.accumulation)[:missing]

    def _group(self, epoch: int, index: int, name: str | None) -> tuple[bool, ...]:
        return self.dataset.modalities(epoch, index, name) if self.alike else (self.dataset.has_image(index, name),)
