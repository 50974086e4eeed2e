"""Carries out the jobs of a sweep: skips what is done, waits for the rest, and says how each ended."""

import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.executors import Body, at_a_time, start
from sweeps.jobs import Job
from sweeps.settings import Sweep
from sweeps.work import Work, carry_out, plan

logger = logging.getLogger(__name__)
SETTLED = ("finished", "failed")
POLL_SECONDS = {"local": 1.0, "debug": 0.0, "slurm": 20.0}


@dataclass(frozen=True)
class Outcome:
    """How a job ended: kept (done before), finished or failed; seconds of training, of evaluation and altogether."""

    name: str
    status: str
    train_seconds: float | None = None
    eval_seconds: float | None = None
    seconds: float | None = None
    error: str = ""

    @property
    def usable(self) -> bool:
        return self.status != "failed"


def plans(jobs: Sequence[Job], sweep: Sweep) -> list[Work]:
    """Every job's settings, read and checked: a mistake in one is found before the first model trains."""
    records = Path(sweep.save_dir) / "jobs"
    by_name = {job.name: job for job in jobs}
    if len(by_name) < len(jobs):
        names = [job.name for job in jobs]
        raise ValueError(
            f"Two jobs of this sweep are called {max(names, key=names.count)}; give each entry of an axis once."
        )
    return [plan(job, records, sweep.overwrite) for job in jobs]


def estimate(works: Sequence[Work], later: int, sweep: Sweep) -> str:
    """What is to be done, and about how long it takes: jobs times the seconds of a middling one in this folder, or
    `job_seconds` where none is finished. `later`: jobs that are planned when these are done."""
    done = sum(work.finished() for work in works)
    left = len(works) - done + later
    records = [work.record() for work in works]
    known = [one["seconds"] for one in records if one.get("status") == "finished" and one.get("seconds")]
    seconds, of = (statistics.median(known), "measured here") if known else (sweep.job_seconds, "job_seconds")
    said = f"at most {left} jobs to do ({done} finished before), {seconds:.0f} s each ({of})"
    if sweep.executor == "slurm" and not sweep.jobs:
        return f"{said}, as many at a time as the cluster takes"
    return f"{said}, {at_a_time(sweep)} at a time: about {left * seconds / at_a_time(sweep) / 60:.0f} min"


def run_jobs(works: Sequence[Work], sweep: Sweep, body: Body = carry_out) -> list[Outcome]:
    """Runs what is not finished, `sweep.jobs` at a time, in order; returns an outcome for each.

    Ctrl-C stops the workers (and cancels SLURM jobs); the same command goes on afterwards.
    """
    outcomes = {work.job.name: _outcome(work, kept=True) for work in works if work.finished()}
    open_works = [work for work in works if work.job.name not in outcomes]
    if outcomes:
        logger.info("%d of %d jobs were finished before", len(outcomes), len(works))
    folder = Path(sweep.save_dir) / "jobs" / "submitit"
    while open_works:
        for work in open_works:
            if not work.busy():
                work.note("waiting")
        handles = start(open_works, sweep, folder, body)
        try:
            settled = _wait(open_works, handles, sweep.executor, len(works))
        except BaseException:
            _stop(handles)
            raise
        outcomes |= settled
        open_works = [work for work in open_works if work.job.name not in outcomes]
        outcomes |= _by_others(open_works)
        open_works = [work for work in open_works if work.job.name not in outcomes]
    return [outcomes[work.job.name] for work in works]


def _wait(works: Sequence[Work], handles: Sequence[Any], executor: str, total: int) -> dict[str, Outcome]:
    """Outcomes as they come, until all jobs are settled or every worker has ended."""
    settled: dict[str, Outcome] = {}
    while True:
        over = all(handle.done() for handle in handles)  # asked first: what they wrote last is then seen below
        for work in works:
            if work.job.name not in settled and _is_settled(work):
                settled[work.job.name] = outcome = _outcome(work)
                done = total - len(works) + len(settled)
                logger.info("%d/%d %s: %s, %.0f s", done, total, outcome.name, outcome.status, outcome.seconds or 0)
        left = [work for work in works if work.job.name not in settled]
        if not left:
            return settled
        if over:
            return settled | _abandoned(left, handles)
        time.sleep(POLL_SECONDS[executor])


def _abandoned(left: Sequence[Work], handles: Sequence[Any]) -> dict[str, Outcome]:
    """Jobs whose worker ended under them have failed; the waiting ones get new workers, unless none was even begun."""
    free = [work for work in left if not work.busy()]
    begun = [work for work in free if work.record().get("status") in ("running", "interrupted")]
    found = {}
    for work in begun or ([] if len(free) < len(left) else free):
        reason = f"its process ended ({_state(handles)}); {_tail(handles)}"
        work.note("failed", error=reason)
        found[work.job.name] = _outcome(work)
        logger.warning("%s failed: %s", work.job.name, reason)
    return found


def _by_others(left: Sequence[Work]) -> dict[str, Outcome]:
    """Waits for jobs that another sweep in this folder is at; outcomes of those that it finished."""
    if busy := [work for work in left if work.busy()]:
        logger.info("%s: another sweep is at it", ", ".join(work.job.name for work in busy))
        while any(work.busy() for work in busy):
            time.sleep(5)
    return {work.job.name: _outcome(work) for work in left if work.finished()}


def _is_settled(work: Work) -> bool:
    record = work.record()
    return record.get("status") in SETTLED and record.get("digest") == work.digest()


def _outcome(work: Work, kept: bool = False) -> Outcome:
    record = work.record()
    facts = {key: record.get(key) for key in ("train_seconds", "eval_seconds", "seconds")}
    return Outcome(work.job.name, "kept" if kept else record["status"], **facts, error=record.get("error", ""))


def _stop(handles: Sequence[Any]) -> None:
    """Ends the workers; what they were at stays resumable."""
    for handle in handles:
        try:
            handle.cancel(check=False)
        except Exception as error:  # a worker that cannot be reached must not keep the others running
            logger.warning("%s could not be cancelled: %s", handle.job_id, error)


def _state(handles: Sequence[Any]) -> str:
    return ", ".join(sorted({str(handle.state) for handle in handles}))


def _tail(handles: Sequence[Any], lines: int = 5) -> str:
    """The last lines that the workers wrote, and where they stand."""
    said = []
    for handle in handles:
        file = Path(str(handle.paths.stderr))
        if file.is_file() and (text := file.read_text(encoding="utf-8", errors="replace").strip()):
            said.append(f"{file}: " + " | ".join(text.splitlines()[-lines:]))
    return "; ".join(said[:2]) or "it wrote nothing"


def times_table(outcomes: Sequence[Outcome]) -> str:
    """One line per job: how it ended and how long its parts took."""
    width = max((len(outcome.name) for outcome in outcomes), default=3)
    lines = [f"{'job':{width}}  {'status':8}  {'train':>7}  {'eval':>7}  {'s':>7}"]
    for one in outcomes:
        numbers = (one.train_seconds, one.eval_seconds, one.seconds)
        cells = "  ".join(f"{'' if number is None else format(number, '.1f'):>7}" for number in numbers)
        lines.append(
            f"{one.name:{width}}  {one.status:8}  {cells}" + (f"  {one.error.splitlines()[0]}" if one.error else "")
        )
    return "\n".join(lines)
