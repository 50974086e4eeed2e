"""Figure 5's check: is a distance between truth ratios monotonic in how much of the data a model has seen?

The paper (Appendix E): the dataset in ten random folds, ten models on the first fold, the first two, ..., all; each
model's truth ratios on the forget set against those of the last model, which counts as gold.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.jobs import Job, finetune_job
from sweeps.paper import rank_correlation
from sweeps.runner import Outcome, plans, run_jobs
from sweeps.settings import Sweep
from sweeps.tracks import find
from unlearn.atomic import write_json, write_text
from unlearn.leaderboard.scores import known_rows, rows_of, score_log, units_of
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.aggregates import Track
from unlearn.metrics.forget_quality import js_forget_quality, ks_forget_quality, null_floor, wasserstein_distance
from unlearn.metrics.intervals import Names
from unlearn.results import EvalLog, read_log

COLUMNS = {"js": "JS distance", "wasserstein": "Wasserstein-1", "ks": "KS statistic", "p": "KS p-value"}


def figure_jobs(sweep: Sweep) -> dict[float, Job]:
    """By fraction of the data: the model finetuned on it, evaluated on the forget set alone."""
    track = find(sweep.track)
    task = (f"eval_task_ids=[{track.FORGET_TASK}]",)
    return {
        fraction: finetune_job(
            sweep, track.BASE_SPLIT, f"{100 * fraction:g} %", sweep.splits[:1], fraction=fraction, evaluation=task
        )
        for fraction in sorted(set(sweep.fractions), reverse=True)  # the longest first: it ends last
    }


def run_figure(sweep: Sweep) -> tuple[str, list[Outcome]]:
    """Makes the models, then `<save_dir>/fig5.json`, `.md` and `.png`. ValueError where the last model or all others
    failed."""
    jobs = figure_jobs(sweep)
    outcomes = run_jobs(plans(list(jobs.values()), sweep), sweep)
    usable = {one.name for one in outcomes if one.usable}
    failed = [f"{one.name}: {one.error}" for one in outcomes if not one.usable]
    if jobs[1.0].name not in usable or len(usable) < 2:
        raise ValueError("Figure 5 needs the model on all of the data and one more. " + "; ".join(failed))
    ratios = {fraction: forget_ratios(job.log(sweep.splits[0]), sweep.track)
              for fraction, job in sorted(jobs.items()) if job.name in usable}  # fmt: skip
    rows = distances(ratios, people=forget_people(jobs[1.0].log(sweep.splits[0]), sweep.track))
    text = markdown(sweep, rows, len(next(iter(ratios.values()))))
    file = Path(sweep.save_dir) / "fig5"
    write_json(file.with_suffix(".json"), {"track": sweep.track, "model_family": sweep.model_family, "rows": rows,
                                           "monotonic": monotonic(rows)})  # fmt: skip
    write_text(file.with_suffix(".md"), text)
    picture(rows, file.with_suffix(".png"), sweep.model_family)
    return text, outcomes


def forget_ratios(path: Path, track: str) -> NDArray[np.float64]:
    """Truth ratios [N] of the forget task of a log, which needs no other task."""
    log, alone = _forget_task(path, track)
    return score_log(log, alone, known_rows([log], alone), None).ratios[alone.forget.label]


def forget_people(path: Path, track: str) -> NDArray[np.intp] | None:
    """[N] the number of each forget item's person, in the order of `forget_ratios`; None where they are not known."""
    log, alone = _forget_task(path, track)
    return units_of(log, alone, known_rows([log], alone)).known_people(alone.forget.label)


def _forget_task(path: Path, track: str) -> tuple[EvalLog, Track]:
    log = read_log(path)
    whole = track_named(track)
    kept = EvalLog({whole.forget.name: log.tasks[whole.forget.name]}, log.meta, log.path)
    assert len(rows_of(kept.tasks[whole.forget.name])) > 0
    return kept, Track(whole.name, (whole.forget,), {})


def distances(ratios: Mapping[float, NDArray[np.float64]], people: Names | None = None) -> list[dict[str, float]]:
    """For each fraction, from small to large: distances of its truth ratios [N] from those at the largest fraction.

    `people` [N]: whose item each is, swapped whole for the distance without difference; None swaps items.
    """
    last = ratios[max(ratios)]
    rows = []
    for fraction in sorted(ratios):
        statistic, p = ks_forget_quality(ratios[fraction], last)
        floor, _ = null_floor(ratios[fraction], last, people=people)
        rows.append({
            "fraction": fraction, "js": 1 - js_forget_quality(ratios[fraction], last), "ks": statistic, "p": p,
            "wasserstein": wasserstein_distance(ratios[fraction], last), "null_js": 1 - floor,
        })  # fmt: skip
    return rows


def monotonic(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """For each measure: steps in the wrong direction (a distance that grows, a p-value that falls, with more data), and
    its rank correlation with the fraction. The last model, whose distance is 0 by definition, is left out."""
    found = {}
    others = rows[:-1]
    for key in COLUMNS:
        sign = 1 if key == "p" else -1
        steps = np.diff([sign * row[key] for row in others])
        correlation = rank_correlation([row["fraction"] for row in others], [row[key] for row in others])
        found[key] = {
            "wrong_steps": int((steps < 0).sum()),
            "steps": len(steps),
            "rho": correlation.rho,
            "n": correlation.n,
        }
    return found


def markdown(sweep: Sweep, rows: Sequence[Mapping[str, float]], items: int) -> str:
    """The table and what it says about each measure."""
    lines = [
        "| Data | " + " | ".join(COLUMNS.values()) + " | JS without difference |",
        "|" + " --- |" * (len(COLUMNS) + 2),
    ]
    for row in rows:
        cells = [f"{row[key]:.2g}" if key == "p" else f"{row[key]:.3f}" for key in COLUMNS]
        lines.append("| " + " | ".join([f"{100 * row['fraction']:g} %", *cells, f"{row['null_js']:.3f}"]) + " |")
    said = []
    for key, found in monotonic(rows).items():
        rho = "not defined" if found["rho"] is None else f"{found['rho']:+.2f}"
        said.append(
            f"{COLUMNS[key]}: {found['wrong_steps']} of {found['steps']} steps the wrong way, rank correlation "
            f"with the share of the data {rho} (n {found['n']})."
        )
    notes = [
        f"{sweep.model_family}, {sweep.splits[0]}, truth ratios of {items} forget items; distances from the last "
        f"model.",
        "JS without difference: mean JS distance when the two models are swapped at random within people (within items "
        "where people are not known).",
        *said,
    ]
    return "\n".join(lines) + "\n\n" + "".join(f"- {note}\n" for note in notes)


def picture(rows: Sequence[Mapping[str, float]], path: Path, family: str) -> Path:
    """Three panels over the share of the data: JS distance, Wasserstein-1, KS p-value."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.4), layout="constrained", dpi=150)
    shares = [100 * row["fraction"] for row in rows]
    colours = {"js": "#0072B2", "wasserstein": "#009E73", "p": "#D55E00"}
    for axes, (key, colour) in zip(figure.subplots(1, 3), colours.items(), strict=True):
        axes.plot(shares, [row[key] for row in rows], marker="o", color=colour)
        if key == "js":
            floor = [row["null_js"] for row in rows[:-1]]
            axes.plot(shares[:-1], floor, color="#666666", ls=":", lw=1.5, label="two models without difference")
            axes.legend(frameon=False, fontsize=9)
        axes.set_title(COLUMNS[key], loc="left", fontsize=11)
        axes.set(xlabel="share of the data, %", xticks=shares)
        axes.set_ylim(0, 1.04 if key == "p" else None)
        axes.grid(color="#DDDDDD", lw=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(f"Truth ratios of the forget set against the model on all of the data ({family})", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path
