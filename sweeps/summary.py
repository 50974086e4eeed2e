"""What one budget for all came to: every method at its defaults and tuned, beside base and gold, which of them are on
the Pareto front, and which beat the tuned gradient difference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.jobs import Job
from sweeps.pictures import front_picture, methods_picture
from sweeps.settings import Sweep
from unlearn.atomic import finite, write_json, write_text
from unlearn.data.samples import REFUSALS, read_lines
from unlearn.leaderboard.escape import markdown_cell
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.leaderboard.seeds import Number, SameRows
from unlearn.metrics.columns import FORGET, QUALITY, RETAIN
from unlearn.report.pareto import pareto_front
from unlearn.results import read_log

REFERENCE = "grad_diff_forget_ce_retain_ce (tuned)"  # what a method has to beat
REAL = "Real metric"
RATES = ("Refusal rate Forget", "Refusal rate Retain", "Degenerate rate Forget", "Degenerate rate Retain")
Line = dict[str, Any]


def write_results(sweep: Sweep, base: Job, gold: Job, jobs: Sequence[Job]) -> str:
    """`<save_dir>/results.json`, `.md` and `.png` and `pareto.png` from the usable jobs of a tuned sweep; returns the
    Markdown."""
    split = sweep.splits[0]
    models = {"gold": [gold], "base": [base]}
    for job in jobs:
        models.setdefault(job.label, []).append(job)
    logs = {label: [read_log(job.log(split)) for job in own] for label, own in models.items()}
    same = SameRows(logs, logs["gold"][0], read_lines(REFUSALS))
    keys = (FORGET.name, RETAIN.name, REAL, QUALITY.key(same.track), *RATES)
    lines = [_line(label, own, same, keys, sweep) for label, own in models.items()]
    _mark_front(lines)
    lines.sort(key=lambda line: line["method"].lower() if line["label"] not in ("gold", "base") else "")
    others = [line["label"] for line in lines if line["label"].endswith(" (tuned)") and line["label"] != REFERENCE]
    paired = {label: same.against(label, REFERENCE) for label in others} if REFERENCE in models else {}
    chosen = json.loads((Path(sweep.save_dir) / "tuned.json").read_text(encoding="utf-8"))
    text = "\n\n".join([_table(lines, keys), _notes(sweep, lines), _comparison(paired), _choices(chosen)])
    file = Path(sweep.save_dir) / "results"
    write_json(file.with_suffix(".json"), finite({
        "track": sweep.track, "model_family": sweep.model_family, "split": split, "tuning_split": sweep.tuning,
        "trials": sweep.trials, "seeds": list(sweep.seeds), "lines": lines, "reference": REFERENCE, "chosen": chosen,
        "against": {label: {name: asdict(one) for name, one in found.items()} for label, found in paired.items()},
    }))  # fmt: skip
    write_text(file.with_suffix(".md"), text + "\n")
    headings = {FORGET.name: "Forget (gold's is the goal)", RETAIN.name: "Retain (higher is better)",
                QUALITY.key(same.track): "Forget Quality, 1 − JSD"}  # fmt: skip
    methods_picture(lines, list(headings.items()), file.with_suffix(".png"))
    front_picture(lines, file.with_name("pareto.png"))
    return text


def _line(label: str, jobs: Sequence[Job], same: SameRows, keys: Sequence[str], sweep: Sweep) -> Line:
    numbers = same.numbers(label)
    records = [
        json.loads((Path(sweep.save_dir) / "jobs" / f"{job.name}.json").read_text(encoding="utf-8")) for job in jobs
    ]
    cost = {
        name: [one[name] for one in records if one.get(name) is not None] for name in ("train_seconds", "memory_mb")
    }
    return {
        "label": label, "method": jobs[0].method or label, "tuned": label.endswith(" (tuned)"),
        "seeds": len(jobs), "numbers": {key: asdict(numbers[key]) for key in keys}, "front": False,
        **{name: float(np.mean(found)) if found else None for name, found in cost.items()},
    }  # fmt: skip


def _mark_front(lines: Sequence[Line]) -> None:
    """Gold and base are no methods."""
    models = [line for line in lines if line["label"] not in ("gold", "base")]
    points = [tuple(line["numbers"][name]["value"] for name in (RETAIN.name, FORGET.name)) for line in models]
    gold = next(line for line in lines if line["label"] == "gold")["numbers"][FORGET.name]["value"]
    for place in pareto_front(points, gold):  # type: ignore[arg-type]
        models[place]["front"] = True


def _table(lines: Sequence[Line], keys: Sequence[str]) -> str:
    head = ["Method", "Seeds", "Forget", "Retain", "Real", "Forget Quality", "Refused: forget", "retain",
            "Degenerate: forget", "retain", "Seconds", "MiB"]  # fmt: skip
    cells = [head, ["---"] * len(head)]
    for line in lines:
        numbers = [line["numbers"][key] for key in keys]
        low = line["numbers"][RETAIN.name]["value"] < LOW_RETAIN
        name = markdown_cell(line["label"] + "*" * low) + " ‡" * line["front"]
        cost = ["" if line[key] is None else f"{line[key]:.0f}" for key in ("train_seconds", "memory_mb")]
        cells.append([name, str(line["seeds"]), *(_cell(one["value"], one["ends"]) for one in numbers), *cost])
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _cell(value: float, ends: Sequence[float] | None, sign: str = "") -> str:
    return f"{value:{sign}.2f}" + (f" [{ends[0]:{sign}.2f}, {ends[1]:{sign}.2f}]" if ends else "")


def _notes(sweep: Sweep, lines: Sequence[Line]) -> str:
    notes = [
        f"{sweep.model_family}, {sweep.splits[0]}, {sweep.modalities[0]}. Plain names: at the defaults; (tuned): the "
        f"best of {sweep.trials} trials, the same number for every method, on {sweep.tuning} and seed "
        f"{sweep.tune_seed}: nearest to that split's gold in Forget among those that keep {sweep.keep_retain:g} of "
        "base's Retain there.",
        "Forget: gold's value is the goal. Retain, Real, Forget Quality (1 − JSD): higher is better.",
        "[low, high]: 95 % interval over people, from three seeds on over seeds too; numbers are means over seeds. "
        "That of a rate which one person or one seed makes reaches from 0 to 1.",
        "‡: on the Pareto front: no other row keeps more and ends nearer to gold in Forget.",
        f"\\*: Retain under {LOW_RETAIN}: the model lost what it should keep; its forgetting says little.",
        "Seconds: of training with loading; MiB: the most that training took (GPU memory, else the process with its "
        "libraries).",
    ]
    if missing := [name for name in _expected(sweep) if name not in {line["label"] for line in lines}]:
        notes.append(f"Missing, since every run failed: {', '.join(map(markdown_cell, missing))}.")
    return "\n".join(f"- {note}" for note in notes)


def _expected(sweep: Sweep) -> list[str]:
    from sweeps.jobs import variants

    return [label for name, _ in variants(sweep) for label in (name, f"{name} (tuned)")]


def _comparison(paired: Mapping[str, Mapping[str, Number]]) -> str:
    """Tuned methods against the tuned gradient difference, those that beat it first."""
    if not paired:
        return f"No comparison: {markdown_cell(REFERENCE)} is not among the rows."
    text = [f"Against {markdown_cell(REFERENCE)}, the same people left out of both models and of gold:", "",
            "| Method | Gap to gold's Forget | Retain | |", "| --- | --- | --- | --- |"]  # fmt: skip
    for label, found in sorted(paired.items(), key=lambda item: item[1]["gap"].value):
        cells = [_cell(found[name].value, found[name].ends, "+") for name in ("gap", "retain")]
        text.append(f"| {markdown_cell(label)} | {' | '.join(cells)} | {verdict(found)} |")
    return "\n".join([*text, "", "- Gap: how much farther from gold than the reference; negative is nearer. beats: "
                      "nearer beyond chance and no loss of Retain beyond chance; loses: the reverse."])  # fmt: skip


def verdict(found: Mapping[str, Number]) -> str:
    """`beats`, `loses`, `trades` (one up, one down) or `unknown` (neither interval leaves 0 out, or there is none)."""
    if any(number.ends is None for number in found.values()):
        return "unknown"
    ups, downs = [], []
    for name, sign in (("gap", -1), ("retain", 1)):
        low, high = sorted(sign * end for end in found[name].ends or ())
        ups.append(low > 0)
        downs.append(high < 0)
    if any(ups) and any(downs):
        return "trades"
    if ups[0]:
        return "beats"
    return "loses" if any(downs) else "keeps more" if ups[1] else "unknown"


def _choices(chosen: Mapping[str, str]) -> str:
    lines = ["| Method | Chosen setting |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {markdown_cell(name)} | `{words.replace(',', ' ')}` |"
                                for name, words in chosen.items())])  # fmt: skip
