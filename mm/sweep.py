"""A sweep over methods, modalities and seeds: what runs, where it goes, and how a setting is chosen."""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.atomic import write_json

logger = logging.getLogger(__name__)
AGGREGATE = "eval_results/eval_log_aggregated.json"


@dataclass(frozen=True)
class Sweep:
    """config/run_exps.yaml, key by key."""

    model_family: str = "llava-mini"
    save_dir: str = "runs/llava-mini"
    methods: list[str] | str = "all"
    modalities: list[str] = field(default_factory=lambda: ["both"])
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    finetune_seed: int = 42
    jobs: int = 2
    finetune: list[str] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)
    eval: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    tune: bool = False
    tune_seed: int = 0
    grid: list[str] = field(default_factory=list)
    keep_retain: float = 0.95


@dataclass(frozen=True)
class Job:
    """One training run and its evaluation. `script` is finetune or forget; `label` the method's name in the table."""

    script: str
    label: str
    folder: Path
    overrides: tuple[str, ...]
    evaluation: tuple[str, ...]


def run_sweep(sweep: Sweep) -> str:
    """Runs everything that is not finished and returns the table. ValueError if base or gold cannot be made."""
    from unlearn.leaderboard_table import text_table

    if sweep.tune and len(sweep.modalities) > 1:
        raise ValueError("tune=true chooses a setting for one modality; give modalities one entry.")
    root = Path(sweep.save_dir)
    base, gold = (finetune_job(sweep, split) for split in ("full+tofu", "retain90+tofu"))
    broken = run_jobs([base, gold], sweep.jobs)
    if broken:
        raise ValueError(f"Base or gold could not be made: {broken}")
    started = time.time()
    jobs = [job for label, overrides in _variants(sweep) for job in _forget_jobs(sweep, base, label, overrides, sweep.seeds)]
    failures = run_jobs(jobs, sweep.jobs)
    if sweep.tune:
        tuned, more = _tune(sweep, base, gold)
        jobs += tuned
        failures |= more | run_jobs(tuned, sweep.jobs)
    rows = _leaderboard(root, base, gold, [job for job in jobs if job.folder.name not in failures])
    minutes = (time.time() - started) / 60
    failed = "".join(f"\nfailed: {name}: {why}" for name, why in failures.items())
    return f"{text_table(rows)}\n{len(jobs)} runs in {minutes:.1f} min{failed}"


def run_jobs(jobs: Sequence[Job], workers: int) -> dict[str, str]:
    """Runs the jobs, `workers` at a time, in processes of their own; returns {folder name: error} of those that failed."""
    from tqdm import tqdm

    failures: dict[str, str] = {}
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(run_job, job): job for job in jobs}
        for future in tqdm(as_completed(futures), total=len(futures), unit="run", disable=None):
            job, error = futures[future], future.exception()
            if error is not None:
                failures[job.folder.name] = f"{type(error).__name__}: {error}"
                logger.warning("%s failed: %s", job.folder.name, error)
    return failures


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def run_job(job: Job) -> None:
    """Trains and evaluates, in this process, exactly as the scripts do with the same overrides."""
    from mm.clear import finetune_source, forget_sources, with_modality
    from mm.tasks import eval_settings, load_tasks
    from unlearn import pipeline
    from unlearn.families import load_family
    from unlearn.samples import REFUSALS, read_lines
    from unlearn.settings import FinetuneSettings, ForgetSettings, read_settings

    if job.script == "finetune":
        tuning = read_settings(FinetuneSettings, compose("finetune", job.overrides))
        pipeline.finetune(tuning, load_family(tuning.model_family), lambda: finetune_source(tuning))
    else:
        forget = with_modality(read_settings(ForgetSettings, compose("forget", job.overrides)))
        pipeline.forget(forget, load_family(forget.model_family), lambda: forget_sources(forget), read_lines(REFUSALS))
    evaluation = eval_settings(compose("eval", job.evaluation))
    pipeline.evaluate(evaluation, load_family(evaluation.model_family), lambda: load_tasks(evaluation))


def compose(script: str, overrides: Iterable[str]) -> dict[str, Any]:
    """The config of `mm/<script>.py` with command-line overrides, presets included, as a plain dict."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    with initialize_config_dir(str(ROOT / "config"), version_base=None):
        config = hydra_compose(f"mm/{script}", [*overrides, f"hydra.job.name={script}"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def _eval_overrides(sweep: Sweep, folder: Path, label: str) -> tuple[str, ...]:
    return (
        f"model_family={sweep.model_family}", f"model_path='{folder}'", "overwrite=false", f"method_name='{label}'", *sweep.eval,
    )


def finetune_job(sweep: Sweep, split: str) -> Job:
    folder = Path(sweep.save_dir) / f"ft_{split}"
    label = "base" if split == "full+tofu" else "gold"
    overrides = (f"model_family={sweep.model_family}", f"split={split}", f"seed={sweep.finetune_seed}", f"save_dir='{folder}'")
    return Job("finetune", label, folder, (*overrides, *sweep.finetune), _eval_overrides(sweep, folder, label))


def _variants(sweep: Sweep) -> list[tuple[str, tuple[str, ...]]]:
    """(name, overrides) of every method at its default. ValueError for an unknown name."""
    from unlearn.registry import build_method, method_names

    every = [name for name in method_names() if name != "grad_diff"]
    names = every if sweep.methods == "all" else [sweep.methods] if isinstance(sweep.methods, str) else sweep.methods
    for name in (*names, *sweep.settings):
        build_method(name)
    settings = {name.lower(): overrides for name, overrides in sweep.settings.items()}
    return [(name, tuple(settings.get(name.lower(), ()))) for name in names]


def _forget_jobs(sweep: Sweep, base: Job, label: str, overrides: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    jobs = []
    for modality in sweep.modalities:
        for seed in seeds:
            shown = label if len(sweep.modalities) == 1 else f"{label} ({modality})"
            folder = Path(sweep.save_dir) / f"{shown.replace(' ', '_')}_seed{seed}"
            name = label.split(" ")[0]
            words = (f"model_family={sweep.model_family}", f"model_path='{base.folder}'", f"forget_loss={name}", f"seed={seed}",
                     f"modality={modality}", f"save_dir='{folder}'", *sweep.forget, *overrides)
            jobs.append(Job("forget", shown, folder, words, _eval_overrides(sweep, folder, shown)))
    return jobs


def _tune(sweep: Sweep, base: Job, gold: Job) -> tuple[list[Job], dict[str, str]]:
    """Each method's setting of the grid that comes closest to gold's Forget metric while keeping base's Retain metric, judged
    on `tune_seed`; returns the jobs that report it on `seeds`. The choices are written to tuned.json."""
    tries = {(label, setting): job
             for label, overrides in _variants(sweep) for setting in sweep.grid
             for job in _forget_jobs(sweep, base, f"{label} [{setting}]", (*overrides, setting), [sweep.tune_seed])}
    failures = run_jobs(list(tries.values()), sweep.jobs)
    anchor = {job.label: _row(job, gold) for job in (base, gold)}
    chosen: dict[str, str] = {}
    best: dict[str, tuple[bool, float]] = {}
    for (label, setting), job in tries.items():
        if job.folder.name in failures:
            continue
        row = _row(job, gold)
        lost = row["Retain metric"] < sweep.keep_retain * anchor["base"]["Retain metric"]
        rank = (lost, abs(row["Forget metric"] - anchor["gold"]["Forget metric"]) if not lost else -row["Retain metric"])
        if label not in best or rank < best[label]:
            best[label], chosen[label] = rank, setting
    write_json(Path(sweep.save_dir) / "tuned.json", chosen)
    jobs = [job for label, overrides in _variants(sweep) if label in chosen
            for job in _forget_jobs(sweep, base, f"{label} (tuned)", (*overrides, chosen[label]), sweep.seeds)]
    return jobs, failures


def _row(job: Job, gold: Job) -> dict[str, Any]:
    from unlearn.leaderboard import leaderboard_row
    from unlearn.results import read_log

    return leaderboard_row(read_log(job.folder / AGGREGATE), read_log(gold.folder / AGGREGATE), method=job.label, submitted_by="")


def _leaderboard(root: Path, base: Job, gold: Job, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Merges a row per job into leaderboard.json, with its picture, Markdown and page beside it; returns all rows."""
    from unlearn.leaderboard_update import AggregateSettings, update_leaderboard
    from unlearn.samples import REFUSALS

    return update_leaderboard(AggregateSettings(
        retain_result=str(gold.folder / AGGREGATE), base_result=str(base.folder / AGGREGATE),
        ckpt_result=[str(job.folder / AGGREGATE) for job in jobs], save_file=str(root / "leaderboard.json"),
        refusals=str(REFUSALS), markdown=True,
    ))
