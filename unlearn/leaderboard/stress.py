"""From the values that a stress run left to numbers: each model beside base and gold, with intervals over people."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn.leaderboard.auc import auc_difference, auc_interval, aucs_without
from unlearn.metrics.comparison import leakage, paired_interval
from unlearn.metrics.intervals import interval, means_without, unit_numbers
from unlearn.metrics.membership import attack_auc
from unlearn.metrics.stress import depth_score, first_step, relearning_area
from unlearn.results import row_order, some_rows
from unlearn.stress_log import BASE, FORGET, GOLD, PLAIN, PROMPTS, Number, Unit, read_index, read_unit

Floats = NDArray[np.float64]
Units = Mapping[str, Unit]  # of one test, by model
AREA, WORST, DEPTH, MEAN, AUC = "area", "worst prompt", "depth", "mean over layers", "AUC"


def summarise(folder: Path) -> dict[str, Any]:
    """{"models", "tests": {test: [entry]}, "curves", "seconds"} of a stress run.

    An entry: {"task", "label", "kind", "models": {model: {"mean", "interval", "rows", "people", and beside gold
    "difference": [model - gold, low, high]}}}; of the leakage matrix also "leakage": {"value", "interval"}.

    Raises:
        ValueError: no such run, a damaged file, models that were asked about other rows.
    """
    index = read_index(folder)
    models = [model["name"] for model in index["models"]]
    found: dict[str, Any] = {"models": index["models"], "tests": {}, "curves": {}, "seconds": {}}
    for test in index["tests"]:
        units = {name: read_unit(folder / name / f"{test}.json") for name in models}
        found["seconds"][test] = {name: unit.seconds for name, unit in units.items()}
        numbers = _shared(units, test)
        entries = [_entry(key, units) for key in numbers if test not in ("depth", "gradient")]
        if test in _DERIVED:
            entries += _DERIVED[test](units, numbers)
        if test == "relearning":
            found["curves"] = _curves(units, numbers)
        if test == "depth":
            found["profile"] = _profile(units)
        found["tests"][test] = entries
    return found


def find(entries: Sequence[Mapping[str, Any]], task: str, label: str, kind: str) -> Mapping[str, Any] | None:
    """The entry of a task, a label and a kind."""
    wanted = (task, label, kind)
    return next((one for one in entries if (one["task"], one["label"], one["kind"]) == wanted), None)


def _shared(units: Units, test: str) -> list[tuple[str, str, str]]:
    """The numbers that all models have. ValueError where their rows are not the same ones."""
    keys = [key for key in units[GOLD].numbers if all(key in unit.numbers for unit in units.values())]
    for key in keys:
        golds = set(units[GOLD].numbers[key].rows)
        for name, unit in units.items():
            if other := set(unit.numbers[key].rows) ^ golds:
                raise ValueError(
                    f"{test}: {name} and {GOLD} were asked about other rows of {key[0]} ({some_rows(other)} are in one "
                    "alone). Run the stress test of both again with the same data, split and ds_size."
                )
    return keys


def _entry(key: tuple[str, str, str], units: Units) -> dict[str, Any]:
    return _beside({name: unit.numbers[key] for name, unit in units.items()}, _people(units, key[0]))


def _beside(numbers: Mapping[str, Number], people: Mapping[str, str | None]) -> dict[str, Any]:
    """One number of every model, as a mean with its interval, and its difference from gold."""
    first = next(iter(numbers.values()))
    rows = sorted(first.rows, key=row_order)
    who = [people.get(row) or f"row {row}" for row in rows]
    values = {name: np.array([number.rows[row] for row in rows]) for name, number in numbers.items()}
    models: dict[str, Any] = {}
    for name, own in values.items():
        ends = interval(float(own.mean()), [means_without(own, unit_numbers(who))])
        models[name] = {"mean": float(own.mean()), "interval": ends, "rows": len(rows), "people": len(set(who))}
        if name not in (BASE, GOLD):
            models[name]["difference"] = list(paired_interval(own, values[GOLD], who, bounds=(-1.0, 1.0)))
    if first.label.startswith(f"{FORGET}: "):
        for name in models.keys() - {BASE, GOLD}:
            models[name]["leakage"] = _leakage(values[name], values[GOLD], values[BASE], who)
    return {"task": first.task, "label": first.label, "kind": first.kind, "models": models}


def _leakage(model: Floats, gold: Floats, base: Floats, who: Sequence[str]) -> dict[str, Any]:
    """(model - gold) / (base - gold): 0 as gold, 1 as before; null where base and gold cannot be told apart."""
    _, low, high = paired_interval(base, gold, who)  # without bounds: at 1 a logit tells nothing apart
    if low is None or high is None or low <= 0 <= high:
        return {"value": None, "interval": None}
    numbers = unit_numbers(who)
    m, g, b = (means_without(values, numbers) for values in (model, gold, base))
    value = leakage(float(model.mean()), float(gold.mean()), float(base.mean()))
    if value is None or (b == g).any():
        return {"value": value, "interval": None}
    return {"value": value, "interval": interval(value, [(m - g) / (b - g)], bounds=(-np.inf, np.inf))}


def _people(units: Units, task: str) -> Mapping[str, str | None]:
    return units[GOLD].people.get(task, {})


def _worst(units: Units, keys: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Per row the highest value over its own wording and the other prompts: a maximum rises for gold too."""
    found = []
    for task, _, kind in [key for key in keys if key[1] == PLAIN]:
        labels = [label for label in (PLAIN, *PROMPTS) if (task, label, kind) in keys]
        numbers = {}
        for name, unit in units.items():
            rows = [unit.numbers[task, label, kind].rows for label in labels]
            worst = {row: max(own[row] for own in rows) for row in rows[0]}
            numbers[name] = Number(task, WORST, kind, worst)
        found.append(_beside(numbers, _people(units, task)))
    return found


def _steps(keys: Sequence[tuple[str, str, str]]) -> dict[str, list[tuple[int, tuple[str, str, str]]]]:
    """By data the steps of its curve with their numbers."""
    curves: dict[str, list[tuple[int, tuple[str, str, str]]]] = {}
    for key in keys:
        data, _, step = key[1].partition(", step ")
        curves.setdefault(data, []).append((int(step), key))
    return curves


def _areas(units: Units, keys: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    found = []
    for data, points in _steps(keys).items():
        task, _, kind = points[0][1]
        numbers = {}
        for name, unit in units.items():
            rows = list(unit.numbers[points[0][1]].rows)
            values = [[unit.numbers[key].rows[row] for row in rows] for _, key in points]
            areas = relearning_area([step for step, _ in points], values)
            numbers[name] = Number(task, f"{data}, {AREA}", kind, dict(zip(rows, areas.tolist(), strict=True)))
        found.append(_beside(numbers, _people(units, task)))
    return found


def _curves(units: Units, keys: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """{data: {model: {"first_step", "peak": {"step", "difference"}}}}: the first step at 90 % of what base has before
    any; the largest difference from gold."""
    found: dict[str, Any] = {}
    for data, points in _steps(keys).items():
        steps = [step for step, _ in points]
        means = {
            name: [float(np.mean(list(unit.numbers[key].rows.values()))) for _, key in points]
            for name, unit in units.items()
        }
        found[data] = {}
        for name, own in means.items():
            apart = [mine - golds for mine, golds in zip(own, means[GOLD], strict=True)]
            peak = int(np.argmax(apart))
            found[data][name] = {
                "first_step": first_step(steps, own, means[BASE][0]),
                "peak": {"step": steps[peak], "difference": apart[peak]},
            }
    return found


def _drops(unit: Unit) -> tuple[Floats, list[str]]:
    """([rows, layers], rows) of one model, the last block left out: there its own answer comes out."""
    numbers = list(unit.numbers.values())[:-1]
    rows = sorted(numbers[0].rows, key=row_order)
    return np.array([[number.rows[row] for number in numbers] for row in rows]), rows


def _depths(units: Units, keys: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    gold, rows = _drops(units[GOLD])
    task = keys[0][0]
    people = _people(units, task)
    who = [people.get(row) or f"row {row}" for row in rows]
    numbers = unit_numbers(who)

    def without(drops: Floats) -> Floats:  # [people, layers]
        return np.stack([means_without(column, numbers) for column in drops.T], axis=1)

    models: dict[str, Any] = {}
    for name, unit in units.items():
        drops, _ = _drops(unit)
        score = depth_score(gold.mean(0), drops.mean(0))
        each = [depth_score(g, m) for g, m in zip(without(gold), without(drops), strict=True)]
        known = score is not None and None not in each
        ends = interval(score, [[one for one in each if one is not None]]) if known and score is not None else None
        models[name] = {"mean": score, "interval": ends, "rows": len(rows), "people": len(set(who))}
        if name not in (BASE, GOLD) and score is not None:
            apart = [None, None] if ends is None else [end - 1 for end in ends]  # gold's is 1 by definition
            models[name]["difference"] = [score - 1, *apart]
    return [{"task": task, "label": DEPTH, "kind": "score", "models": models}]


def _profile(units: Units) -> dict[str, list[float]]:
    """By model what base's answer loses with each block's output taken from it, nats per token, the last included."""
    return {
        name: [float(np.mean(list(number.rows.values()))) for number in unit.numbers.values()]
        for name, unit in units.items()
    }


def _mean_probe(units: Units, keys: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    if not keys:
        return []
    task, _, kind = keys[0]
    numbers = {}
    for name, unit in units.items():
        own = [unit.numbers[key].rows for key in keys]
        numbers[name] = Number(task, MEAN, kind, {row: float(np.mean([rows[row] for rows in own])) for row in own[0]})
    return [_beside(numbers, _people(units, task))]


def _attacks(units: Units, keys: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """By task and norm the AUC of forget rows against the holdout's: 1 where a model gives away whom it was trained
    on."""
    found = []
    for task, kind in [(task, kind) for task, label, kind in keys if task == label]:
        twin = next(own for own, label, own_kind in keys if (label, own_kind) == (task, kind) and own != task)
        rows = {side: sorted(units[GOLD].numbers[side, task, kind].rows, key=row_order) for side in (task, twin)}
        who = [[_people(units, side).get(row) or f"row {row}" for row in own] for side, own in rows.items()]
        aucs = {}
        for name, unit in units.items():
            known, unseen = (np.array([unit.numbers[side, task, kind].rows[row] for row in own])
                             for side, own in rows.items())  # fmt: skip
            aucs[name] = attack_auc(known, unseen), aucs_without(known, unseen, *who)
        models: dict[str, Any] = {}
        for name, (auc, without) in aucs.items():
            models[name] = {"mean": auc, "interval": auc_interval(auc, without), "rows": len(rows[task]),
                            "people": len(set(who[0]))}  # fmt: skip
            if name not in (BASE, GOLD):
                models[name]["difference"] = auc_difference(auc, aucs[GOLD][0], without, aucs[GOLD][1])
        found.append({"task": task, "label": AUC, "kind": kind, "models": models})
    return found


_DERIVED: dict[str, Callable[[Units, Sequence[tuple[str, str, str]]], list[dict[str, Any]]]] = {
    "variants": _worst, "relearning": _areas, "depth": _depths, "probe": _mean_probe,
    "gradient": _attacks,
}  # fmt: skip
