"""The numbers of a certificate: an unlearned model beside gold, or beside people held out from training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.privacy import curve
from unlearn.leaderboard.scores import known_rows, rows_of, score_log
from unlearn.leaderboard.verdict import Finding
from unlearn.metrics.aggregates import Task, Track
from unlearn.metrics.comparison import leakage, people_needed
from unlearn.metrics.intervals import interval, means_without, unit_numbers
from unlearn.metrics.membership import attack_auc, person_means
from unlearn.results import EvalLog, check_same_rows

MARGIN = 0.05
KNOWN = {"ROUGE": "words of the answer said", "Prob.": "probability of the answer"}  # high: the model knows it
GOLD, HOLDOUT = "gold", "held-out people"
Array = NDArray[np.float64]
People = tuple[list[str], list[str]]


@dataclass(frozen=True)
class Logs:
    """The evaluations that a certificate is made from; `gold` may be missing."""

    model: EvalLog
    base: EvalLog
    gold: EvalLog | None = None

    def there(self) -> dict[str, EvalLog]:
        """Those that there are, by name."""
        return {name: log for name, log in vars(self).items() if log is not None}


class Numbers:
    """Values per row of every model, and differences with their intervals over people."""

    def __init__(self, logs: Logs, track: Track) -> None:
        self.logs, self.track = logs, track
        every = list(logs.there().values())
        twin_of = dict(track.holdout)
        tasks = [task for task in (*track.tasks, *track.beside) if all(task.name in log.tasks for log in every)]
        listed = {task.name for task in tasks}
        tasks += [Task(twin, f"{name} twin", "Holdout") for name, twin in twin_of.items()
                  if twin not in listed and all(twin in log.tasks for log in every)]  # fmt: skip
        whole = Track(track.name, tuple(tasks), {})
        facts = known_rows(every, whole)
        self.tasks = {task.name: task for task in tasks}
        for log in every[1:]:
            check_same_rows(every[0], log, whole.task_names)
        self.items = {name: score_log(log, whole, facts, None).items for name, log in logs.there().items()}
        self.people = {task.name: people_of(logs.model, task.name) for task in tasks}
        self.twins = {name: twin for name, twin in twin_of.items() if {name, twin} <= set(self.tasks)}
        self.against = GOLD if logs.gold is not None else HOLDOUT if self.twins else None
        self.gate_numbers: list[Finding] = []

    def direct(self, margin: float) -> list[Finding]:
        """The rows to forget as they are, beside gold's on the same rows, or the model's on people held out."""
        return [self._beside("model", task, kind, margin) for task in self._forget() for kind in KNOWN]

    def gate(self) -> bool | None:
        """Whether the base knew: every probability or share of words above the reference's by its interval in one of
        them at least; None where no interval can say."""
        self.gate_numbers = [self._beside("base", task, kind, MARGIN) for task in self._forget() for kind in KNOWN]
        ends = [one.interval95 for one in self.gate_numbers if one.interval95 is not None]
        return None if not ends else any(low > 0 for low, _ in ends)

    def kept(self, margin: float) -> list[Finding]:
        """The rows to keep, beside the base's."""
        found = []
        for task in self.track.tasks:
            if task.to_forget or task.name not in self.tasks:
                continue
            for kind in KNOWN:
                key = f"{kind} {task.label}"
                found.append(self._paired(f"{KNOWN[kind]}, {task.label}", self.items["model"][key],
                                          self.items["base"][key], task.name, margin))  # fmt: skip
        return found

    def auc(self, task: Task, twin: str, margin: float) -> Finding | None:
        """Membership by person: 1 where the people still look trained on, 0 where they stand out. The reference is
        gold's, else 1/2, what people whom a model has never met get."""
        if task.name not in self.twins:
            return None
        people = (self.people[task.name], self.people[twin])
        curves = {name: curve(log, (task.name, twin)) for name, log in self.logs.there().items()}
        own = {name: _auc_without(scores, people) for name, scores in curves.items() if scores is not None}
        (value, sides), reference = own["model"], own.get("gold")
        target = 0.5 if reference is None else reference[0]
        without = [side - (0.5 if reference is None else reference[1][place]) for place, side in enumerate(sides)]
        ends95, ends90 = (interval(value - target, without, bounds=(-1, 1), level=level) for level in (0.95, 0.9))
        each = without[0]  # leaving a person out moves the difference by its share of it
        needed = people_needed(len(each) * (each.mean() - each), margin) if len(each) > 1 else None
        base = own["base"][0]
        return Finding(f"membership, {task.label}", value, target, base, value - target, ends95, ends90, needed)

    def leakage(self, one: Finding) -> float | None:
        """0 as the reference, 1 as before unlearning; None where base and reference cannot be told apart."""
        gate = next((other for other in self.gate_numbers if other.name == one.name), None)
        apart = gate is not None and gate.interval95 is not None and gate.interval95[0] > 0
        if not apart or one.reference is None or one.base is None:
            return None
        return leakage(one.model, one.reference, one.base)

    def _forget(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.to_forget]

    def _beside(self, name: str, task: Task, kind: str, margin: float) -> Finding:
        key, title = f"{kind} {task.label}", f"{KNOWN[kind]}, {task.label}"
        ours = self.items[name][key]
        if self.against == GOLD:
            return self._paired(title, ours, self.items["gold"][key], task.name, margin, float(self._base(key)))
        twin = self.twins.get(task.name)
        if twin is None:
            return Finding(title, float(ours.mean()), None, float(self._base(key)), None)
        theirs = self.items[name][f"{kind} {self.tasks[twin].label}"]
        return _unpaired(title, (ours, theirs), (self.people[task.name], self.people[twin]), self._base(key), margin)

    def _base(self, key: str) -> float:
        return float(self.items["base"][key].mean())

    def _paired(self, title: str, ours: Array, theirs: Array, task: str, margin: float,
                base: float | None = None) -> Finding:  # fmt: skip
        people, gap = self.people[task], ours - theirs
        without = [means_without(gap, unit_numbers(people))]
        ends = [interval(float(gap.mean()), without, bounds=(-1, 1), level=level) for level in (0.95, 0.9)]
        means = person_means(gap, people)
        needed = people_needed(means, margin) if len(means) > 1 else None
        return Finding(
            title, float(ours.mean()), float(theirs.mean()), base, float(gap.mean()), ends[0], ends[1], needed
        )


def _unpaired(title: str, values: tuple[Array, Array], people: People, base: float, margin: float) -> Finding:
    """Rows of other people as the reference: the sets are drawn apart, so both spreads count."""
    ours, theirs = (float(one.mean()) for one in values)
    without = [means_without(values[0], unit_numbers(people[0])) - theirs,
               ours - means_without(values[1], unit_numbers(people[1]))]  # fmt: skip
    ends = [interval(ours - theirs, without, bounds=(-1, 1), level=level) for level in (0.95, 0.9)]
    spread = np.concatenate([person_means(one - one.mean(), own) for one, own in zip(values, people, strict=True)])
    needed = people_needed(np.sqrt(2) * spread, margin) if len(spread) > 1 else None
    return Finding(title, ours, theirs, base, ours - theirs, ends[0], ends[1], needed)


def _auc_without(scores: tuple[Array, Array], people: People) -> tuple[float, list[Array]]:
    """The AUC over people's means, and without each person of either set in turn; empty for a set of one."""
    forget, holdout = (person_means(one, own) for one, own in zip(scores, people, strict=True))
    forgets, holdouts = (
        [np.delete(side, place) for place in range(len(side))] if len(side) > 1 else [] for side in (forget, holdout)
    )
    own = np.array([attack_auc(kept, holdout) for kept in forgets])
    other = np.array([attack_auc(forget, kept) for kept in holdouts])
    return attack_auc(forget, holdout), [own, other]


def people_of(log: EvalLog, task: str) -> list[str]:
    """Whose each row is, rows in their fixed order; the row itself where that is not known."""
    rows = log.meta["tasks"][task]["rows"] if log.meta and task in log.meta["tasks"] else {}
    known = {row: facts["author"] for row, facts in rows.items()}
    return [str(known.get(row) or f"row {row}") for row in rows_of(log.tasks[task])]
