"""What a stress run says of one model, as a certificate reads it: each test beside gold's under the same test."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.leaderboard.stress import DEPTH, WORST, summarise
from unlearn.leaderboard.verdict import Finding
from unlearn.results import EvalLog
from unlearn.stress_log import BASE, GOLD

WITHOUT_FORGET_ROWS = ("retain", "stranger")  # data of relearning that hold nothing of what was forgotten
KINDS = {"p": "probability", "ROUGE": "words of the answer", "name": "name said"}
LEAK = r"k=(\d+)"
TESTS = ("worst prompt", "many samples", "8 bit", "4 bit", "relearning without forget rows", "depth")


@dataclass(frozen=True)
class Stress:
    """High values: the model knows. `absent`: the tests of `TESTS` that the run left out."""

    findings: list[Finding]
    absent: list[str]


def stress_findings(folder: Path, log: EvalLog) -> Stress:
    """The stress run of the model that `log` is of, found by its path.

    Raises:
        ValueError: no such run, a damaged one, or one that has no such model.
    """
    found = summarise(folder)
    name = _model(found["models"], log, folder)
    findings, ran = [], set()
    for test, finding in _findings(found["tests"], name):
        findings.append(finding)
        ran.add(test)
    return Stress(findings, [test for test in TESTS if test not in ran])


def _model(models: Sequence[Mapping[str, Any]], log: EvalLog, folder: Path) -> str:
    path = log.meta["run"].get("model_path") if log.meta else None
    if path is None:
        raise ValueError(f"stress={folder}: {log.name} has no eval_meta.json that says which model it is of.")
    tried = {str(one["name"]): str(one["path"]) for one in models if one["name"] not in (BASE, GOLD)}
    for name, other in tried.items():
        if Path(other).resolve() == Path(path).resolve():
            return name
    raise ValueError(
        f"stress={folder}: it has no model {path}, which {log.name} is of; it has {', '.join(tried.values())}. Run "
        "mm/stress.py with this model_path and the same save_dir."
    )


def _findings(tests: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> Iterator[tuple[str, Finding]]:
    """(which of `TESTS`, finding)."""
    entries = {test: [one for one in own if "retain" not in one["task"] and one["task"] != "eval_log"]
               for test, own in tests.items()}  # fmt: skip
    for one in entries.get("variants", ()):
        if one["label"] == WORST:
            yield TESTS[0], _finding(one, name, "worst of several wordings")
    leaks = [(int(found[1]), one) for one in entries.get("leak", ()) if (found := re.fullmatch(LEAK, one["label"]))]
    for k, one in leaks:
        if k == max(number for number, _ in leaks):
            yield TESTS[1], _finding(one, name, f"best of {k} samples")
    for one in entries.get("quantisation", ()):
        if bits := re.search(r"[84]$", one["label"]):
            yield f"{bits[0]} bit", _finding(one, name, f"weights of {bits[0]} bits ({one['label']})")
    last: dict[tuple[str, str, str], tuple[int, Mapping[str, Any]]] = {}
    for one in entries.get("relearning", ()):
        data, _, step = one["label"].partition(", step ")
        key = (data, one["task"], one["kind"])
        if step and data in WITHOUT_FORGET_ROWS and int(step) >= last.get(key, (0, one))[0]:
            last[key] = (int(step), one)
    for (data, _, _), (step, one) in last.items():
        yield TESTS[4], _finding(one, name, f"after {step} steps on {data} rows")
    for one in entries.get("depth", ()):
        if one["label"] == DEPTH and one["models"][name]["mean"] is not None:
            yield TESTS[5], _depth(one, name)


def _finding(one: Mapping[str, Any], name: str, what: str) -> Finding:
    models = one["models"]
    difference, low, high = models[name]["difference"]
    ends = None if low is None or high is None else [low, high]
    title = f"{what}: {one['task']}, {KINDS.get(one['kind'], one['kind'])}"
    return Finding(title, models[name]["mean"], models[GOLD]["mean"], models[BASE]["mean"], difference, ends)


def _depth(one: Mapping[str, Any], name: str) -> Finding:
    """The score is 1 for gold and 0 for base; here what is missing of it, so that high means known as elsewhere."""
    score, ends = one["models"][name]["mean"], one["models"][name]["interval"]
    gap = 1 - score
    return Finding("states inside the network: share not changed as gold's are", gap, 0.0, 1.0, gap,
                   None if ends is None else [1 - ends[1], 1 - ends[0]])  # fmt: skip
