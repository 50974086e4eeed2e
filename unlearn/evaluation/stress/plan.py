"""What a track brings to a stress run: which of its tasks each test asks, and what relearning trains on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unlearn.data.samples import EvalItem, Sample, SampleSource
from unlearn.evaluation.suite import EvalTask
from unlearn.evaluation.variants import Paraphrase

TESTS = ("variants", "leak", "matrix", "quantisation", "relearning", "depth", "probe", "gradient")
OPTIONAL = ("gradient",)  # run where they are named: a backward pass for each row


@dataclass(frozen=True)
class Plan:
    """Everything is lazy: nothing is tokenised, and a picture is opened when its row is asked.

    Attributes:
        varied: (task, kinds) that every variant is tried on, with the other wordings of its questions.
        leak: (task, `name` or `ROUGE`) whose answers are drawn many times.
        forget, retain: label -> task of the leakage matrix and of its twin.
        known: (task, kinds) that are asked of rounded models.
        relearning: name of the data -> (what is trained on, what is asked).
        inside: the task for activation patching; `faces`: that of the probe, whose rows name people, or None.
        membership: forget tasks, each with its twin on people whom nobody was trained on.
    """

    varied: list[tuple[EvalTask, tuple[str, ...], Paraphrase | None]]
    leak: list[tuple[EvalTask, str]]
    known: list[tuple[EvalTask, tuple[str, ...]]]
    relearning: dict[str, tuple[SampleSource, EvalTask]]
    inside: EvalTask
    forget: dict[str, EvalTask] = field(default_factory=dict)
    retain: dict[str, EvalTask] = field(default_factory=dict)
    faces: EvalTask | None = None
    membership: list[tuple[EvalTask, EvalTask]] = field(default_factory=list)

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests that this plan has tasks for."""
        has = {"matrix": bool(self.forget), "probe": self.faces is not None, "relearning": bool(self.relearning),
               "gradient": bool(self.membership)}  # fmt: skip
        return tuple(test for test in TESTS if has.get(test, True))


class Chosen(Sequence[EvalItem]):
    """Some of the items of a task."""

    def __init__(self, items: Sequence[EvalItem], places: Sequence[int]) -> None:
        self.items, self.places = items, list(places)
        self.rows = getattr(items, "rows", None)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> EvalItem:  # type: ignore[override]  # one row at a time, no slices
        return self.items[self.places[index]]


class ItemSource:
    """Items of a task to be trained on, each with its exact answer."""

    def __init__(self, items: Sequence[EvalItem]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        return self.items[index].sample

    def has_image(self, index: int) -> bool:
        return self.items[index].sample["image"] is not None

    def subject(self, index: int) -> str | None:
        return self.items[index].author


def part(task: EvalTask, places: Sequence[int], what: str) -> EvalTask:
    """The task with only the items at `places`."""
    lengths = None if task.lengths is None else [task.lengths[place] for place in places]
    return EvalTask(task.name, Chosen(task.items, places), lengths, f"{task.identity} {what}")


def holdout_of(split: str) -> str:
    """The split of people whom nobody was trained on, beside `forget10` or `forget10_perturbed`. ValueError for a split
    of another name."""
    name = split.removesuffix("_perturbed")
    if not name.startswith("forget"):
        raise ValueError(
            f"tests has 'gradient', which compares split={split} with people whom nobody was trained on, and no "
            "holdout goes with a split of that name; leave it out."
        )
    return name.replace("forget", "holdout", 1)


def evenly(task: EvalTask, count: int) -> EvalTask:
    """`count` rows spread over the task, all of a smaller one: of what is asked for comparison, as many as of the
    rest."""
    total = len(task.items)
    return task if total <= count else part(task, [place * total // count for place in range(count)], f"{count} rows")


def few(task: EvalTask, count: int = 2) -> tuple[SampleSource, EvalTask]:
    """(the first `count` rows of each person, the task with the others).

    Raises:
        ValueError: rows that name no person, or no rows left.
    """
    met: dict[str, int] = {}
    taught: list[int] = []
    asked: list[int] = []
    for place in range(len(task.items)):
        person = task.items[place].author
        if person is None:
            raise ValueError(f"{task.name}: relearning from few rows of each person needs a column `name`; leave `few` "
                             "out of relearn.data.")  # fmt: skip
        met[person] = met.get(person, 0) + 1
        (taught if met[person] <= count else asked).append(place)
    if not asked:
        raise ValueError(f"{task.name} has {count} rows of each person or fewer, so that none is left to ask; leave "
                         "`few` out of relearn.data, or raise ds_size.")  # fmt: skip
    return ItemSource(Chosen(task.items, taught)), part(task, asked, f"without {count} of each")
