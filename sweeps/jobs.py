"""The jobs of a sweep: which runs its axes name, where each goes, and which overrides make it.

What its splits and modalities mean is the track's to say (sweeps/tracks.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.settings import Sweep, as_overrides
from sweeps.tracks import find

AGGREGATE = "eval_results/eval_log_aggregated.json"


@dataclass(frozen=True)
class Job:
    """One training run and the evaluations that follow it. `script` is finetune or forget (of a study: run).

    `label` is the row's name in the leaderboard; method, modality, split and seed say where it belongs in a table.
    """

    script: str
    label: str
    folder: Path
    overrides: tuple[str, ...]
    evaluations: tuple[tuple[str, ...], ...] = ()
    track: str = "mm"
    method: str = ""
    modality: str = ""
    split: str = ""
    seed: int | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_study(self) -> bool:
        return self.script == "run"

    def log(self, split: str = "") -> Path:
        """The aggregated log of the evaluation on a forget split."""
        return results_of(self.folder, split, self.track) / "eval_log_aggregated.json"


def results_of(folder: Path, split: str, track: str) -> Path:
    """Base and gold are asked about each forget split; the track's own has the folder that the scripts use."""
    return folder / "eval_results" if split in ("", find(track).SPLIT) else folder / "eval_results" / split


def base_job(sweep: Sweep) -> Job:
    """The model before unlearning, evaluated on every forget split of the sweep, that of tuning too."""
    asked = [*sweep.splits, *([sweep.tuning] if sweep.tune else [])]
    return finetune_job(sweep, find(sweep.track).BASE_SPLIT, "base", asked)


def gold_jobs(sweep: Sweep) -> dict[str, Job]:
    """By forget split: the model that never saw it."""
    gold = find(sweep.track).gold_split
    return {split: finetune_job(sweep, gold(split), "gold", [split]) for split in sweep.splits}


def finetune_job(
    sweep: Sweep, split: str, label: str, forget_splits: Sequence[str], *, fraction: float = 1.0,
    evaluation: tuple[str, ...] = (),
) -> Job:  # fmt: skip
    """Finetuning on `fraction` of a split. `evaluation`: overrides of this job's evaluations alone."""
    folder = Path(sweep.save_dir) / (f"ft_{split}" + ("" if fraction == 1 else f"_part{fraction:g}"))
    part = () if fraction == 1 else (f"data_fraction={fraction:g}",)
    words = (f"split={split}", f"seed={sweep.finetune_seed}", *part)
    evaluations = tuple((*_evaluation(sweep, folder, label, asked), *evaluation) for asked in forget_splits)
    return Job("finetune", label, folder, (*_common(sweep, folder), *words, *sweep.finetune), evaluations, sweep.track,
               seed=sweep.finetune_seed)  # fmt: skip


def forget_jobs(sweep: Sweep, base: Job) -> list[Job]:
    """Every point of the sweep's axes; one seed of everything comes before the next, so that half a sweep says
    something."""
    return [
        forget_job(sweep, base, Variant(label, method, (*own, *more)), modality, split, seed)
        for split in sweep.splits
        for seed in sweep.seeds
        for more in sweep.option_lists
        for method, own in variants(sweep)
        for label in [f"{method} [{','.join(more)}]" if more else method]
        for modality in sweep.modalities
    ]


@dataclass(frozen=True)
class Variant:
    """A method with overrides of its own, under the name that its rows bear."""

    label: str
    method: str
    overrides: tuple[str, ...] = ()


def forget_job(sweep: Sweep, base: Job, variant: Variant, modality: str, split: str, seed: int) -> Job:
    track = find(sweep.track)
    words = [variant.label, *([modality] if modality != track.MODALITIES[0] else []),
             *([split] if split != track.SPLIT else []), f"seed{seed}"]  # fmt: skip
    folder = Path(sweep.save_dir) / "_".join(words).replace(" ", "_").replace("/", "-")
    overrides = (
        *_common(sweep, folder), f"model_path='{base.folder}'", f"forget_loss={variant.method}", f"seed={seed}",
        *track.forget_overrides(split, modality), *sweep.forget, *_whole(variant.method),
        *variant.overrides,
    )  # fmt: skip
    return Job(
        "forget",
        variant.label,
        folder,
        overrides,
        (_evaluation(sweep, folder, variant.label, split),),
        sweep.track,
        variant.method,
        modality,
        split,
        seed,
    )


def _whole(method: str) -> tuple[str, ...]:
    """What a method that cannot be trained with LoRA, or is no training at all, needs said."""
    from unlearn.registry import build_method

    return ("LoRA.r=0",) if build_method(method).forbids_lora else ()


def study_job(sweep: Sweep) -> Job:
    """A track's whole study, which spreads its many models over the machine by itself."""
    folder, track = Path(sweep.save_dir), find(sweep.track)
    methods = None if sweep.methods == "all" else _names(sweep)
    preset = (f"+experiment={sweep.experiment}",) if sweep.experiment else ()
    words = track.study_overrides(folder, methods, sweep.splits[0])
    return Job("run", track.FAMILY, folder, (*preset, *words, *sweep.forget), (), sweep.track)


def variants(sweep: Sweep) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, its own overrides) of every method of the sweep. ValueError for an unknown name."""
    from unlearn.registry import class_of

    for key in ("settings", "grid_more"):
        for name in getattr(sweep, key):
            class_of(name, f"method in {key}")
    settings = {name.lower(): as_overrides(overrides) for name, overrides in sweep.settings.items()}
    for name in _names(sweep):
        yield name, (*(("LoRA.r=0",) if edits(name) else ()), *settings.get(name.lower(), ()))


def edits(method: str) -> bool:
    """Whether it changes the model's own weights without training: no adapter, no rate. ValueError for an unknown
    name."""
    from unlearn.method import defines
    from unlearn.registry import build_method

    return defines(build_method(method), "edit")


def _names(sweep: Sweep) -> list[str]:
    if sweep.methods == "all":
        from unlearn.registry import method_names

        return [name for name in method_names() if name != "grad_diff"]  # short for one of the six that are there
    return [sweep.methods] if isinstance(sweep.methods, str) else list(sweep.methods)


def _common(sweep: Sweep, folder: Path) -> tuple[str, ...]:
    preset = (f"+experiment={sweep.experiment}",) if sweep.experiment else ()
    return (*preset, f"model_family={sweep.model_family}", f"save_dir='{folder}'")


def _evaluation(sweep: Sweep, folder: Path, label: str, split: str) -> tuple[str, ...]:
    preset = (f"+experiment={sweep.experiment}",) if sweep.experiment else ()
    return (
        *preset,
        f"model_family={sweep.model_family}",
        f"model_path='{folder}'",
        f"save_dir='{results_of(folder, split, sweep.track)}'",
        *find(sweep.track).eval_overrides(split),
        "overwrite=false",
        f"method_name='{label}'",
        *sweep.eval,
    )
