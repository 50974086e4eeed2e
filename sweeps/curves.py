"""How each method's tuned run went: its loss, and what was still known of the forget and retain rows, by epoch.

One more run of each, on the first of `seeds`, watched (`eval_while_train`): its weights are those of the reported run
to the bit, but the time it takes is not, so the reported one is left as it is.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.jobs import Job, Variant, edits, forget_job
from sweeps.runner import Outcome, plans, run_jobs
from sweeps.settings import Sweep
from sweeps.tuning import Tuning
from unlearn.report.training import LOG, read_lines
from unlearn.training.curves import STYLES

COLUMNS = 5  # panels beside one another


def curve_jobs(sweep: Sweep, tuning: Tuning) -> list[Job]:
    """A watched run of each method's choice (`tuned.json`); a method that edits weights has no steps to watch."""
    chosen = json.loads((Path(sweep.save_dir) / "tuned.json").read_text(encoding="utf-8"))
    jobs = [
        forget_job(
            sweep, tuning.base,
            Variant(f"{method} (curve)", method, (*tuning.words[method, chosen[method]], "eval_while_train=true")),
            sweep.modalities[0], sweep.splits[0], sweep.seeds[0],
        )
        for method in tuning.methods if method in chosen and not edits(method)
    ]  # fmt: skip
    return [dataclasses.replace(job, evaluations=()) for job in jobs]


def run_curves(sweep: Sweep, tuning: Tuning) -> list[Outcome]:
    """Runs them, and draws `<save_dir>/curves.png`."""
    jobs = curve_jobs(sweep, tuning)
    outcomes = run_jobs(plans(jobs, sweep), sweep)
    usable = {one.name for one in outcomes if one.usable}
    if runs := {job.method: read_run(job.folder) for job in jobs if job.name in usable}:
        curves_picture(runs, Path(sweep.save_dir) / "curves.png")
    return outcomes


def read_run(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """{"loss": the log's lines with a loss, "watch": the evaluations}, each line with its epoch."""
    lines = read_lines(folder / LOG)
    return {
        "loss": [line for line in lines if "loss" in line],
        "watch": [line for line in lines if "eval_forget_probability" in line],
    }


def curves_picture(runs: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], path: Path) -> Path:
    """A panel for each method: probability (lines) and ROUGE-L (dots) of forget and retain rows on the left axis, the
    loss, each method's own quantity, in grey on the right one."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(runs))
    lines = -(-len(runs) // columns)
    figure = Figure(figsize=(2.9 * columns, 0.9 + 2.1 * lines), layout="constrained", dpi=120)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, (method, run) in zip(panels, runs.items(), strict=False):
        _draw(axes, method, run)
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    figure.suptitle("One tuned run of each method by epoch", fontsize=11)
    _legend(figure, 5 if columns > 3 else 2)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path


def _draw(axes: Any, method: str, run: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    beside = axes.twinx()
    beside.plot(*_points(run["loss"], "loss"), color="#999999", lw=1, zorder=1)
    beside.tick_params(labelsize=6, colors="#777777")
    beside.locator_params(axis="y", nbins=4)
    for split, (colour, marker) in STYLES.items():
        axes.plot(*_points(run["watch"], f"eval_{split}_probability"), color=colour, marker=marker, ms=3, lw=1.4)
        axes.plot(*_points(run["watch"], f"eval_{split}_rouge"), color=colour, lw=1.2, ls=":")
    axes.set(ylim=(-0.03, 1.03))
    axes.set_title(method, fontsize=8, loc="left")
    axes.tick_params(labelsize=6)
    axes.grid(color="#E5E5E5", lw=0.5)
    axes.set_zorder(beside.get_zorder() + 1)  # what is known in front of the loss
    axes.patch.set_visible(False)


def _points(lines: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    found = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None]
    return [epoch for epoch, _ in found], [value for _, value in found]


def _legend(figure: Any, columns: int) -> None:
    from matplotlib.lines import Line2D

    entries = [Line2D([], [], color=colour, marker=marker, ms=4, label=f"{split}: probability")
               for split, (colour, marker) in STYLES.items()]  # fmt: skip
    entries += [
        Line2D([], [], color=colour, ls=":", label=f"{split}: ROUGE-L") for split, (colour, _) in STYLES.items()
    ]
    entries.append(Line2D([], [], color="#999999", label="loss (right axis)"))
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
