"""One model of several seeds: its numbers as means over them, with intervals over people and seeds, and how much nearer
to gold it comes than another model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn.leaderboard.comparable import check_comparable
from unlearn.leaderboard.pair import SEEDS, Array, Pair
from unlearn.leaderboard.scores import Scores, Units, known_rows, score_log, units_of
from unlearn.leaderboard.tracks import track_of
from unlearn.metrics.aggregates import FORGET as FORGET_LABEL
from unlearn.metrics.aggregates import Track
from unlearn.metrics.columns import FORGET, QUALITY, RETAIN, column_of
from unlearn.metrics.forget_quality import js_forget_quality, quality_without
from unlearn.metrics.intervals import interval
from unlearn.results import EvalLog


@dataclass(frozen=True)
class Number:
    """A mean over seeds and its 95 % interval; None below four people."""

    value: float
    ends: list[float] | None


class SameRows:
    """Models that were asked about the same rows, each with its seeds' scores, and gold's."""

    def __init__(self, models: Mapping[str, Sequence[EvalLog]], gold: EvalLog, refusals: Sequence[str] | None) -> None:
        """ValueError: logs of another track, of other rows, or asked otherwise than gold."""
        every = [gold, *(log for logs in models.values() for log in logs)]
        self.track: Track = track_of(gold.tasks, gold.name)
        for log in every[1:]:
            check_comparable(log, gold, self.track)
        facts = known_rows(every, self.track)
        self.units: Units = units_of(gold, self.track, facts)
        self.gold: Scores = score_log(gold, self.track, facts, refusals)
        self.models: dict[str, list[Scores]] = {
            name: [score_log(log, self.track, facts, refusals) for log in logs] for name, logs in models.items()
        }

    def numbers(self, name: str) -> dict[str, Number]:
        """Every mean and composite of a model, and Forget Quality (1 - JSD) under its key."""
        scores = self.models[name]
        without = [self.units.without_each(one, self.track) for one in scores]
        found = {}
        for key in without[0]:
            values = [one.means[key] for one in scores]
            people = [np.mean(group, axis=0) for group in zip(*(one[key] for one in without), strict=True)]
            found[key] = _number(values, people, _bounds(key))
        label, gold = FORGET_LABEL, self.gold
        values = [float(js_forget_quality(one.ratios[label], gold.ratios[label])) for one in scores]
        left = [quality_without(one.ratios[label], gold.ratios[label], self.units.numbers[label]) for one in scores]
        found[QUALITY.key(self.track)] = _number(values, [np.mean(left, axis=0)])
        return found

    def against(self, name: str, other: str) -> dict[str, Number]:
        """`gap`: how much farther from gold's Forget metric a model is than another (negative: nearer), the same person
        left out of both and of gold; `retain`: the difference of their Retain metrics."""
        pair = Pair(self.track, self.units, self.models[name], self.models[other])
        gold = self.gold.means[FORGET.name]
        ours, theirs = pair.means(FORGET.name)
        (gold_without,) = self.units.without_each(self.gold, self.track)[FORGET.name]
        left = [np.mean([one[FORGET.name][0] for one in side], axis=0) for side in pair.without]
        people = np.abs(left[0] - gold_without) - np.abs(left[1] - gold_without)
        few = [np.abs(rest - gold) - abs(theirs - gold) for rest in _seeds_left_out(self.models[name])]
        few += [abs(ours - gold) - np.abs(rest - gold) for rest in _seeds_left_out(self.models[other])]
        gap = abs(ours - gold) - abs(theirs - gold)
        return {
            "gap": Number(gap, interval(gap, [people], few=few, bounds=(-1.0, 1.0))),
            "retain": Number(pair.difference(RETAIN.name), pair.interval(RETAIN.name, 0.95)),
        }


def _number(values: Sequence[float], people: Sequence[Any], bounds: tuple[float, float] = (0.0, 1.0)) -> Number:
    mean = float(np.mean(values))
    ends = interval(mean, people, few=_without_each(values), bounds=bounds)
    return Number(mean, [max(0.0, end) for end in ends] if ends else None)


def _seeds_left_out(scores: Sequence[Scores]) -> list[Array]:
    return _without_each([one.means[FORGET.name] for one in scores])


def _without_each(values: Sequence[float]) -> list[Array]:
    """The mean without each seed in turn, where there are three or more; fewer say nothing of their spread."""
    every = np.asarray(values, dtype=np.float64)
    return [(every.sum() - every) / (len(every) - 1)] if len(every) >= SEEDS else []


def _bounds(key: str) -> tuple[float, float]:
    column = column_of(key)
    return (0.0, 1.0) if column is None or column.bounded else (-np.inf, np.inf)
