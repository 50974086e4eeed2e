"""The story of a stress run: each model, base and gold among them, is loaded and put through each test.

What is finished is kept: a unit (one model, one test) is known by the weights, rows and settings it was made from, and
within a unit rows are kept batch by batch. So the same command goes on where it stopped, and another model joins the
base and the gold that are there.
"""

import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unlearn.atomic import content_hash
from unlearn.config.settings import StressSettings
from unlearn.data.collator import Collator
from unlearn.data.content import item_contents, processor_contents, source_contents
from unlearn.distributed.processes import from_main, process_state
from unlearn.evaluation.stress.plan import OPTIONAL, TESTS, Plan
from unlearn.evaluation.stress.quantised import WAYS
from unlearn.evaluation.stress.rows import people_of
from unlearn.evaluation.stress.units import Subject, measure, tasks_of, varied
from unlearn.evaluation.variants import VARIANTS
from unlearn.models.families import Family
from unlearn.models.loading import load_model
from unlearn.models.options import set_up_gpu
from unlearn.models.start import Start
from unlearn.pipeline import load_collator, quiet
from unlearn.results import read_record
from unlearn.runs.locks import check_writable, hold
from unlearn.runs.record import check_start, git_commit, known_digests, versions
from unlearn.stress_log import BASE, GOLD, unit_key, write_index, write_unit

logger = logging.getLogger(__name__)


def stress(settings: StressSettings, family: Family, load_plan: Callable[[], Plan]) -> Path:
    """Puts the models, base and gold through the tests; returns the folder with the results.

    Raises:
        ValueError: before a model loads: no such model, test or data, k above the samples, rows that do not fit.
    """
    quiet()
    set_up_gpu(cudnn_attention=False)
    check_settings(settings)
    folder, paths = Path(settings.save_dir), named_paths(settings)
    check_writable(folder)
    starts = {name: Start.of(path) for name, path in paths.items()}
    plan = load_plan()
    tests = chosen_tests(settings, plan)
    subjects = [subject(settings, family, name, start) for name, start in starts.items()]
    if "variants" in tests:
        varied(plan, settings)  # raises: one that changes nothing
    contents = checked(plan, tests, subjects[0].collator)
    state = process_state()
    lock = hold(folder) if state.is_main_process else None
    if state.is_main_process:
        write_index(folder, index(settings, subjects, tests))
    run = Run(settings, plan, contents, folder, subjects[0], len(subjects) * len(tests))
    for one in subjects:
        run.put_through(one, tests)
    if lock is not None:
        lock.release()
    return folder


class Run:
    """The units of a run, one after the other. A model is loaded when its first unit needs it."""

    def __init__(
        self, settings: StressSettings, plan: Plan, contents: dict[str, str], folder: Path, base: Subject, units: int
    ) -> None:
        self.settings, self.plan, self.contents, self.folder = settings, plan, contents, folder
        self.base, self.units = base, units
        self.done, self.measured, self.began = 0, 0, time.monotonic()
        self.original: Any = None  # the base model beside another one, for `depth`

    def put_through(self, one: Subject, tests: Sequence[str]) -> None:
        """All tests of one model."""
        state, model = process_state(), None
        for test in tests:
            self.done += 1
            file = self.folder / one.name / f"{test}.json"
            key = self._key(one, test)
            if from_main(state.is_main_process and unit_key(file) == key):
                logger.info("%s, %s: kept", one.name, test)
                continue
            model = self._load(one) if model is None else model
            if test == "depth" and self.original is None:
                self.original = model if one is self.base else self._load(self.base)
            start = time.monotonic()
            work = self._work_folder(file, key)
            how: dict[str, Any] = {"folder": work, "key": key}
            numbers = measure(test, model, self.original, one.collator, self.plan, self.settings, **how)
            if state.is_main_process:
                people = {task.name: people_of(task) for task in tasks_of(test, self.plan)}
                write_unit(file, key, numbers, people, round(time.monotonic() - start, 3))
                if test in ("leak", "depth", "probe", "relearning", "gradient"):  # evaluations keep their logs
                    shutil.rmtree(work, ignore_errors=True)
            state.wait_for_everyone()
            self._say(one, test, time.monotonic() - start)

    def _say(self, one: Subject, test: str, seconds: float) -> None:
        self.measured += 1
        left = (time.monotonic() - self.began) / self.measured * (self.units - self.done)
        logger.info("%s, %s: %.0f s; %d of %d, about %.0f s left", one.name, test, seconds, self.done, self.units, left)

    def _load(self, one: Subject) -> Any:
        settings, gpu = self.settings, torch.cuda.is_available()
        half = settings.precision == "bf16" or (settings.precision == "auto" and gpu)
        model = load_model(
            one.start, dtype=torch.bfloat16 if half else torch.float32, attn_implementation=settings.attn_implementation
        )  # adapters are merged
        return model.to(f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}") if gpu else model

    def _key(self, one: Subject, test: str) -> str:
        settings = dataclasses.asdict(self.settings)
        how = {key: settings[key] for key in ("precision", "generation", "seed", *OWN.get(test, ()))}
        of = [(task.name, task.identity, self.contents[task.identity]) for task in tasks_of(test, self.plan)]
        of += [(name, "", self.contents[name]) for name in self.plan.relearning if test == "relearning"]
        beside = self.base.digest if test == "depth" else ""
        return content_hash(test, one.digest, beside, json.dumps([how, of], sort_keys=True))

    def _work_folder(self, file: Path, key: str) -> Path:
        """Where a unit's rows are while it runs, without what a unit made from something else left there."""
        work, state = file.with_suffix(""), process_state()
        if state.is_main_process:
            note = work / "unit.txt"
            if work.exists() and (not note.is_file() or note.read_text(encoding="utf-8") != key):
                shutil.rmtree(work)
            work.mkdir(parents=True, exist_ok=True)
            note.write_text(key, encoding="utf-8")
        state.wait_for_everyone()
        return work


OWN = {"variants": ("variants",), "leak": ("leak",), "relearning": ("relearn",), "quantisation": ("quantisation",)}


def check_settings(settings: StressSettings) -> None:
    """ValueError for what can be refused from the settings alone."""
    leak, steps = settings.leak, settings.relearn.steps
    if not leak.k or min(leak.k) < 1 or max(leak.k) > leak.samples:
        raise ValueError(
            f"leak.k={leak.k} of leak.samples={leak.samples}: each k must be 1 to the number of samples; draw more "
            "samples or ask for smaller k."
        )
    if len(steps) < 2 or steps[0] != 0 or steps != sorted(set(steps)):
        raise ValueError(f"relearn.steps={steps} must be two or more, increasing from 0 (before any training).")
    if unknown := sorted({*(settings.tests or ())} - {*TESTS}):
        raise ValueError(f"tests has {unknown[0]!r}, and there is no such test. There are {', '.join(TESTS)}.")
    if unknown := sorted({*(settings.variants or ())} - {*VARIANTS}):
        raise ValueError(f"variants has {unknown[0]!r}; there are {', '.join(VARIANTS)}.")
    if unknown := sorted({*(settings.quantisation or ())} - {*WAYS}):
        raise ValueError(f"quantisation has {unknown[0]!r}; there are {', '.join(WAYS)}.")
    if not settings.save_dir:
        raise ValueError("save_dir is empty; say where the results should go.")


def chosen_tests(settings: StressSettings, plan: Plan) -> list[str]:
    """The tests that are asked for, by default all that the track has but OPTIONAL, in their order."""
    for name in settings.tests or ():
        if name not in plan.tests:
            raise ValueError(f"tests has {name!r}: there is nothing here to ask in it. There are "
                             f"{', '.join(plan.tests)}.")  # fmt: skip
    wanted = [test for test in TESTS if test not in OPTIONAL] if settings.tests is None else settings.tests
    return [test for test in plan.tests if test in wanted]


def named_paths(settings: StressSettings) -> dict[str, str]:
    """{folder name: model}: base, gold, and each model by its last folder.

    Raises:
        ValueError: no model, or two of one name.
    """
    paths = [settings.model_path] if isinstance(settings.model_path, str) else list(settings.model_path)
    named = {BASE: settings.base_path, GOLD: settings.gold_path}
    for key, path in named.items():
        if not path:
            raise ValueError(f"{key}_path is empty: a number says nothing without the {key} model's beside it.")
    if not paths or not all(paths):
        raise ValueError("model_path is empty; give the model that is put to the test, or several.")
    for path in paths:
        name = Path(path).name
        if name in named:
            raise ValueError(
                f"model_path has {path}, whose results would lie in the folder {name!r} of another model; "
                "run it with a save_dir of its own."
            )
        named[name] = path
    return named


def subject(settings: StressSettings, family: Family, name: str, start: Start) -> Subject:
    """A model with its processor, its weights not loaded yet. ValueError for one that is not whole."""
    digests = known_digests(start.chain)
    start.check()
    check_start(start, digests)
    collator = load_collator(start, family, settings.max_length)
    digest = content_hash(start.weights(digests), processor_contents(start.processor, collator, digests))
    return Subject(name, start, collator, digest)


def checked(plan: Plan, tests: Sequence[str], collator: Collator) -> dict[str, str]:
    """What the tasks (by identity) and the data of relearning (by name) hold, as digests; every row has passed the
    collator's check. ValueError names a row that does not fit max_length."""
    tasks = {task.identity: task for test in tests for task in tasks_of(test, plan)}
    contents = {identity: item_contents(task.items, collator.check) for identity, task in tasks.items()}
    if "relearning" in tests:
        contents |= {name: source_contents(data, collator.check) for name, (data, _) in plan.relearning.items()}
    return contents


def index(settings: StressSettings, subjects: Sequence[Subject], tests: Sequence[str]) -> dict[str, Any]:
    """What stress.json says of a run."""
    models = []
    for one in subjects:
        made = (read_record(Path(one.start.path)) or {}).get("settings", {})
        models.append({"name": one.name, "path": one.start.name, "method": made.get("forget_loss"),
                       "modality": made.get("modality")})  # fmt: skip
    return {
        "models": models, "tests": list(tests), "settings": dataclasses.asdict(settings), "commit": git_commit(),
        "versions": versions(),
    }  # fmt: skip
