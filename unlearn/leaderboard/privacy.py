"""Membership inference in a row: can the forgotten people be told from people whom nobody was trained on (holdout)?

Every attack's AUC beside gold's and base's on the same rows: gold's is where it should land, not 1/2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.auc import auc_interval, aucs_without
from unlearn.leaderboard.comparable import check_asked_alike
from unlearn.leaderboard.scores import kept_of, rows_of
from unlearn.metrics.aggregates import Task, Track
from unlearn.metrics.membership import (
    attack_auc,
    blind_auc,
    min_k,
    min_k_plus_plus,
    person_means,
    privacy_numbers,
    reference_score,
    tpr_at_fpr,
    zlib_score,
)
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.results import EvalLog, check_same_rows
from unlearn.token_log import read_tokens, tokens_path

ATTACKS = ("LOSS", "ZLib", "Reference", "Min-K", "Min-K++")
SCORED = ("LOSS", "ZLib", "Min-K", "Min-K++")  # what the aggregate is made of
FPR = 0.05
BLIND = 0.65  # above it the sets differ in their words alone
FEWEST = 2  # people of the holdout
UNMEASURED = "unmeasured"
AUC, SCORE = "Membership AUC", "Privacy score"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sets:
    """Whose the rows of a forget task [F] and of its twin on the holdout [H] are, and what they say.

    Where the log does not name people, each row stands for itself, and `known` is False."""

    tasks: tuple[str, str]
    people: tuple[list[str], list[str]]
    texts: tuple[list[str], list[str]]
    known: bool

    def text_of_people(self) -> list[list[str]]:
        """One text per person of each set: the answers joined by spaces."""
        return [
            [" ".join(text for text, owner in zip(texts, people, strict=True) if owner == person)
             for person in dict.fromkeys(people)]
            for texts, people in zip(self.texts, self.people, strict=True)
        ]  # fmt: skip


def privacy(
    log: EvalLog, gold: EvalLog, base: EvalLog | None, track: Track
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(what the row says under `privacy`, the numbers of the columns, what could not be compared).

    `privacy`: {forget task: {attack: numbers | None, "blind AUC", "people", "holdout differs"} | None, "unmeasured":
    why each None is one}. An attack's numbers: AUC and its interval over people of both sets, gold's and base's, the
    same over person means, TPR at 5 % FPR, and metrics.membership.privacy_numbers beside gold's. "Reference" takes
    gold's loss as the other model's.

    Raises:
        ValueError: gold or base answered other rows of these tasks, or was asked otherwise.
    """
    found: dict[str, Any] = {}
    unmeasured: list[str] = []
    unchecked: list[str] = []
    for task, twin in pairs_of(log, track):
        found[task.label] = None
        if twin not in log.tasks:
            unmeasured.append(f"{task.label}: no task {twin} in the log (docs/metrics.md says how to get a holdout)")
            continue
        sets = sets_of(log, (task.name, twin))
        if (count := len(set(sets.people[1]))) < FEWEST:
            unmeasured.append(f"{task.label}: {count} person in {twin}, and it takes two to say anything")
            continue
        others = {"gold": gold, "base": base}
        for name, other in others.items():
            if other is None or not {task.name, twin} <= set(other.tasks):
                others[name] = None
            elif other is not log:
                check_same_rows(log, other, sets.tasks)
                unchecked += check_asked_alike(log, other, sets.tasks)
        if others["gold"] is None:
            unmeasured.append(f"{task.label}: no task {twin} in gold's log, so that no score says how near it is")
        found[task.label], reasons = _task(log, others["gold"], others["base"], sets)
        unmeasured += [f"{task.label} {reason}" for reason in reasons]
    found[UNMEASURED] = unmeasured
    return found, _columns(found, track), unchecked


def curve(log: EvalLog, tasks: tuple[str, str]) -> tuple[Array, Array] | None:
    """The LOSS scores (forget [F], holdout [H]) of a log, from which a ROC curve is drawn; None without both tasks."""
    if not set(tasks) <= set(log.tasks):
        return None
    forget, holdout = (_losses(log, task) for task in tasks)
    return forget, holdout


def twins(track: Track) -> list[tuple[Task, str]]:
    """(forget task, the name of its twin on the holdout)."""
    known = {task.name: task for task in (*track.tasks, *track.beside)}
    return [(known[name], twin) for name, twin in track.holdout.items()]


def pairs_of(log: EvalLog, track: Track) -> Iterator[tuple[Task, str]]:
    """The twins of the tasks that the log has; of a task beside the track's own, only where it has the twin too."""
    for task, twin in twins(track):
        if task.name in log.tasks and (task in track.tasks or twin in log.tasks):
            yield task, twin


def _task(log: EvalLog, gold: EvalLog | None, base: EvalLog | None, sets: Sets) -> tuple[dict[str, Any], list[str]]:
    """The numbers of one pair of tasks, and why some are missing."""
    models = {name: one for name, one in {"model": log, "gold": gold, "base": base}.items() if one is not None}
    scores = {name: scores_of(one, gold, sets.tasks) for name, one in models.items()}
    numbers: dict[str, Any] = {}
    reasons = []
    for attack in ATTACKS:
        own = {name: one[attack] for name, one in scores.items()}
        if own["model"] is None:
            numbers[attack] = None
            files = " and ".join(tokens_path(".", task).name for task in sets.tasks)
            needs = {"Reference": "gold's losses", "ZLib": "the texts, and the log is redacted"}.get(
                attack, f"{files} beside the log (token_scores=true)"
            )
            reasons.append(f"{attack}: needs {needs}")
            continue
        numbers[attack] = _attack(own, sets.people)
    blind = blind_auc(*sets.text_of_people()) if sets.known and any(sets.texts[0]) else None
    if blind is None and sets.known:
        reasons.append("blind AUC: needs the texts, and the log is redacted")
    people = dict(zip(("forget", "holdout"), (len(set(people)) for people in sets.people), strict=True))
    ends = (numbers["LOSS"] or {}).get("interval gold")
    differs = [f"blind AUC {blind:.2f}: words alone tell the sets apart"] if blind is not None and blind > BLIND else []
    if ends is not None and not ends[0] <= 0.5 <= ends[1]:
        differs.append(f"gold's AUC {numbers['LOSS']['AUC gold']:.2f}: its interval leaves 1/2 out")
    facts = {"blind AUC": blind, "people": people if sets.known else None, "holdout differs": differs}
    return {**numbers, **facts}, reasons


def _attack(scores: Mapping[str, tuple[Array, Array] | None], people: tuple[list[str], list[str]]) -> dict[str, Any]:
    """The numbers of one attack from the scores (forget, holdout) of model, gold and base."""
    found: dict[str, Any] = {}
    for name, both in scores.items():
        suffix = "" if name == "model" else f" {name}"
        if both is None:
            continue
        means = [person_means(one, own) for one, own in zip(both, people, strict=True)]
        found |= {
            f"AUC{suffix}": attack_auc(*both),
            f"interval{suffix}": auc_interval(attack_auc(*both), aucs_without(*both, *people)),
            f"person AUC{suffix}": attack_auc(*means),
            f"TPR at {FPR:.0%} FPR{suffix}": tpr_at_fpr(*both, FPR),
        }
    beside = dict.fromkeys(("gap", "advantage", "score", "privleak", "reference"))
    if "AUC gold" in found:
        beside = privacy_numbers(found["AUC"], found["AUC gold"])
    return {"AUC gold": None, "AUC base": None, **found, **beside}


def scores_of(log: EvalLog, gold: EvalLog | None, tasks: tuple[str, str]) -> dict[str, tuple[Array, Array] | None]:
    """Of each attack the scores (forget [F], holdout [H]), high where unseen; None where it cannot be made."""
    ours, theirs = (_task_scores(log, gold, task) for task in tasks)
    return {attack: (ours[attack], theirs[attack]) if attack in ours and attack in theirs else None
            for attack in ATTACKS}  # fmt: skip


def _task_scores(log: EvalLog, gold: EvalLog | None, task: str) -> dict[str, Array]:
    loss, rows = _losses(log, task), rows_of(log.tasks[task])
    texts = [log.tasks[task]["generated_text"][row][2] for row in rows]
    found = {"LOSS": loss}
    if kept_of(log, task) is None:
        found["ZLib"] = zlib_score(loss, texts)
    if gold is not None:
        found["Reference"] = reference_score(loss, _losses(gold, task))
    if tokens := read_tokens(log, task):
        logps, means, variances = ([tokens[row][key][:-1] for row in rows] for key in ("logps", "means", "variances"))
        if all(map(len, logps)):  # an answer without a token of text has no lowest ones
            found["Min-K"] = np.array(min_k(logps), dtype=np.float64)
            found["Min-K++"] = np.array(min_k_plus_plus(logps, means, variances), dtype=np.float64)
    return found


def _losses(log: EvalLog, task: str) -> Array:
    """[N] nats per token of the exact answers, end token included, rows in their fixed order."""
    data = log.tasks[task]
    return np.array([data["avg_gt_loss"][row] for row in rows_of(data)], dtype=np.float64)


def sets_of(log: EvalLog, tasks: tuple[str, str]) -> Sets:
    """Whose the rows of both tasks are."""
    facts = [log.meta["tasks"][task]["rows"] if log.meta and task in log.meta["tasks"] else {} for task in tasks]
    rows = [rows_of(log.tasks[task]) for task in tasks]
    authors = [
        [own[row]["author"] if row in own else None for row in some] for own, some in zip(facts, rows, strict=True)
    ]
    known = not any(None in some for some in authors)
    people = [[str(one) for one in some] for some in authors] if known else rows
    texts = [
        [log.tasks[task]["generated_text"][row][2] for row in some] for task, some in zip(tasks, rows, strict=True)
    ]
    return Sets(tasks, (people[0], people[1]), (texts[0], texts[1]), known)


def _columns(found: Mapping[str, Any], track: Track) -> dict[str, Any]:
    """The leaderboard's columns, of the forget task: the AUC of LOSS, its interval, and the aggregated score."""
    own = found.get(track.forget.label) or {}
    scores = [own[attack]["score"] for attack in SCORED if own.get(attack) and own[attack]["score"] is not None]
    loss = own.get("LOSS") or {}
    return {
        AUC: loss.get("AUC"),
        "interval": loss.get("interval"),
        SCORE: harmonic_mean(scores) if len(scores) == len(SCORED) else None,
    }
