"""A sweep from start to end: base and gold once, every point of the axes, the leaderboard, and a table of the paper."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.jobs import Job, Variant, base_job, forget_job, forget_jobs, gold_jobs, study_job, variants
from sweeps.runner import Outcome, plans, run_jobs, times_table
from sweeps.settings import Sweep, as_overrides
from sweeps.tables import write_table
from sweeps.tracks import find, is_study
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
    anchors, works = plans([base, *golds.values()], sweep), plans(jobs, sweep)  # all are checked before one runs
    outcomes = run_anchors(anchors, sweep)
    outcomes += run_jobs(works, sweep)
    if sweep.tune:
        more = _tune(sweep, base, golds[sweep.splits[0]])
        jobs += more[0]
        outcomes += more[1]
    usable = {one.name for one in outcomes if one.usable}
    rows, text = leaderboards(sweep, base, golds, [job for job in jobs if job.name in usable])
    if sweep.table is not None and rows:
        text = write_table(sweep, rows, time.time() - started)
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


def _tune(sweep: Sweep, base: Job, gold: Job) -> tuple[list[Job], list[Outcome]]:
    """Each method's setting of the grid that comes closest to gold's Forget metric while keeping base's Retain metric,
    judged on `tune_seed`; returns the jobs that report it on `seeds`, and how they and the tries ended. Choices:
    tuned.json."""
    modality, split = sweep.modalities[0], sweep.splits[0]
    more = {name.lower(): list(settings) for name, settings in sweep.grid_more.items()}
    grids = {
        method: {",".join(words): words for words in map(as_overrides, [*sweep.grid, *more.get(method.lower(), [])])}
        for method, _ in variants(sweep)
    }
    tries = {
        (method, setting): forget_job(
            sweep, base, Variant(f"{method} [{setting}]", method, (*own, *words)), modality, split, sweep.tune_seed
        )
        for method, own in variants(sweep) for setting, words in grids[method].items()
    }  # fmt: skip
    outcomes = run_jobs(plans(list(tries.values()), sweep), sweep)
    usable = {one.name for one in outcomes if one.usable}
    rows = {key: _row(job, gold, split) for key, job in tries.items() if job.name in usable}
    chosen = choose(rows, _row(base, gold, split), _row(gold, gold, split), sweep.keep_retain)
    write_json(Path(sweep.save_dir) / "tuned.json", chosen)
    jobs = [
        forget_job(
            sweep,
            base,
            Variant(f"{method} (tuned)", method, (*own, *grids[method][chosen[method]])),
            modality,
            split,
            seed,
        )
        for method, own in variants(sweep)
        if method in chosen
        for seed in sweep.seeds
    ]
    return jobs, outcomes + run_jobs(plans(jobs, sweep), sweep)


def choose(
    rows: dict[tuple[str, str], dict[str, Any]], base: dict[str, Any], gold: dict[str, Any], keep_retain: float
) -> dict[str, str]:
    """{method: setting}: nearest to gold's Forget metric among those that keep their share of base's Retain metric,
    else the one that keeps most. `rows` by (method, setting)."""
    best: dict[str, tuple[tuple[bool, float], str]] = {}
    for (method, setting), row in rows.items():
        lost = row["Retain metric"] < keep_retain * base["Retain metric"]
        rank = (lost, -row["Retain metric"] if lost else abs(row["Forget metric"] - gold["Forget metric"]))
        if method not in best or rank < best[method][0]:
            best[method] = (rank, setting)
    return {method: setting for method, (_, setting) in best.items()}


def _row(job: Job, gold: Job, split: str) -> dict[str, Any]:
    from unlearn.leaderboard.row import leaderboard_row
    from unlearn.results import read_log

    return leaderboard_row(read_log(job.log(split)), read_log(gold.log(split)), method=job.label, submitted_by="")
