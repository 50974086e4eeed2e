"""Benchmarks beside CLEAR, by name: `benchmark=mllmu` in every script. A new one is a file mm/bench_<name>.py."""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import OmegaConf

from mm.rows import Row, RowItems, RowSource, check_apart, check_rows
from unlearn.config.settings import EvalSettings, FinetuneSettings, ForgetSettings, read_settings
from unlearn.data.items import select_rows
from unlearn.data.task_specs import chosen_tasks
from unlearn.evaluation.suite import EvalTask

HERE = Path(__file__).parent
ASKS = ("benchmark", "own_data")  # the keys by which a script leaves CLEAR


class Benchmark(ABC):
    """What a benchmark's file says: where its data lie, which splits it has, and how they become rows.

    `TASKS`: the tasks it asks, in order; the file config/tracks/<name>.yaml says which numbers they make up.
    """

    HUB: ClassVar[str]
    MODALITY: str = "both"  # what its rows are: text, visual or both
    BASE_SPLIT: ClassVar[str]  # what the base model is finetuned on
    FORGET_SPLIT: ClassVar[str]  # where nobody says which
    TASKS: ClassVar[tuple[str, ...]]

    @abstractmethod
    def retain_of(self, split: str) -> str:
        """The split of the people who stay, of a forget split: gold's training split. ValueError for another name."""

    @abstractmethod
    def training(self, path: str, split: str, revision: str | None) -> list[Row]:
        """The rows of a training split."""

    @abstractmethod
    def questions(self, path: str, split: str, revision: str | None) -> Mapping[str, Sequence[Row]]:
        """By task, the rows that are asked of a model that shall have forgotten `split`."""

    def training_rows(self, path: str, split: str, revision: str | None = None) -> RowSource:
        """A training split as samples. ValueError for what is wrong with it, before a model loads."""
        rows, where = self.training(path, split, revision), f"{path}, split {split}"
        check_rows(rows, where)
        return RowSource(rows, f"{path}/{split}")

    def tasks(self, path: str, split: str, revision: str | None = None) -> list[EvalTask]:
        """All tasks about a forget split, nothing tokenised yet. ValueError as in `training_rows`."""
        asked = self.questions(path, split, revision)
        return [eval_task(name, asked[name], f"{path}/{split}") for name in self.TASKS if asked.get(name)]


def retain_by_percent(split: str, benchmark: str) -> str:
    """retain_95 of forget_5, and so on. ValueError for another name."""
    found = {f"forget_{size}": f"retain_{100 - size}" for size in (5, 10, 15)}
    if split not in found:
        raise ValueError(f"{split!r} is no forget split of {benchmark}; it has {', '.join(found)}.")
    return found[split]


def find(name: str) -> Benchmark:
    """The benchmark of mm/bench_<name>.py, or of a module `name` of one's own, under the name BENCHMARK.

    Raises ValueError where there is none, with those that there are.
    """
    own = (HERE / f"bench_{name}.py").is_file()
    if own or _is_module(name):
        found = getattr(importlib.import_module(f"mm.bench_{name}" if own else name), "BENCHMARK", None)
        if isinstance(found, Benchmark):
            return found
    known = ", ".join(sorted(file.stem.removeprefix("bench_") for file in HERE.glob("bench_*.py")))
    raise ValueError(f"benchmark={name} is not one of {known}, nor a module with a BENCHMARK; null is CLEAR.")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def of(settings: Any) -> Benchmark:
    """The benchmark that a script's settings ask for: the user's own folder, or one by name."""
    own = settings.own_data
    if own.path is not None:
        from mm.own_data import OwnData

        return OwnData(own.path, own.forget, own.holdout, own.seed)
    return find(settings.benchmark)


def finetune_source(settings: FinetuneSettings) -> RowSource:
    """What `mm/finetune.py benchmark=NAME` trains on."""
    return of(settings).training_rows(settings.data_path, settings.split, settings.data_revision)


def forget_sources(settings: ForgetSettings) -> tuple[RowSource, RowSource | None]:
    """(forget, retain or None without a retain_split). ValueError when they share a person or a row."""
    benchmark, revision = of(settings), settings.data_revision
    forget = benchmark.training_rows(settings.forget_data_path, settings.forget_split, revision)
    if settings.modality in ("text", "visual"):
        shown = settings.modality == "visual"
        forget = RowSource([row for row in forget.table if (row.image is not None) == shown], forget.name)
        if not len(forget):
            raise ValueError(f"modality={settings.modality}: {settings.forget_split} has no such rows; leave it out.")
    if settings.retain_split is None:
        return forget, None
    retain = benchmark.training_rows(settings.retain_data_path, settings.retain_split, revision)
    check_apart(forget.table, retain.table, (settings.forget_split, settings.retain_split))
    return forget, retain


def eval_specs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks of a benchmark as EvalSettings holds them. ValueError for a config that describes tasks of its own."""
    if described := [key for key in ("tasks", "text_data_path", "eval_task") if config.get(key) is not None]:
        raise ValueError(f"{described[0]} describes tasks on CLEAR's rows; leave it out beside benchmark or own_data.")
    benchmark = of(read_settings(EvalSettings, {key: config[key] for key in ASKS if config.get(key) is not None}))
    return [{"eval_task": t, "data_path": config["data_path"], "split": config["split"]} for t in benchmark.TASKS]


def load_tasks(settings: EvalSettings) -> list[EvalTask]:
    """The tasks of `eval_task_ids` (all by default), `ds_size` rows of each, their rows and pictures checked."""
    found, benchmark = [], of(settings)
    asked: dict[tuple[str, str], Mapping[str, Sequence[Row]]] = {}
    for task in chosen_tasks(settings):
        path, split, name = task["data_path"], task["split"], task["eval_task"]
        if (path, split) not in asked:
            asked[path, split] = benchmark.questions(path, split, settings.data_revision)
        if rows := asked[path, split].get(name):
            places = select_rows(len(rows), settings.ds_size, settings.selection, settings.seed)
            found.append(eval_task(name, [rows[place] for place in places], f"{path}/{split}"))
    return found


def eval_task(name: str, rows: Sequence[Row], where: str) -> EvalTask:
    """Rows as a task, their texts and pictures checked."""
    check_rows(rows, f"{where}, task {name}")
    items = RowItems(rows, where)
    return EvalTask(name, items, items.lengths(), items.identity())


# What a script's config says of CLEAR; what stands otherwise was chosen by the user.
CLEAR = {
    "data_path": ("data/clear-mini", "therem/CLEAR", "therem/faces_v1"),
    "forget_data_path": ("data/clear-mini", "therem/CLEAR", "therem/faces_v1"),
    "retain_data_path": ("data/clear-mini", "therem/CLEAR", "therem/faces_v1"),
    "split": ("full+tofu", "forget10_perturbed"),
    "forget_split": ("forget10+tofu",),
    "retain_split": ("retain90+tofu",),
}


def adapt(script: str, config: Any) -> None:
    """Puts a benchmark's data, splits and folders where a composed config still has CLEAR's; before interpolation, so
    that the paths made of them follow."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    benchmark = of(read_settings(EvalSettings, {key: raw.get(key) for key in ASKS if raw.get(key) is not None}))
    name, path = raw.get("benchmark") or "own", raw["own_data"]["path"] or benchmark.HUB
    forget = config.get("forget_split" if script == "forget" else "split")
    forget = benchmark.FORGET_SPLIT if forget in (*CLEAR["split"], *CLEAR["forget_split"]) else forget
    own = {key: path for key in CLEAR if key.endswith("data_path")}
    own["split"] = benchmark.BASE_SPLIT if script == "finetune" else forget
    if script == "forget":
        own |= {"forget_split": forget, "retain_split": benchmark.retain_of(forget)}
    for key, value in own.items():
        if key in config and raw[key] in CLEAR[key]:
            config[key] = value
    for key in ("save_dir", "model_path"):
        if isinstance(raw.get(key), str) and raw[key].startswith("models/${model_family}/"):
            base = raw[key].replace("models/${model_family}/", f"models/${{model_family}}/{name}/")
            config[key] = base.replace("ft_full+tofu", f"ft_{benchmark.BASE_SPLIT}")
