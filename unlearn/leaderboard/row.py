"""A leaderboard row: what one eval log says beside the gold model's, with both definitions of every number
(METRICS)."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unlearn.atomic import content_hash
from unlearn.leaderboard.scores import (
    ITEMS,
    Scores,
    Units,
    known_rows,
    reference_losses,
    rows_of,
    score_log,
    units_of,
)
from unlearn.metrics.aggregates import METRICS, MM, TEXT, Track, track_of
from unlearn.metrics.forget_quality import (
    js_forget_quality,
    ks_forget_quality,
    null_floor,
    quality_without,
    wasserstein_distance,
)
from unlearn.metrics.intervals import Names, interval
from unlearn.metrics.reference import reference_numbers
from unlearn.results import EvalLog, as_log, check_same_rows, read_log, require_tasks

LOW_RETAIN = 0.4  # the paper greys rows below: a model that lost everything has also forgotten
COMPOSITES = ("Real metric", "Retain metric", "Forget metric", "Model Utility")
GATE = "Forget metric, base minus gold"
_RUN = ("model", "model_family", "forget_split", "modality", "seed", "settings_hash", "variant", "commit")

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
        ValueError: a task is missing, the logs belong to different tracks, or their rows are not the same.
    """
    log, gold = _as_eval_log(log), _as_eval_log(gold_log)
    base = None if base_log is None else _as_eval_log(base_log)
    track = track_of(log.tasks, log.name)
    for other in (gold, base):
        if other is not None:
            _check_comparable(log, other, track)
    facts = known_rows([known for known in (log, gold, base) if known is not None], track)
    units = units_of(log, track, facts)
    scores, gold_scores = score_log(log, track, facts, refusals), score_log(gold, track, facts, refusals)
    row = {
        **_identity(log, method, submitted_by, track, relative_to),
        **dict.fromkeys(f"{name} {task.label}" for task in track.tasks for name in ITEMS),  # null: not measured
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
        row["base"] = _anchor(base, base_scores, gold_scores, units, track, relative_to)
    row["gold"] = _anchor(gold, gold_scores, gold_scores, units, track, relative_to)
    row |= _text_numbers(log)
    row["reference"] = _reference(log, gold, track, row["method"], row["submitted_by"])
    row["logs"] = {
        name: _relative(one, relative_to) for name, one in {"model": log, "gold": gold, "base": base}.items() if one
    }
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
    if track is MM:
        return {"Forget Quality": quality, **numbers}
    log_p = float(np.log(max(p_value, np.finfo(np.float64).tiny)))
    return {"Forget Quality": p_value, "Log Forget Quality": log_p, "JS Forget Quality": quality, **numbers}


def js_name(track: Track) -> str:
    """The row's key for 1 - JSD."""
    return "Forget Quality" if track is MM else "JS Forget Quality"


def _intervals(scores: Scores, gold: Scores, units: Units, track: Track) -> dict[str, list[float] | None]:
    """95 % intervals of every mean and composite, and of 1 - JSD; None where they rest on fewer than four people."""
    label = track.forget.label
    intervals = {
        name: interval(scores.means[name], without, bounds=(0.0, np.inf if name.startswith("Generation") else 1.0))
        for name, without in units.without_each(scores, track).items()
    }
    ratios = scores.ratios[label], gold.ratios[label]
    intervals[js_name(track)] = interval(js_forget_quality(*ratios), [quality_without(*ratios, units.numbers[label])])
    return intervals


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


def _anchor(
    log: EvalLog, scores: Scores, gold: Scores, units: Units, track: Track, relative_to: str | Path
) -> dict[str, Any]:
    """Gold or base in short, so that a leaderboard can show them although only models have rows."""
    names = (*COMPOSITES, js_name(track))
    numbers = {**scores.means, **forget_quality(scores, gold, track, people=units.known_people(track.forget.label))}
    intervals = _intervals(scores, gold, units, track)
    return {
        **_identity(log, None, None, track, relative_to),
        **{
            name: numbers[name]
            for name in (*names, *track.composites["Forget metric"], "KS test p-value", "Null floor")
        },
        "intervals": {name: intervals[name] for name in names},
        "log": _relative(log, relative_to),
    }


def _reference(log: EvalLog, gold: EvalLog, track: Track, method: str, submitted_by: str) -> dict[str, Any]:
    """The keys that the released script of the track writes, with its numbers."""
    names = ("method", "submitted_by") if track is MM else ("Method", "Submitted By")
    gold_forget = reference_losses(gold, track)[track.forget.label]
    numbers = reference_numbers(reference_losses(log, track), gold_forget, track)
    return {**dict(zip(names, (method, submitted_by), strict=True)), **numbers}


def _text_numbers(log: EvalLog) -> dict[str, float]:
    """ROUGE, probability and truth-ratio score of the optional text tasks a log has; nothing where it has none."""
    text = replace(TEXT, tasks=tuple(task for task in TEXT.tasks if task.name in log.tasks))
    means = score_log(log, text, known_rows([log], text), None).means
    return {name: value for name, value in means.items() if name.startswith(tuple(f"{metric} " for metric in METRICS))}


def _identity(
    log: EvalLog, method: str | None, submitted_by: str | None, track: Track, relative_to: str | Path
) -> dict[str, Any]:
    """What identifies the model, from eval_meta.json; a foreign log goes by its folder."""
    run = log.meta["run"] if log.meta else {}
    facts = {name: run.get(name) for name in _RUN}
    facts["model"] = facts["model"] or run.get("model_path") or _relative(log, relative_to)
    return {
        "schema_version": 1,
        "method": method or run.get("method") or _folder_name(log),
        "submitted_by": submitted_by or run.get("submitted_by") or "",
        "track": track.name,
        **facts,
        "evaluation": _evaluation(run, track),
    }


def _evaluation(run: Mapping[str, Any], track: Track) -> str | None:
    """What was asked and how, as a hash: the same model on shuffled images, fewer rows or in 4 bit has a row of its
    own."""
    items = {task: run["items"].get(task) for task in track.task_names} if run.get("items") else None
    if items is None:
        return None
    return content_hash(json.dumps([items, run.get("quantization"), run.get("max_new_tokens")], sort_keys=True))


def _folder_name(log: EvalLog) -> str:
    """`npo` for models/npo/eval_results/eval_log_aggregated.json."""
    if log.path is None:
        return "model"
    folder = log.path.resolve().parent
    return (folder.parent if folder.name.startswith("eval") else folder).name


def _check_comparable(log: EvalLog, other: EvalLog, track: Track) -> None:
    if track_of(other.tasks, other.name) is not track:
        raise ValueError(
            f"{log.name} is an {track.name} evaluation and {other.name} is not: compare logs of one track."
        )
    require_tasks(log, track.task_names)
    require_tasks(other, track.task_names)
    check_same_rows(log, other, track.task_names)


def _as_eval_log(log: Log) -> EvalLog:
    if isinstance(log, EvalLog):
        return log
    return as_log(log) if isinstance(log, Mapping) else read_log(log)


def _relative(log: EvalLog, folder: str | Path) -> str | None:
    return None if log.path is None else Path(os.path.relpath(log.path, folder)).as_posix()
