"""From an eval log to the `paper` numbers: values per item, their means, and the same means without one person."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.aggregates import Task, Track, composites
from unlearn.metrics.columns import Answers, per_item
from unlearn.metrics.intervals import means_without, unit_numbers
from unlearn.metrics.reference import TaskLosses
from unlearn.metrics.rouge import rouge_recall
from unlearn.results import EvalLog, RowMeta, TaskLog, row_order

Array = NDArray[np.float64]
Facts = Mapping[str, Mapping[str, RowMeta]]


@dataclass(frozen=True)
class Scores:
    """One log. `items`: values per item ("ROUGE Retain": [N], ...) in row order; `means`: their means and the
    composites;
    `ratios`: R [N] by task label."""

    items: dict[str, Array]
    means: dict[str, float]
    ratios: dict[str, Array]


@dataclass(frozen=True)
class Units:
    """Who the items of each task label belong to. `numbers`: [N] the person of each item, or the item where people are
    not known; `kinds`: "people" or "items"; `people`: how many are known, else None."""

    numbers: dict[str, NDArray[np.intp]]
    kinds: dict[str, str]
    people: dict[str, int | None]

    def known_people(self, label: str) -> NDArray[np.intp] | None:
        """[N] the number of each item's person; None where people are not known."""
        return self.numbers[label] if self.kinds[label] == "people" else None

    def without_each(self, scores: Scores, track: Track) -> dict[str, list[Array]]:
        """Every mean and composite of `scores` without each unit in turn (metrics.intervals): by name, an array [units]
        for each group of tasks that it rests on."""
        found: dict[str, list[Array]] = {}
        measured = {f"{column.name} {task.label}": task for task in track.tasks for column in per_item()}
        for group in dict.fromkeys(task.group for task in track.tasks):
            labels = [task.label for task in track.tasks if task.group == group]
            count = 1 + max(int(self.numbers[label].max()) for label in labels)
            means = {name: np.full(count, scores.means[name]) for name in measured if name in scores.items}
            own = {name for name in means if measured[name].group == group}
            for name in own:
                means[name] = means_without(scores.items[name], self.numbers[measured[name].label], count)
                found.setdefault(name, []).append(means[name])
            for name, without in composites(means, track).items():
                if own & set(track.composites[name]):
                    found.setdefault(name, []).append(without)
        return found


def known_rows(logs: Sequence[EvalLog], track: Track) -> Facts:
    """What `eval_meta.json` says of the rows of each task, from the first log that has one; it holds for all of them.

    ValueError where two logs scored different wrong answers under one row.
    """
    facts: dict[str, Mapping[str, RowMeta]] = {}
    for name in track.task_names:
        known = [(log, log.meta["tasks"][name]["rows"]) for log in logs if log.meta and name in log.meta["tasks"]]
        facts[name] = known[0][1] if known else {}
        for log, rows in known[1:]:
            if other := [row for row in rows if rows[row]["wrong_answers"] != facts[name][row]["wrong_answers"]]:
                raise ValueError(
                    f"{known[0][0].name} and {log.name}, task {name}: other wrong answers in {len(other)} rows, "
                    f"the first of them {other[0]}. Evaluate both models on the same dataset and revision."
                )
    return facts


def rows_of(task: TaskLog) -> list[str]:
    """Row ids in one fixed order, whatever the order in the file."""
    return sorted(task["avg_gt_loss"], key=row_order)


def score_log(log: EvalLog, track: Track, facts: Facts, refusals: Sequence[str] | None) -> Scores:
    """The `paper` numbers of METRICS per item and on average. `refusals`: bank of refusal lines, None leaves the
    rate out."""
    items: dict[str, Array] = {}
    ratios: dict[str, Array] = {}
    for task in track.tasks:
        answers = answers_of(log, task, facts[task.name], refusals)
        ratios[task.label] = answers.ratios
        kept = kept_of(log, task.name)
        for column in per_item():
            if kept is not None and column.texts:
                if column.name in kept:
                    own = kept[column.name]
                    items[f"{column.name} {task.label}"] = np.array([own[row] for row in rows_of(log.tasks[task.name])])
            elif column.per_item and (column.needs is None or getattr(answers, column.needs) is not None):
                items[f"{column.name} {task.label}"] = column.per_item(answers)
    means = {name: float(values.mean()) for name, values in items.items()}
    means |= {name: float(value) for name, value in composites(means, track).items()}
    return Scores(items, means, ratios)


def kept_of(log: EvalLog, task: str) -> Mapping[str, Mapping[str, float]] | None:
    """By column and row what was computed before a task lost its texts; None for one that has them."""
    return log.meta["tasks"][task].get("kept") if log.meta and task in log.meta["tasks"] else None


def answers_of(
    log: EvalLog, task: Task, facts: Mapping[str, RowMeta], refusals: Sequence[str] | None = None
) -> Answers:
    """What the columns are made of, rows in their fixed order."""
    data = log.tasks[task.name]
    rows = rows_of(data)
    texts = [data["generated_text"][row] for row in rows]
    if task.rule and not facts:
        raise ValueError(f"{log.name}, task {task.name}: no eval_meta.json beside it, where its questions are kept.")
    known = [facts[row] for row in rows] if task.rule else []
    counts = log.meta["tasks"][task.name]["generation_tokens"] if log.meta and task.name in log.meta["tasks"] else {}
    return Answers(
        right=np.array([data["avg_gt_loss"][row] for row in rows], dtype=np.float64),
        base=np.array([data["avg_paraphrased_loss"][row] for row in rows], dtype=np.float64),
        wrong=[_wrong_losses(data, row, facts, f"{log.name}, task {task.name}, row {row}") for row in rows],
        generated=[text[1] for text in texts],
        references=[text[2] for text in texts],
        choice=task.choice,
        tokens=np.array([counts[row] for row in rows], dtype=np.float64) if counts.keys() >= set(rows) else None,
        refusals=refusals,
        rule=task.rule,
        questions=[row["question"] for row in known],
        keywords=[row.get("keywords", []) for row in known],
    )


def _wrong_losses(data: TaskLog, row: str, facts: Mapping[str, RowMeta], where: str) -> Array:
    """Nats per token of the wrong answers, without those whose text is the right one."""
    losses = np.array(data["average_perturb_loss"][row], dtype=np.float64)
    if row in facts:
        losses = losses[~np.array(facts[row]["wrong_equals_right"], dtype=bool)]
    if not losses.size:
        raise ValueError(f"{where}: every wrong answer equals the right one. Correct the dataset and evaluate again.")
    return losses


def reference_losses(log: EvalLog, track: Track) -> dict[str, TaskLosses]:
    """By task label, what the released scripts read from a log: all wrong answers, the stored ROUGE (else of the
    texts)."""
    losses = {}
    for task in track.tasks:
        data = log.tasks[task.name]
        rows = rows_of(data)
        stored = data.get("rougeL_recall") or {}
        texts = [data["generated_text"][row] for row in rows]
        losses[task.label] = TaskLosses(
            right=np.array([data["avg_gt_loss"][row] for row in rows]),
            base=np.array([data["avg_paraphrased_loss"][row] for row in rows]),
            wrong=[np.array(data["average_perturb_loss"][row], dtype=np.float64) for row in rows],
            rouge=np.array([stored[row] for row in rows])
            if stored
            else rouge_recall([text[1] for text in texts], [text[2] for text in texts], unicode=False)["rougeL_recall"],
        )
    return losses


def units_of(log: EvalLog, track: Track, facts: Facts) -> Units:
    """The units of a log's rows, the same for all logs of these rows. Tasks of a group (caption and FaceRec of a row)
    share theirs.

    People are the units where every row of the group has an author, else items.
    """
    numbers: dict[str, NDArray[np.intp]] = {}
    kinds: dict[str, str] = {}
    people: dict[str, int | None] = {}
    for group in dict.fromkeys(task.group for task in track.tasks):
        tasks = [task for task in track.tasks if task.group == group]
        authors = {
            row: facts[task.name][row]["author"] if row in facts[task.name] else None
            for task in tasks
            for row in log.tasks[task.name]["avg_gt_loss"]
        }
        rows = sorted(authors, key=row_order)
        known = None not in authors.values()
        number = dict(zip(rows, unit_numbers([str(authors[row]) if known else row for row in rows]), strict=True))
        for task in tasks:
            own = rows_of(log.tasks[task.name])
            numbers[task.label] = np.array([number[row] for row in own], dtype=np.intp)
            kinds[task.label] = "people" if known else "items"
            people[task.label] = len({authors[row] for row in own}) if known else None
    return Units(numbers, kinds, people)
