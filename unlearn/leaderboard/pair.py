"""Two models on the same rows, one run of each or several seeds: what can be said of one number of theirs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.scores import Scores, Units
from unlearn.metrics.aggregates import Task, Track
from unlearn.metrics.columns import column_of, per_item
from unlearn.metrics.comparison import equivalence, people_needed, sign_flip_p, swap_p
from unlearn.metrics.intervals import interval, means_without, unit_numbers
from unlearn.metrics.membership import person_means
from unlearn.metrics.model_utility import harmonic_means

Array = NDArray[np.float64]
SEEDS = 3  # runs of a model from which on its seeds are drawn too
_INSIDE = (-1.0, 1.0)  # differences of numbers in [0, 1]


class Pair:
    """What is compared of one number, a mean over items or a composite of such means; of several seeds, the mean over
    them. The people are the same in all runs."""

    def __init__(self, track: Track, units: Units, ours: Sequence[Scores], theirs: Sequence[Scores]) -> None:
        self.track, self.units, self.sides = track, units, (list(ours), list(theirs))
        self.tasks: dict[str, Task] = {f"{one.name} {task.label}": task for task in track.tasks for one in per_item()}
        self.without = [[units.without_each(one, track) for one in side] for side in self.sides]

    def parts(self, name: str) -> tuple[str, ...]:
        return self.track.composites.get(name, (name,))

    def people(self, part: str) -> list[tuple[str, int]]:
        """[N] whose the items of a part are: (group of tasks, number)."""
        task = self.tasks[part]
        return [(task.group, int(number)) for number in self.units.numbers[task.label]]

    def groups(self, name: str) -> set[str]:
        return {self.tasks[part].group for part in self.parts(name)}

    def items(self, part: str) -> tuple[Array, Array]:
        ours, theirs = (np.mean([one.items[part] for one in side], axis=0) for side in self.sides)
        return ours, theirs

    def means(self, name: str) -> tuple[float, float]:
        ours, theirs = (float(np.mean([one.means[name] for one in side])) for side in self.sides)
        return ours, theirs

    def difference(self, name: str) -> float:
        ours, theirs = self.means(name)
        return ours - theirs

    def left_out(self, name: str) -> list[Array]:
        """The difference without each person in turn, for each group of people."""
        ours, theirs = (np.mean([one[name] for one in side], axis=0) if len(side) > 1 else side[0][name]
                        for side in self.without)  # fmt: skip
        return [np.asarray(one - other) for one, other in zip(ours, theirs, strict=True)]

    def seeds_left_out(self, name: str) -> list[Array]:
        """The difference without each seed in turn, of each model that has three or more."""
        found, both = [], self.means(name)
        for place, side in enumerate(self.sides):
            values = np.array([one.means[name] for one in side])
            if len(values) >= SEEDS:
                rest = (values.sum() - values) / (len(values) - 1)
                found.append(rest - both[1] if place == 0 else both[0] - rest)
        return found

    def interval(self, name: str, level: float) -> list[float] | None:
        """Over people, the same person left out of both models, and over seeds where there are enough."""
        if name in self.track.composites:
            people, bounds = self.left_out(name), _INSIDE
        else:
            column = column_of(name)
            bounds = _INSIDE if column is None or column.bounded else (-np.inf, np.inf)
            people = [means_without(np.subtract(*self.items(name)), unit_numbers(self._numbers(name)))]
        seeds = self.seeds_left_out(name)
        return interval(self.difference(name), people, few=seeds, bounds=bounds, level=level)

    def p(self, name: str) -> float:
        """Of no difference, by swapping people between the models; seeds are averaged."""
        if name in self.track.composites:
            return swap_p([(*self.items(part), self.people(part)) for part in self.parts(name)], harmonic_means)
        return sign_flip_p(*self.items(name), [str(person) for person in self.people(name)])

    def of_people(self, name: str) -> Array | None:
        """[P] what each person says of the difference: the mean of its rows, of a composite the jackknife's
        pseudo-value (for a mean of equally many rows the same). None for people of several groups."""
        if len(self.groups(name)) > 1:
            return None
        if name not in self.track.composites:
            return person_means(np.subtract(*self.items(name)), [str(person) for person in self.people(name)])
        (without,) = self.left_out(name)
        return len(without) * self.difference(name) - (len(without) - 1) * without

    def _numbers(self, name: str) -> NDArray[np.intp]:
        return self.units.numbers[self.tasks[name].label]


def numbers_of(name: str, pair: Pair, margin: float) -> dict[str, Any]:
    """A, B and their difference with its intervals, whether they are equal within `margin`, and how many people it
    takes to say so."""
    each = pair.of_people(name)
    known = each is not None and len(each) > 1 and np.isfinite(each).all()
    inner = pair.interval(name, 0.9)
    ours, theirs = pair.means(name)
    return {
        "A": ours,
        "B": theirs,
        "difference": ours - theirs,
        "interval": pair.interval(name, 0.95),
        "interval 90": inner,
        "verdict": equivalence(inner, margin),
        "people": len({person for part in pair.parts(name) for person in pair.people(part)}),
        "people needed": people_needed(each, margin) if each is not None and known else None,
    }


def compared(track: Track) -> list[str]:
    """The numbers that two models are compared by: the composites and what they are made of."""
    return [*track.composites, *dict.fromkeys(part for own in track.composites.values() for part in own)]
