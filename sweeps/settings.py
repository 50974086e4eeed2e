"""What a sweep may be told: config/run_exps.yaml, key by key, and what of it cannot go together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.tracks import find, is_study, presets
from unlearn.config.build import at_least, choice


def _absolute(plugin: str) -> str:
    """A path from anywhere; the name of a module as it is."""
    path = Path(plugin).expanduser()
    return str(path.resolve()) if path.exists() else plugin


TABLES = ("1", "3", "4", "5", "6", "fig5")


@dataclass(frozen=True)
class SlurmSettings:
    """What a job asks of SLURM. `time` in minutes: a job that needs longer is requeued and goes on from its
    checkpoint."""

    partition: str | None = None
    time: int = at_least(240, 1)
    gpus: int = at_least(1, 0)  # one, or none on a partition without
    cpus: int = at_least(8, 1)
    mem: str = "64GB"
    setup: list[str] = field(default_factory=list)  # shell lines before the job: module load cuda
    options: dict[str, Any] = field(
        default_factory=dict
    )  # any other key of submitit's SlurmExecutor: account, qos, ...


@dataclass(frozen=True)
class Sweep:
    """config/run_exps.yaml. Axes: methods, modalities, splits, options, seeds.

    What is empty of model_family, modalities and splits becomes the track's own; save_dir follows the family.
    """

    embedded_family: str = ""
    model_family: str = ""
    plugins: list[str] = field(default_factory=list)  # handed on to every job
    track: str = "mm"
    experiment: str | None = None
    save_dir: str = ""
    methods: list[str] | str = "all"
    modalities: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    options: list[Any] = field(default_factory=lambda: [[]])
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    finetune_seed: int = 42
    executor: str = choice("local", "slurm", "debug")
    jobs: int | None = at_least(None, 1)
    slurm: SlurmSettings = field(default_factory=SlurmSettings)
    overwrite: bool = False
    finetune: list[str] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)
    eval: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    tune: bool = False
    tune_seed: int = 0
    tuning_split: str = ""
    trials: int = at_least(9, 1)
    job_seconds: float = at_least(20, 0)
    grid: list[Any] = field(default_factory=list)
    grid_more: dict[str, Any] = field(default_factory=dict)
    keep_retain: float = 0.95
    table: str | None = choice(None, *TABLES)
    transfer: dict[str, Any] = field(default_factory=dict)
    fractions: list[float] = field(default_factory=lambda: [tenth / 10 for tenth in range(1, 11)])

    def __post_init__(self) -> None:
        track = find(self.track)
        family = self.model_family or track.FAMILY
        own = {"model_family": family, "save_dir": f"runs/{family}", "modalities": [track.MODALITIES[0]],
               "splits": [track.SPLIT]}  # fmt: skip
        if self.plugins:
            handed = f"plugins=[{','.join(map(_absolute, self.plugins))}]"
            own |= {name: [handed, *getattr(self, name)] for name in ("finetune", "forget", "eval")}
            for name in ("finetune", "forget", "eval"):
                object.__setattr__(self, name, own.pop(name))
        for name, value in own.items():
            object.__setattr__(self, name, getattr(self, name) or value)  # frozen: this is its construction

    @property
    def tuning(self) -> str:
        """The forget split that settings are chosen on."""
        return self.tuning_split or str(find(self.track).tuning_split(self.splits[0]))

    @property
    def option_lists(self) -> list[tuple[str, ...]]:
        """The axis `options`, each entry as a tuple of overrides."""
        return [as_overrides(entry) for entry in self.options]

    def check(self) -> None:
        """ValueError for what cannot go together, before anything runs."""
        for name in ("options", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: a sweep needs at least one entry in each axis.")
        if unknown := [name for name in self.modalities if name not in find(self.track).MODALITIES]:
            known = ", ".join(find(self.track).MODALITIES)
            raise ValueError(f"modalities has {unknown[0]!r}; of the {self.track} track it may name {known}.")
        if self.slurm.gpus > 1:
            raise ValueError(
                f"slurm.gpus={self.slurm.gpus}: a job is one process on one GPU; raise jobs to use more of them."
            )
        if self.experiment is not None and self.experiment not in (offered := presets(self.track)):
            raise ValueError(
                f"experiment={self.experiment} is not one of the {self.track} track's ({', '.join(offered)})."
            )
        if self.table is not None:
            from sweeps.paper import table_track

            if self.track != (wanted := table_track(self.table)) and self.table != "fig5":
                raise ValueError(
                    f"table={self.table} is of the {wanted} track, not of {self.track}; leave one of the two out."
                )
        study = is_study(self.track)
        if self.table == "fig5" and (study or len(self.fractions) < 2 or max(self.fractions) != 1):
            raise ValueError(
                "table=fig5 needs a track with eval logs (mm, nlp) and at least two fractions, the largest of them 1."
            )
        if study and (self.tune or self.settings or self.finetune or self.eval):
            raise ValueError(
                f"The {self.track} track is one study and takes overrides of its run.py under forget; finetune, eval, "
                "settings and tune are of the other tracks."
            )
        if self.tune:
            self._check_tuning()

    def _check_tuning(self) -> None:
        """ValueError where settings would be chosen on what is reported, or on people who are not there."""
        if lacking := [name for name in ("tuning_split", "TUNING_TASKS") if not hasattr(find(self.track), name)]:
            raise ValueError(
                f"tune=true: the track {self.track} has no {lacking[0]}; sweeps/tracks.py says what it is."
            )
        if len(self.modalities) * len(self.splits) * len(self.options) > 1:
            raise ValueError(
                "tune=true chooses a setting for one modality and one split; give modalities, splits and options "
                "one entry each."
            )
        if self.tune_seed in self.seeds:
            raise ValueError(f"tune_seed={self.tune_seed} is one of seeds: settings are chosen on a seed not reported.")
        if not self.tuning_split and self.experiment is not None:
            raise ValueError(
                f"tune=true +experiment={self.experiment} needs a forget split of people who are not reported, which "
                f"its data on the hub lacks. Give a folder that has it (docs/results.md says which configs) and its "
                f"name: tuning_split={find(self.track).tuning_split(self.splits[0])}."
            )
        if self.tuning in self.splits:
            raise ValueError(f"tuning_split={self.tuning} is reported (splits); choose on other people.")


def as_overrides(entry: Any) -> tuple[str, ...]:
    """One entry of `options`, `grid` or `settings.<method>` as overrides: a word, a list of words, or null for none."""
    if entry is None:
        return ()
    if isinstance(entry, str):
        return (entry,)
    if isinstance(entry, Sequence) and all(isinstance(word, str) for word in entry):
        return tuple(entry)
    raise ValueError(f"{entry!r} is not a list of overrides such as [lr=1e-3, num_epochs=3].")
