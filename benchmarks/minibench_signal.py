"""Does the embedded benchmark mean anything? Base and gold for several finetuning seeds, and a control with shuffled
images.

    python benchmarks/minibench_signal.py                       # 3 seeds, both files below, about 20 minutes on 2 cores
    python benchmarks/minibench_signal.py --family qwen2vl-mini --seeds 1

Writes docs/signal_<family>.md: for each number what was asked of it, the mean over the seeds and every seed's value.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.jobs import AGGREGATE, Job, base_job, gold_jobs
from sweeps.runner import plans, run_jobs
from sweeps.settings import Sweep
from sweeps.work import carry_out, plan
from unlearn.atomic import write_text
from unlearn.leaderboard.row import leaderboard_row
from unlearn.metrics.probability import choice_probability
from unlearn.results import read_log

CHANCE = 1 / 6  # six names in the closed set


def shuffled_name_probability(job: Job) -> float:
    """Mean closed-set probability of the right name when the picture shows somebody else."""
    folder = job.folder / "eval_shuffled"
    control = dataclasses.replace(
        job, evaluations=((*job.evaluations[0], "images=shuffled", "eval_task_ids=[4]", f"save_dir={folder}"),)
    )
    carry_out(plan(control, folder.parent.parent / "jobs"))  # the model is there already: this evaluates
    log = read_log(folder / "eval_log_aggregated.json").tasks["eval_forget_facerec"]
    rows = list(log["avg_gt_loss"])
    right = np.array([log["avg_gt_loss"][row] for row in rows])
    return float(choice_probability(right, [np.array(log["average_perturb_loss"][row]) for row in rows]).mean())


def measure(family: str, seed: int, root: Path) -> dict[str, float]:
    """The signal of one finetuning seed."""
    sweep = Sweep(model_family=family, save_dir=str(root / f"seed{seed}"), finetune_seed=seed)
    base, gold = base_job(sweep), gold_jobs(sweep)["forget10"]
    failed = [one for one in run_jobs(plans([base, gold], sweep), sweep) if not one.usable]
    if failed:
        raise SystemExit(f"seed {seed}: {failed}")
    rows: dict[str, Any] = {
        job.label: leaderboard_row(job.folder / AGGREGATE, gold.folder / AGGREGATE, method=job.label)
        for job in (base, gold)
    }
    numbers = {
        f"{name}, {label}": row[name]
        for label, row in rows.items()
        for name in (
            "ROUGE Forget",
            "Prob. Forget FaceRec",
            "Prob. Real Faces",
            "Forget metric",
            "Retain metric",
            "Real metric",
            "Forget Quality",
        )
    }
    return {**numbers, "Prob. Forget FaceRec, base, shuffled images": shuffled_name_probability(base)}


def judge(mean: dict[str, float]) -> list[tuple[str, str, bool]]:
    """(what, asked, held) for each demand on the benchmark."""
    gap = mean["Forget metric, base"] - mean["Forget metric, gold"]
    retain = abs(mean["Retain metric, base"] - mean["Retain metric, gold"])
    name = mean["Prob. Forget FaceRec, gold"]
    return [
        ("ROUGE Forget, base", ">= .95", mean["ROUGE Forget, base"] >= 0.95),
        ("Prob. Forget FaceRec, base", ">= .75", mean["Prob. Forget FaceRec, base"] >= 0.75),
        ("Prob. Forget FaceRec, gold", "within .10 of chance (.167)", abs(name - CHANCE) <= 0.10),
        (
            "Prob. Forget FaceRec, base, shuffled images",
            "at most chance",
            mean["Prob. Forget FaceRec, base, shuffled images"] <= CHANCE,
        ),
        ("Prob. Real Faces, base", ">= .75", mean["Prob. Real Faces, base"] >= 0.75),
        ("Prob. Real Faces, gold", ">= .75", mean["Prob. Real Faces, gold"] >= 0.75),
        ("Retain metric, base", f"within .05 of gold's {mean['Retain metric, gold']:.3f}", retain <= 0.05),
        ("Forget metric, base", f"gold's {mean['Forget metric, gold']:.3f} + .25", gap >= 0.25),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="llava-mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--root", type=Path, default=None, help="where models go (runs/signal_<family>)")
    options = parser.parse_args()
    root = options.root or Path("runs") / f"signal_{options.family}"
    found = [measure(options.family, seed, root) for seed in options.seeds]
    mean = {name: statistics.fmean(one[name] for one in found) for name in found[0]}
    asked = {what: (demand, held) for what, demand, held in judge(mean)}
    seeds = " | ".join(f"seed {seed}" for seed in options.seeds)
    lines = [
        f"# What the embedded benchmark can tell ({options.family})",
        "",
        f"`python benchmarks/minibench_signal.py --family {options.family} --seeds "
        f"{' '.join(map(str, options.seeds))}`",
        "",
        f"| number | asked | held | mean | {seeds} |",
        "|---" * (4 + len(options.seeds)) + "|",
    ]
    for name in sorted(mean, key=lambda key: (key not in asked, list(mean).index(key))):
        demand, held = asked.get(name, ("", None))
        values = " | ".join(f"{one[name]:.3f}" for one in found)
        lines.append(
            f"| {name} | {demand} | {'' if held is None else 'yes' if held else 'NO'} | {mean[name]:.3f} | {values} |"
        )
    table = "\n".join(lines) + "\n"
    write_text(Path("docs") / f"signal_{options.family}.md", table)
    print(table)


if __name__ == "__main__":
    main()
