"""Which tasks a test asks, and how it measures one model."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearn.config.settings import StressSettings
from unlearn.data.collator import Collator
from unlearn.distributed.processes import process_state
from unlearn.evaluation.stress.asked import Asked, ask
from unlearn.evaluation.stress.gradients import gradient_norms
from unlearn.evaluation.stress.inside import depth, probe
from unlearn.evaluation.stress.plan import Plan
from unlearn.evaluation.stress.quantised import LIBRARY, ROUNDED, WAYS, by_library, fits_library, rounded
from unlearn.evaluation.stress.relearning import relearn
from unlearn.evaluation.stress.sampling import leak
from unlearn.evaluation.suite import EvalTask
from unlearn.evaluation.variants import VARIANTS, vary
from unlearn.models.loading import installed
from unlearn.models.start import Start
from unlearn.stress_log import FORGET, PLAIN, RETAIN, Number


@dataclass(frozen=True)
class Subject:
    """A model to be put to the test. `digest`: of its weights and its processor."""

    name: str
    start: Start
    collator: Collator
    digest: str


def tasks_of(test: str, plan: Plan) -> list[EvalTask]:
    """The tasks that a test asks, as they are without any variant, each once."""
    tasks = {
        "variants": [task for task, _, _ in plan.varied],
        "leak": [task for task, _ in plan.leak],
        "matrix": [*plan.forget.values(), *plan.retain.values()],
        "quantisation": [task for task, _ in plan.known],
        "relearning": [task for _, task in plan.relearning.values()],
        "depth": [plan.inside],
        "probe": [plan.faces] if plan.faces else [],
        "gradient": [task for pair in plan.membership for task in pair],
    }[test]
    return list({task.identity: task for task in tasks}.values())


def measure(
    test: str,
    model: Any,
    base: Any,
    collator: Collator,
    plan: Plan,
    settings: StressSettings,
    *,
    folder: Path,
    key: str,
) -> list[Number]:
    """What a test finds of a model, on every process. `folder`: for rows that are finished; `base`: the original model,
    for `depth` alone."""
    how: dict[str, Any] = {"batch_size": settings.batch_size, "folder": folder, "key": key}
    if test == "variants":
        return ask(model, collator, varied(plan, settings), **_evaluation(settings, folder))
    if test == "matrix":
        return ask(model, collator, matrix(plan), **_evaluation(settings, folder))
    if test == "quantisation":
        return quantised(model, collator, plan, settings, folder)
    if test == "leak":
        own = settings.leak
        how |= {"ks": own.k, "samples": own.samples, "temperature": own.temperature, "top_p": own.top_p}
        how |= {"max_new_tokens": own.max_new_tokens or settings.generation.max_new_tokens, "seed": settings.seed}
        return [number for task, kind in plan.leak for number in leak(model, collator, task, kind, **how)]
    if test == "relearning":
        return relearned(model, collator, plan, settings)
    if test == "depth":
        return depth(base, model, collator, plan.inside, **how)
    if test == "gradient":
        return [number for pair in plan.membership for number in gradient_norms(model, collator, *pair, **how)]
    assert plan.faces is not None
    return probe(model, collator, plan.faces, **how)


def varied(plan: Plan, settings: StressSettings) -> list[Asked]:
    """Every task as it is and under each variant that changes something of it.

    Raises:
        ValueError: a variant of `variants` that changes nothing of any task, or that there is not.
    """
    asked = []
    refused: dict[str, ValueError] = {}
    for task, kinds, paraphrase in plan.varied:
        asked.append(Asked(task, task.name, PLAIN, kinds))
        for name in VARIANTS if settings.variants is None else settings.variants:
            try:
                other = vary(task, name, seed=settings.seed, paraphrase=paraphrase)
            except ValueError as error:
                refused[name] = error
                continue
            asked.append(Asked(other, task.name, name, (*kinds, "choice") if name == "options" else kinds))
    changed = {one.label for one in asked}
    for name in settings.variants or ():
        if name not in changed:
            raise refused[name]
    return asked


def matrix(plan: Plan) -> list[Asked]:
    """The five tests and their twins, each task evaluated once."""
    sides = ((FORGET, plan.forget), (RETAIN, plan.retain))
    return [Asked(task, task.name, f"{side}: {label}") for side, tasks in sides for label, task in tasks.items()]


def quantised(model: Any, collator: Collator, plan: Plan, settings: StressSettings, folder: Path) -> list[Number]:
    """The tasks as they are and with the model's weights rounded, in each way that is asked for."""
    numbers = []
    for way in (PLAIN, *ways(model, settings)):
        asked = [Asked(task, task.name, way, kinds) for task, kinds in plan.known]
        with _in_way(model, way, folder / "merged", collator) as changed:
            numbers += ask(changed, collator, asked, **_evaluation(settings, folder / way))
    return numbers


def ways(model: Any, settings: StressSettings) -> list[str]:
    """The ways of rounding: those of the settings, or all that fit here."""
    if settings.quantisation is not None:
        return settings.quantisation
    library = torch.cuda.is_available() and installed("bitsandbytes") and fits_library(model)
    return list(WAYS if library else ROUNDED)


def relearned(model: Any, collator: Collator, plan: Plan, settings: StressSettings) -> list[Number]:
    """A curve for each kind of data."""
    own, numbers = settings.relearn, []
    for data, (source, test) in plan.relearning.items():
        found = relearn(
            model, collator, source, test, steps=own.steps, lr=own.lr, batch_size=own.batch_size, seed=settings.seed,
            rows_per_forward=settings.batch_size,
        )  # fmt: skip
        numbers += [Number(one.task, f"{data}, {one.label}", one.kind, one.rows) for one in found]
    return numbers


@contextlib.contextmanager
def _in_way(model: Any, way: str, folder: Path, collator: Collator) -> Iterator[Any]:
    if way == PLAIN:
        yield model
    elif way in ROUNDED:
        with rounded(model, ROUNDED[way]) as changed:
            yield changed
    else:
        assert way in LIBRARY

        def save(merged: Any, into: Path) -> None:
            state = process_state()
            if state.is_main_process:
                merged.save_pretrained(into)
            state.wait_for_everyone()

        with by_library(model, way, folder, save) as changed:
            yield changed


def _evaluation(settings: StressSettings, folder: Path) -> dict[str, Any]:
    return {"folder": folder, "batch_size": settings.batch_size,
            "max_new_tokens": settings.generation.max_new_tokens}  # fmt: skip
