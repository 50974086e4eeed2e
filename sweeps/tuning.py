"""One budget for all methods: the same number of trials each, on people and a seed that are not reported.

A trial is a rate of `grid` with one of the method's own settings of `grid_more` (the first of them: its defaults), the
first `trials` of the product, rate by rate. It forgets the track's tuning split and is asked about that alone; its gold
never saw that split. The choice: nearest to that gold's Forget metric among those that keep `keep_retain` of base's
Retain metric; where none does, the one that keeps most; of equals the first.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.jobs import Job, Variant, base_job, edits, finetune_job, forget_job, variants
from sweeps.runner import Outcome, plans, run_jobs
from sweeps.settings import Sweep, as_overrides
from sweeps.tracks import find
from sweeps.work import Work
from unlearn.atomic import write_json
from unlearn.leaderboard.scores import Scores, known_rows, score_log
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.aggregates import Track
from unlearn.metrics.columns import FORGET, RETAIN
from unlearn.results import read_log

Trial = tuple[str, str]  # (method, its setting: the overrides joined by commas)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What tuning takes: `gold` of its own split, and the trials by method and setting, each with its overrides."""

    split: str
    base: Job
    gold: Job
    trials: Mapping[Trial, Job]
    words: Mapping[Trial, tuple[str, ...]]
    works: Sequence[Work]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for method, _ in self.trials))


def trial_settings(sweep: Sweep, method: str) -> list[tuple[str, ...]]:
    """The overrides of each of a method's `sweep.trials` trials, in order; a method that edits weights and takes no
    steps has no rates. ValueError where rates and own settings do not make as many."""
    more = {name.lower(): list(settings or ()) for name, settings in sweep.grid_more.items()}.get(method.lower(), [])
    own = [(), *map(as_overrides, more)]
    rates = [()] if edits(method) else [as_overrides(entry) for entry in sweep.grid]
    found = list(dict.fromkeys((*rate, *setting) for rate in rates for setting in own))
    if len(found) < sweep.trials:
        raise ValueError(
            f"trials={sweep.trials}, but {method} has {len(found)} settings: {len(rates)} of grid times {len(own)} "
            f"of grid_more.{method} (its defaults among them). Add entries, or lower trials."
        )
    return found[: sweep.trials]


def tuning_of(sweep: Sweep) -> Tuning:
    """Every trial planned and checked; nothing is run."""
    split, modality = sweep.tuning, sweep.modalities[0]
    base = base_job(sweep)
    gold = finetune_job(sweep, find(sweep.track).gold_split(split), "gold", [split])
    words = {(method, ",".join(setting) or "default"): (*own, *setting)
             for method, own in variants(sweep) for setting in trial_settings(sweep, method)}  # fmt: skip
    asked = f"eval_task_ids=[{','.join(map(str, find(sweep.track).TUNING_TASKS))}]"
    own = dataclasses.replace(sweep, eval=[*sweep.eval, asked])
    trials = {
        (method, setting): forget_job(
            own, base, Variant(f"{method} [{setting}]", method, overrides), modality, split, sweep.tune_seed
        )
        for (method, setting), overrides in words.items()
    }
    return Tuning(split, base, gold, trials, words, plans(list(trials.values()), sweep))


def run_tuning(sweep: Sweep, tuning: Tuning) -> tuple[list[Job], list[Outcome]]:
    """(the jobs that report each method's choice on `seeds`, how they and the trials ended). Base and gold are there.

    `<save_dir>/trials.json` has every trial's numbers, `tuned.json` the choices.
    """
    outcomes = run_jobs(tuning.works, sweep)
    usable = {one.name for one in outcomes if one.usable}
    jobs = {key: job for key, job in tuning.trials.items() if job.name in usable}
    base, gold, *rows = judged([tuning.base, tuning.gold, *jobs.values()], tuning.split)
    found = dict(zip(jobs, rows, strict=True))
    chosen = choose(found, base, gold, sweep.keep_retain)
    lines = [{"method": method, "setting": setting, **row, "chosen": chosen[method] == setting}
             for (method, setting), row in found.items()]  # fmt: skip
    write_json(Path(sweep.save_dir) / "trials.json", {
        "split": tuning.split, "seed": sweep.tune_seed, "trials": sweep.trials, "keep_retain": sweep.keep_retain,
        "base": base, "gold": gold, "rows": lines,
    })  # fmt: skip
    write_json(Path(sweep.save_dir) / "tuned.json", chosen)
    reported = [
        forget_job(
            sweep, tuning.base, Variant(f"{method} (tuned)", method, tuning.words[method, chosen[method]]),
            sweep.modalities[0], sweep.splits[0], seed,
        )
        for seed in sweep.seeds for method in tuning.methods if method in chosen
    ]  # fmt: skip
    return reported, outcomes + run_jobs(plans(reported, sweep), sweep)


def judged(jobs: Sequence[Job], split: str) -> list[dict[str, float]]:
    """Of each job's log on the tuning split, its Retain and Forget metric; the log may lack every other task."""
    return [{name: scores.means[name] for name in (RETAIN.name, FORGET.name)} for scores in _scores(jobs, split)]


def _scores(jobs: Sequence[Job], split: str) -> list[Scores]:
    whole = track_named(jobs[0].track)
    names = (RETAIN.name, FORGET.name)
    labels = {task.label for task in whole.tasks for name in names for part in whole.composites[name]
              if part.endswith(f" {task.label}")}  # fmt: skip
    tasks = tuple(task for task in whole.tasks if task.label in labels)
    part = Track(
        whole.name, tasks, {name: whole.composites[name] for name in names}, contraharmonic=whole.contraharmonic
    )
    logs = [read_log(job.log(split)) for job in jobs]
    facts = known_rows(logs, part)
    return [score_log(log, part, facts, None) for log in logs]


def choose(
    rows: Mapping[Trial, Mapping[str, Any]], base: Mapping[str, Any], gold: Mapping[str, Any], keep_retain: float
) -> dict[str, str]:
    """{method: setting}: nearest to gold's Forget metric among those that keep their share of base's Retain metric,
    else the one that keeps most; of equals the first. `rows` by (method, setting)."""
    best: dict[str, tuple[tuple[bool, float], str]] = {}
    for (method, setting), row in rows.items():
        lost = row["Retain metric"] < keep_retain * base["Retain metric"]
        rank = (lost, -row["Retain metric"] if lost else abs(row["Forget metric"] - gold["Forget metric"]))
        if method not in best or rank < best[method][0]:
            best[method] = (rank, setting)
    return {method: setting for method, (_, setting) in best.items()}
