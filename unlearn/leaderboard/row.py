"""A leaderboard row: what one eval log says beside the gold model's, with both definitions of every number
(METRICS)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearn.atomic import content_hash
from unlearn.leaderboard.collateral import collateral
from unlearn.leaderboard.comparable import check_comparable, check_same_start
from unlearn.leaderboard.identity import identity, relative
from unlearn.leaderboard.inference import inference_time
from unlearn.leaderboard.memorisation import memorisation, memorisation_score
from unlearn.leaderboard.privacy import AUC, SCORE, privacy
from unlearn.leaderboard.redact import alike
from unlearn.leaderboard.scores import (
    Scores,
    Units,
    known_rows,
    reference_losses,
    rows_of,
    score_log,
    units_of,
)
from unlearn.leaderboard.tracks import track_of
from unlearn.metrics.aggregates import METRICS, Track
from unlearn.metrics.columns import QUALITY, column_of, per_item
from unlearn.metrics.forget_quality import (
    js_forget_quality,
    ks_forget_quality,
    null_floor,
    quality_without,
    wasserstein_distance,
)
from unlearn.metrics.intervals import Names, interval
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.metrics.reference import reference_numbers
from unlearn.results import EvalLog, as_log, read_log

LOW_RETAIN = 0.4  # the paper greys rows below: a model that lost everything has also forgotten
GATE = "Forget metric, base minus gold"
MEMORISED = "Memorisation score"

Log = EvalLog | Mapping[str, Any] | str | Path


def leaderboard_row(
    log: Log,
    gold_log: Log,
    *,
    method: str | None = None,
    submitted_by: str | None = None,
    base_log: Log | None = None,
    refusals: Sequence[str] | None = None,
    relative_to: str | Path = ".",
) -> dict[str, Any]:
    """One JSON-ready row: `paper` numbers at the top level, those of the released scripts under `reference`.

    Args:
        log, gold_log: the model's and the gold model's evaluation (an EvalLog, its path, or the mapping in the file).
        method, submitted_by: None takes them from eval_meta.json, or the method's name from the log's folder.
        base_log: the model before unlearning; with it the row says whether there was something to forget (`memorised`).
        refusals: lines that count as a refusal; None leaves the refusal rate out.
        relative_to: the folder from which the paths in `logs` start.
    Raises:
        ValueError: a task is missing, the logs belong to different tracks, their rows are not the same or were not
            asked in the same way, or the base was trained anew since.
    """
    log, gold, base, role = _read_logs(log, gold_log, base_log)
    track = track_of(log.tasks, log.name)
    unchecked = check_comparable(log, gold, track)
    if base is not None:
        check_comparable(log, base, track)
        check_comparable(base, gold, track)
        check_same_start(log, base)
    facts = known_rows([known for known in (log, gold, base) if known is not None], track)
    units = units_of(log, track, facts)
    scores, gold_scores = score_log(log, track, facts, refusals), score_log(gold, track, facts, refusals)
    row = {
        **identity(log, method, submitted_by, track, relative_to),
        "role": role,
        "unchecked": unchecked,  # what the logs do not say of how gold was asked
        **dict.fromkeys(f"{one.name} {task.label}" for task in track.tasks for one in per_item()),  # null: not measured
        **scores.means,
        **forget_quality(scores, gold_scores, track, people=units.known_people(track.forget.label)),
        "low_retain": scores.means["Retain metric"] < LOW_RETAIN,
        "memorised": None,
        "intervals": _intervals(scores, gold_scores, units, track),
        "items": {task.label: len(rows_of(log.tasks[task.name])) for task in track.tasks},
        "people": units.people,
        "resampled": units.kinds,
    }
    if base is not None:
        base_scores = score_log(base, track, facts, refusals)
        row |= _memorisation_gate(base_scores, gold_scores, units, track, row["intervals"])
        row |= collateral(log, scores, base_scores, track, units)
        row["base"] = _anchor(base, base_scores, gold_scores, units, track, relative_to)
    row["gold"] = _anchor(gold, gold_scores, gold_scores, units, track, relative_to)
    row |= _numbers_beside(log, track) | inference_time(log, track)
    row["memorisation"] = memorisation(log, gold, base, track, units)
    row |= {MEMORISED: memorisation_score(log, track, facts), **_privacy(row, log, gold, base, track)}
    row["overall"] = _harmonic_mean(row[MEMORISED], row[SCORE], row.get("Model Utility"))
    row["reference"] = _reference(log, gold, track, row["method"], row["submitted_by"])
    logs = {"model": log, "gold": gold, "base": base}
    row["logs"] = {name: relative(one, relative_to) for name, one in logs.items() if one}
    return row


def forget_quality(scores: Scores, gold: Scores, track: Track, *, people: Names | None = None) -> dict[str, float]:
    """Forget Quality under every name of METRICS, with what it takes to read it: KS, Wasserstein-1, the null floor.

    mm calls 1 - JSD `Forget Quality`, nlp the KS p-value. `Null floor`: mean (and 5 % quantile) of 1 - JSD without
    difference, by swapping `people` [N] (None: not known, by items).
    """
    ratios = scores.ratios[track.forget.label], gold.ratios[track.forget.label]
    quality = js_forget_quality(*ratios)
    statistic, p_value = ks_forget_quality(*ratios)
    floor, low = null_floor(*ratios, people=people)
    numbers = {
        "KS test p-value": p_value, "KS statistic": statistic, "JS metric": 1.0 - quality,
        "Wasserstein-1": wasserstein_distance(*ratios), "Null floor": floor, "Null floor 5%": low,
    }  # fmt: skip
    if track.quality == "js":
        return {"Forget Quality": quality, **numbers}
    log_p = float(np.log(max(p_value, np.finfo(np.float64).tiny)))
    return {"Forget Quality": p_value, "Log Forget Quality": log_p, "JS Forget Quality": quality, **numbers}


def _intervals(scores: Scores, gold: Scores, units: Units, track: Track) -> dict[str, list[float] | None]:
    """95 % intervals of every mean and composite, and of 1 - JSD; None where they rest on fewer than four people."""
    label = track.forget.label
    intervals = {
        name: _interval(name, scores.means[name], without)
        for name, without in units.without_each(scores, track).items()
    }
    ratios = scores.ratios[label], gold.ratios[label]
    without = quality_without(*ratios, units.numbers[label])
    intervals[QUALITY.key(track)] = interval(js_forget_quality(*ratios), [without])
    return intervals


def _interval(name: str, value: float, without: Sequence[Any]) -> list[float] | None:
    """Of a number of the row; counts of words, which know no upper bound, are at least 0."""
    column = column_of(name)
    if column is None or column.bounded:
        return interval(value, without)
    ends = interval(value, without, bounds=(-np.inf, np.inf))
    return ends and [max(0.0, end) for end in ends]


def _memorisation_gate(
    base: Scores, gold: Scores, units: Units, track: Track, intervals: dict[str, list[float] | None]
) -> dict[str, Any]:
    """`memorised`: whether the 95 % interval of base's minus gold's Forget metric, the same person left out of both,
    lies above 0; None where there is no interval."""
    name = "Forget metric"
    pairs = zip(*(units.without_each(one, track)[name] for one in (base, gold)), strict=True)
    gap = base.means[name] - gold.means[name]
    ends = intervals[GATE] = interval(gap, [ours - theirs for ours, theirs in pairs], bounds=(-1.0, 1.0))
    return {GATE: gap, "memorised": None if ends is None else ends[0] > 0}


def _privacy(row: Mapping[str, Any], log: EvalLog, gold: EvalLog, base: EvalLog | None, track: Track) -> dict[str, Any]:
    """What membership inference adds to a row: its numbers, and what could not be compared for them."""
    found, numbers, unchecked = privacy(log, gold, base, track)
    known = numbers[AUC] is not None
    return {
        AUC: numbers[AUC],
        SCORE: numbers[SCORE],
        "privacy": found,
        "intervals": {**row["intervals"], **({AUC: numbers["interval"]} if known else {})},
        "unchecked": list(dict.fromkeys([*row["unchecked"], *unchecked])),
    }


def _harmonic_mean(*parts: float | None) -> float | None:
    """None where a part is not known."""
    known = [part for part in parts if part is not None]
    return harmonic_mean(known) if len(known) == len(parts) else None


def _anchor(
    log: EvalLog, scores: Scores, gold: Scores, units: Units, track: Track, relative_to: str | Path
) -> dict[str, Any]:
    """Gold or base in short: what a row was compared with, also after gold's own row was replaced (`digest`)."""
    names = (*track.composites, QUALITY.key(track))
    numbers = {**scores.means, **forget_quality(scores, gold, track, people=units.known_people(track.forget.label))}
    intervals = _intervals(scores, gold, units, track)
    return {
        **identity(log, None, None, track, relative_to),
        **{
            name: numbers[name]
            for name in (*names, *track.composites["Forget metric"], "KS test p-value", "Null floor")
        },
        "intervals": {name: intervals[name] for name in names},
        "log": relative(log, relative_to),
        "digest": _digest(log, track),
    }


def _digest(log: EvalLog, track: Track) -> str:
    """Identity of what an anchor's log says of the forget task: rows of another gold can be told apart."""
    task = log.tasks[track.forget.name]
    losses = {key: sorted(task[key].items()) for key in ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss")}  # type: ignore[literal-required]
    return content_hash(json.dumps(losses))


def _reference(log: EvalLog, gold: EvalLog, track: Track, method: str, submitted_by: str) -> dict[str, Any]:
    """The keys that the released script of the track writes, with its numbers; empty where there is none."""
    if track.released is None:
        return {}
    gold_forget = reference_losses(gold, track)[track.forget.label]
    numbers = reference_numbers(reference_losses(log, track), gold_forget, track)
    return {**dict(zip(track.released.names, (method, submitted_by), strict=True)), **numbers}


def _numbers_beside(log: EvalLog, track: Track) -> dict[str, float]:
    """ROUGE, probability and truth-ratio score of the optional tasks a log has; nothing where it has none."""
    others = Track(track.name, tuple(task for task in track.beside if task.name in log.tasks), {})
    means = score_log(log, others, known_rows([log], others), None).means
    return {name: value for name, value in means.items() if name.startswith(tuple(f"{metric} " for metric in METRICS))}


def _read_logs(log: Log, gold_log: Log, base_log: Log | None) -> tuple[EvalLog, EvalLog, EvalLog | None, str]:
    """The three logs, and whether the first is the file of gold or base."""
    ours, gold, base = alike(*(None if one is None else _as_eval_log(one) for one in (log, gold_log, base_log)))
    assert ours is not None and gold is not None
    for role, other in (("gold", gold), ("base", base)):
        if other is not None and ours.path and other.path and ours.path.resolve() == other.path.resolve():
            return ours, gold, base, role
    return ours, gold, base, "method"


def _as_eval_log(log: Log) -> EvalLog:
    if isinstance(log, EvalLog):
        return log
    return as_log(log) if isinstance(log, Mapping) else read_log(log)
