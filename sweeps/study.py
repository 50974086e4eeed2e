"""A sweep from start to end: base and gold once, every point of the axes, the leaderboard, and a table of the paper."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.curves import run_curves
from sweeps.jobs import Job, base_job, edits, forget_jobs, gold_jobs, study_job
from sweeps.runner import Outcome, estimate, plans, run_jobs, times_table
from sweeps.settings import Sweep
from sweeps.summary import write_results
from sweeps.tables import write_table
from sweeps.tracks import find, is_study
from sweeps.tuning import run_tuning, tuning_of
from unlearn.atomic import write_json
from unlearn.data.samples import REFUSALS

logger = logging.getLogger(__name__)


def run_sweep(sweep: Sweep) -> str:
    """Runs everything that is not finished and returns what to print.

    Raises:
        ValueError: settings that do not fit together or do not compose, or a base or gold that cannot be made.
    """
    sweep.check()
    started = time.time()
    if sweep.table == "fig5":
        from sweeps.figure5 import run_figure

        text, outcomes = run_figure(sweep)
    elif is_study(sweep.track):
        text, outcomes = _study(sweep, started)
    else:
        text, outcomes = _models(sweep, started)
    minutes = (time.time() - started) / 60
    write_json(Path(sweep.save_dir) / "jobs" / "times.json", [vars(one) for one in outcomes])
    failed = sum(not one.usable for one in outcomes)
    kept = sum(one.status == "kept" for one in outcomes)
    summary = f"{len(outcomes)} jobs in {minutes:.1f} min: {kept} kept, {failed} failed"
    return f"{text}\n\n{times_table(outcomes)}\n{summary}; records: {Path(sweep.save_dir) / 'jobs'}"


def _models(sweep: Sweep, started: float) -> tuple[str, list[Outcome]]:
    base, golds = base_job(sweep), gold_jobs(sweep)
    jobs = forget_jobs(sweep, base)
    tuning = tuning_of(sweep) if sweep.tune else None
    anchors = plans([base, *golds.values(), *([tuning.gold] if tuning else [])], sweep)
    works = plans(jobs, sweep)  # all are checked before one runs
    tuned = tuning.methods if tuning else []
    later = len(tuned) * len(sweep.seeds) + sum(not edits(name) for name in tuned)  # the choices, and their curves
    logger.info("%s", estimate([*anchors, *works, *(tuning.works if tuning else ())], later, sweep))
    outcomes = run_anchors(anchors, sweep)
    outcomes += run_jobs(works, sweep)
    if tuning:
        more = run_tuning(sweep, tuning)
        jobs += more[0]
        outcomes += more[1] + run_curves(sweep, tuning)
    usable = {one.name for one in outcomes if one.usable}
    jobs = [job for job in jobs if job.name in usable]
    rows, text = leaderboards(sweep, base, golds, jobs)
    if sweep.table is not None and rows:
        text = write_table(sweep, rows, time.time() - started)
    if tuning and jobs:
        text += "\n\n" + write_results(sweep, base, golds[sweep.splits[0]], jobs)
    return text, outcomes


def run_anchors(works: Sequence[Any], sweep: Sweep) -> list[Outcome]:
    """Base and gold; nothing can follow without them. ValueError names what went wrong."""
    outcomes = run_jobs(works, sweep)
    if broken := [f"{one.name}: {one.error}" for one in outcomes if not one.usable]:
        raise ValueError("Base or gold could not be made. " + "; ".join(broken))
    return outcomes


def _study(sweep: Sweep, started: float) -> tuple[str, list[Outcome]]:
    """A track's study as one job."""
    from unlearn.leaderboard.file import read_rows

    (work,) = plans([study_job(sweep)], sweep)
    outcomes = run_jobs([work], sweep)
    if not outcomes[0].usable:
        return f"The study failed: {outcomes[0].error}", outcomes
    settings = work.training[0]
    rows = [row for row in read_rows(settings.leaderboard) if row["method"] in ("original", *settings.methods)]
    if sweep.table is not None:
        return write_table(sweep, rows, time.time() - started), outcomes
    return find(sweep.track).table(rows), outcomes


def leaderboards(
    sweep: Sweep, base: Job, golds: dict[str, Job], jobs: Sequence[Job]
) -> tuple[list[dict[str, Any]], str]:
    """(this sweep's rows, the leaderboards as text): one per forget split, since each has a gold of its own."""
    from unlearn.aggregate import AggregateSettings, update_leaderboard
    from unlearn.leaderboard.table import text_table

    own: list[dict[str, Any]] = []
    texts = []
    for split, gold in golds.items():
        logs = [job.log(split) for job in jobs if job.split == split]
        if not logs:
            texts.append(f"{split}: no run succeeded")
            continue
        name = "leaderboard" if split == find(sweep.track).SPLIT else f"leaderboard_{split}"
        board = Path(sweep.save_dir) / f"{name}.json"
        rows = update_leaderboard(
            AggregateSettings(
                retain_result=str(gold.log(split)),
                base_result=str(base.log(split)),
                ckpt_result=[str(log) for log in logs],
                save_file=str(board),
                refusals=str(REFUSALS),
                markdown=True,
            )
        )
        own += rows_of(logs, rows, board.parent)
        texts.append((f"{split}\n" if len(golds) > 1 else "") + text_table(rows))
    return own, "\n\n".join(texts)


def rows_of(logs: Sequence[Path], rows: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The rows of these logs as they are now: a row may name no log, or one that was replaced since. `folder`: where
    the rows' paths start."""
    from unlearn.leaderboard.identity import contents
    from unlearn.leaderboard.tracks import track_named
    from unlearn.results import read_meta

    runs = {log.resolve(): (read_meta(log.parent) or {"run": {}})["run"] for log in logs}
    found = []
    for row in rows:
        named = row.get("logs")
        log = (folder / named["model"]).resolve() if isinstance(named, Mapping) and named.get("model") else None
        if log in runs and row.get("contents") in (None, contents(runs[log], track_named(row["track"]))):
            found.append(dict(row))
    return found
