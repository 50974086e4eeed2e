"""Two models on the same rows: paired differences of a track's numbers, how sure they are, and where gold and base
lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.comparable import check_comparable
from unlearn.leaderboard.identity import identity, relative
from unlearn.leaderboard.scores import Scores, Units, known_rows, score_log, units_of
from unlearn.leaderboard.table import plain_text
from unlearn.leaderboard.tracks import track_of
from unlearn.metrics.aggregates import Task, Track
from unlearn.metrics.columns import column_of, per_item
from unlearn.metrics.comparison import (
    equivalence,
    holm,
    leakage,
    paired_interval,
    people_needed,
    sign_flip_p,
    smallest_p,
    swap_p,
)
from unlearn.metrics.intervals import interval
from unlearn.metrics.membership import person_means
from unlearn.metrics.model_utility import harmonic_means
from unlearn.results import EvalLog

MARGIN = 0.05
Array = NDArray[np.float64]
_INSIDE = (-1.0, 1.0)  # differences of numbers in [0, 1]


def compare_logs(
    a: EvalLog,
    b: EvalLog,
    *,
    gold: EvalLog | None = None,
    base: EvalLog | None = None,
    margin: float = MARGIN,
    relative_to: str = ".",
) -> dict[str, Any]:
    """JSON-ready: A minus B for the track's composites and the numbers they are made of, by name under `numbers`.

    Each has `A`, `B`, `difference`, its 95 % and 90 % interval over people (null below four), `p` (swapping people
    between the models), `p Holm` (corrected for the number of comparisons here), `smallest p` (what so few people can
    give), `verdict` (equivalence within `margin` by the 90 % interval), `people needed` (null where several groups of
    people meet in one number) and, for what should be forgotten, `leakage` of A and B: 0 as gold, 1 as base, null
    without both or where base and gold cannot be told apart.

    Raises:
        ValueError: logs of another track, of other rows, or asked otherwise.
    """
    track = track_of(a.tasks, a.name)
    others = {"B": b, **{name: log for name, log in (("gold", gold), ("base", base)) if log is not None}}
    unchecked = [fact for log in others.values() for fact in check_comparable(a, log, track)]
    facts = known_rows([a, *others.values()], track)
    units = units_of(a, track, facts)
    scores = {name: score_log(log, track, facts, None) for name, log in {"A": a, **others}.items()}
    parts = dict.fromkeys(part for own in track.composites.values() for part in own)
    numbers = {
        name: _compare(name, Pair(track, units, scores["A"], scores["B"]), margin)
        for name in (*track.composites, *parts)
    }
    for facts_of, corrected in zip(numbers.values(), holm([one["p"] for one in numbers.values()]), strict=True):
        facts_of["p Holm"] = float(corrected)
    if "gold" in scores and "base" in scores:
        anchors = Pair(track, units, scores["base"], scores["gold"])
        for name in numbers:
            numbers[name]["leakage"] = _leakage(name, anchors, scores["A"], scores["B"])
    return {
        "schema_version": 1,
        "track": track.name,
        "margin": margin,
        "models": {name: _model(log, track, relative_to) for name, log in {"A": a, **others}.items()},
        "resampled": units.kinds,
        "unchecked": list(dict.fromkeys(unchecked)),
        "numbers": numbers,
    }


class Pair:
    """Two models on the same rows: what is compared of one number, a mean over items or a composite of such means."""

    def __init__(self, track: Track, units: Units, ours: Scores, theirs: Scores) -> None:
        self.track, self.units, self.ours, self.theirs = track, units, ours, theirs
        self.tasks: dict[str, Task] = {f"{one.name} {task.label}": task for task in track.tasks for one in per_item()}
        self.without = [units.without_each(one, track) for one in (ours, theirs)]

    def parts(self, name: str) -> tuple[str, ...]:
        return self.track.composites.get(name, (name,))

    def people(self, part: str) -> list[tuple[str, int]]:
        """[N] whose the items of a part are: (group of tasks, number)."""
        task = self.tasks[part]
        return [(task.group, int(number)) for number in self.units.numbers[task.label]]

    def groups(self, name: str) -> set[str]:
        return {self.tasks[part].group for part in self.parts(name)}

    def items(self, part: str) -> tuple[Array, Array]:
        return self.ours.items[part], self.theirs.items[part]

    def difference(self, name: str) -> float:
        return self.ours.means[name] - self.theirs.means[name]

    def left_out(self, name: str) -> list[Array]:
        """The difference without each person in turn, for each group of people."""
        return [one - other for one, other in zip(*(without[name] for without in self.without), strict=True)]

    def interval(self, name: str, level: float) -> list[float] | None:
        if name in self.track.composites:
            return interval(self.difference(name), self.left_out(name), bounds=_INSIDE, level=level)
        column = column_of(name)
        bounds = _INSIDE if column is None or column.bounded else (-np.inf, np.inf)
        numbers = self.units.numbers[self.tasks[name].label]
        _, low, high = paired_interval(*self.items(name), numbers, level=level, bounds=bounds)
        return None if low is None or high is None else [low, high]

    def p(self, name: str) -> float:
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


def _compare(name: str, pair: Pair, margin: float) -> dict[str, Any]:
    people = len({person for part in pair.parts(name) for person in pair.people(part)})
    each = pair.of_people(name)
    known = each is not None and len(each) > 1 and np.isfinite(each).all()
    inner = pair.interval(name, 0.9)
    return {
        "A": pair.ours.means[name],
        "B": pair.theirs.means[name],
        "difference": pair.difference(name),
        "interval": pair.interval(name, 0.95),
        "interval 90": inner,
        "p": pair.p(name),
        "smallest p": smallest_p(people),
        "verdict": equivalence(inner, margin),
        "people": people,
        "people needed": people_needed(each, margin) if each is not None and known else None,
        "leakage": None,
    }


def _leakage(name: str, anchors: Pair, a: Scores, b: Scores) -> dict[str, float | None] | None:
    """Of both models; None for what is not to be forgotten, and where the interval of base minus gold holds 0."""
    if not all(anchors.tasks[part].to_forget for part in anchors.parts(name)):
        return None
    ends = anchors.interval(name, 0.95)
    if ends is None or ends[0] <= 0 <= ends[1]:
        return None
    base, gold = anchors.ours.means[name], anchors.theirs.means[name]
    return {"A": leakage(a.means[name], gold, base), "B": leakage(b.means[name], gold, base)}


def _model(log: EvalLog, track: Track, folder: str) -> dict[str, Any]:
    known = identity(log, None, None, track, folder)
    return {**{key: known[key] for key in ("method", "model", "seed", "settings_hash")}, "log": relative(log, folder)}


def comparison_table(found: Mapping[str, Any]) -> str:
    """The comparison as aligned text, with notes on how to read it."""
    numbers: Mapping[str, Mapping[str, Any]] = found["numbers"]
    leaks = any(one["leakage"] for one in numbers.values())
    header = ["Number", "A", "B", "A - B", "95 %", "p", "p Holm", "90 %", f"within {found['margin']:g}", "People",
              "needed", *(["Leakage A", "Leakage B"] if leaks else [])]  # fmt: skip
    body = [
        [name, f"{one['A']:.3f}", f"{one['B']:.3f}", f"{one['difference']:+.3f}", _ends(one["interval"]),
         f"{one['p']:.3g}", f"{one['p Holm']:.3g}", _ends(one["interval 90"]), one["verdict"], str(one["people"]),
         "" if one["people needed"] is None else str(one["people needed"]),
         *([_share(one["leakage"], model) for model in ("A", "B")] if leaks else [])]
        for name, one in numbers.items()
    ]  # fmt: skip
    models = [f"{name}: {one['method']} ({one['log'] or one['model']})" for name, one in found["models"].items()]
    return "\n".join([*models, "", plain_text(header, body, _notes(found, leaks))])


def _notes(found: Mapping[str, Any], leaks: bool) -> Sequence[str]:
    numbers = found["numbers"].values()
    fewest = min(numbers, key=lambda one: one["people"])
    notes = [
        f"p: people swapped between the models; {fewest['people']} people never give less than "
        f"{fewest['smallest p']:.3g}. p Holm: corrected for {len(numbers)} comparisons.",
        f"equal: the 90 % interval lies inside ({-found['margin']:g}, {found['margin']:g}); different: it leaves 0 "
        "out; unknown: neither. No significant difference is not equality.",
        "needed: people that it takes to call two equal models equal (power .8).",
        "One run of each model: seeds are not in the intervals.",
    ]
    if leaks:
        notes.append("Leakage: 0 as gold, 1 as base; empty where base and gold cannot be told apart.")
    if any(one["interval"] is None for one in numbers):
        notes.append("No interval: fewer than four people.")
    if "items" in found["resampled"].values():
        notes.append("People are not known everywhere: where they are not, items stand for them.")
    if found["unchecked"]:
        notes.append(f"The logs do not say, so that it was not compared: {', '.join(found['unchecked'])}.")
    return notes


def _ends(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"


def _share(leaks: Mapping[str, float | None] | None, model: str) -> str:
    value = (leaks or {}).get(model)
    return "" if value is None else f"{value:.2f}"
