"""A leaderboard row: what one eval log says beside the gold model's, with both definitions of every number
(METRICS)."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearn.atomic import content_hash
from unlearn.leaderboard.comparable import check_comparable, check_same_start
from unlearn.leaderboard.scores import (
    Resamples,
    Scores,
    known_rows,
    reference_losses,
    resample,
    rows_of,
    score_log,
)
from unlearn.leaderboard.tracks import track_of
from unlearn.metrics.aggregates import METRICS, Track
from unlearn.metrics.bootstrap import interval
from unlearn.metrics.columns import QUALITY, per_item
from unlearn.metrics.forget_quality import (
    js_forget_quality,
    ks_forget_quality,
    null_floor,
    resampled_quality,
    wasserstein_distance,
)
from unlearn.metrics.reference import reference_numbers
from unlearn.results import EvalLog, as_log, read_log

LOW_RETAIN = 0.4  # the paper greys rows below: a model that lost everything has also forgotten
GATE = "Forget metric, base minus gold"
_RUN = (
    "model",
    "model_family",
    "forget_split",
    "modality",
    "seed",
    "settings_hash",
    "global_batch",
    "variant",
    "commit",
)

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
    resamples = resample(log, track, facts)
    scores, gold_scores = score_log(log, track, facts, refusals), score_log(gold, track, facts, refusals)
    row = {
        **_identity(log, method, submitted_by, track, relative_to),
        "role": role,
        "unchecked": unchecked,  # what the logs do not say of how gold was asked
        **dict.fromkeys(
            f"{column.name} {task.label}" for task in track.tasks for column in per_item()
        ),  # null: not measured
        **scores.means,
        **forget_quality(scores, gold_scores, track),
        "low_retain": scores.means["Retain metric"] < LOW_RETAIN,
        "memorised": None,
        "intervals": _intervals(scores, gold_scores, resamples, track),
        "items": {task.label: len(rows_of(log.tasks[task.name])) for task in track.tasks},
        "people": resamples.people,
        "resampled": resamples.units,
    }
    if base is not None:
        base_scores = score_log(base, track, facts, refusals)
        row |= _memorisation_gate(base_scores, gold_scores, resamples, track, row["intervals"])
        row["base"] = _anchor(base, base_scores, gold_scores, resamples, track, relative_to)
    row["gold"] = _anchor(gold, gold_scores, gold_scores, resamples, track, relative_to)
    row |= _numbers_beside(log, track)
    row["reference"] = _reference(log, gold, track, row["method"], row["submitted_by"])
    row["logs"] = {
        name: _relative(one, relative_to) for name, one in {"model": log, "gold": gold, "base": base}.items() if one
    }
    return row


def forget_quality(scores: Scores, gold: Scores, track: Track) -> dict[str, float]:
    """Forget Quality under every name of METRICS, with what it takes to read it: KS, Wasserstein-1, the null floor.

    mm calls 1 - JSD `Forget Quality`, nlp the KS p-value. `Null floor`: mean (and 5 % quantile) of 1 - JSD without
    difference.
    """
    ratios = scores.ratios[track.forget.label], gold.ratios[track.forget.label]
    quality = js_forget_quality(*ratios)
    statistic, p_value = ks_forget_quality(*ratios)
    floor, low = null_floor(*ratios)
    numbers = {
        "KS test p-value": p_value, "KS statistic": statistic, "JS metric": 1.0 - quality,
        "Wasserstein-1": wasserstein_distance(*ratios), "Null floor": floor, "Null floor 5%": low,
    }  # fmt: skip
    if track.quality == "js":
        return {"Forget Quality": quality, **numbers}
    log_p = float(np.log(max(p_value, np.finfo(np.float64).tiny)))
    return {"Forget Quality": p_value, "Log Forget Quality": log_p, "JS Forget Quality": quality, **numbers}


def _intervals(scores: Scores, gold: Scores, resamples: Resamples, track: Track) -> dict[str, list[float]]:
    """95 % bootstrap intervals of every mean and composite, and of 1 - JSD."""
    label = track.forget.label
    intervals = {name: interval(draws) for name, draws in resamples.draws(scores, track).items()}
    quality = resampled_quality(resamples.weights[label], scores.ratios[label], gold.ratios[label])
    centre = js_forget_quality(scores.ratios[label], gold.ratios[label])
    intervals[QUALITY.key(track)] = [float(np.clip(end, 0.0, 1.0)) for end in interval(quality, centre=centre)]
    return intervals


def _memorisation_gate(
    base: Scores, gold: Scores, resamples: Resamples, track: Track, intervals: dict[str, list[float]]
) -> dict[str, Any]:
    """`memorised`: whether the 95 % interval of base's minus gold's Forget metric, on paired resamples, lies above
    0."""
    name = "Forget metric"
    gap = resamples.draws(base, track)[name] - resamples.draws(gold, track)[name]
    intervals[GATE] = interval(gap)
    return {GATE: base.means[name] - gold.means[name], "memorised": intervals[GATE][0] > 0}


def _anchor(
    log: EvalLog, scores: Scores, gold: Scores, resamples: Resamples, track: Track, relative_to: str | Path
) -> dict[str, Any]:
    """Gold or base in short: what a row was compared with, also after gold's own row was replaced (`digest`)."""
    names = (*track.composites, QUALITY.key(track))
    numbers = {**scores.means, **forget_quality(scores, gold, track)}
    intervals = _intervals(scores, gold, resamples, track)
    return {
        **_identity(log, None, None, track, relative_to),
        **{
            name: numbers[name]
            for name in (*names, *track.composites["Forget metric"], "KS test p-value", "Null floor")
        },
        "intervals": {name: intervals[name] for name in names},
        "log": _relative(log, relative_to),
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


def _identity(
    log: EvalLog, method: str | None, submitted_by: str | None, track: Track, relative_to: str | Path
) -> dict[str, Any]:
    """What identifies the model, from eval_meta.json; a foreign log goes by its folder."""
    run = log.meta["run"] if log.meta else {}
    facts = {name: _writable(run.get(name)) for name in _RUN}
    facts["model"] = facts["model"] or run.get("model_path") or _relative(log, relative_to)
    return {
        "schema_version": 1,
        "method": _writable(str(method or run.get("method") or _folder_name(log))),
        "submitted_by": _writable(str(submitted_by or run.get("submitted_by") or "")),
        "track": track.name,
        **facts,
        "evaluation": _evaluation(run, track),
    }


def _writable(value: Any) -> Any:
    """A text without half surrogate pairs, which are no UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _evaluation(run: Mapping[str, Any], track: Track) -> str | None:
    """What was asked and how, as a hash: the same model on shuffled images, fewer rows or in 4 bit has a row of its
    own."""
    if not isinstance(run.get("items"), dict):
        return None
    items = {task: run["items"].get(task) for task in track.task_names}
    return content_hash(json.dumps([items, run.get("quantization"), run.get("max_new_tokens")], sort_keys=True))


def _folder_name(log: EvalLog) -> str:
    """`npo` for models/npo/eval_results/eval_log_aggregated.json, also under TOFU's eval_results/ds_size300."""
    if log.path is None:
        return "model"
    folder = log.path.resolve().parent
    for part in ("ds_size", "eval"):
        folder = folder.parent if folder.name.startswith(part) else folder
    return folder.name


def _read_logs(log: Log, gold_log: Log, base_log: Log | None) -> tuple[EvalLog, EvalLog, EvalLog | None, str]:
    """The three logs, and whether the first is the file of gold or base."""
    ours, gold = _as_eval_log(log), _as_eval_log(gold_log)
    base = None if base_log is None else _as_eval_log(base_log)
    for role, other in (("gold", gold), ("base", base)):
        if other is not None and ours.path and other.path and ours.path.resolve() == other.path.resolve():
            return ours, gold, base, role
    return ours, gold, base, "method"


def _as_eval_log(log: Log) -> EvalLog:
    if isinstance(log, EvalLog):
        return log
    return as_log(log) if isinstance(log, Mapping) else read_log(log)


def _relative(log: EvalLog, folder: str | Path) -> str | None:
    return None if log.path is None else Path(os.path.relpath(log.path, folder)).as_posix()
