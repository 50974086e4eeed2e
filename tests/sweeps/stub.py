"""Jobs whose body is a stand-in that leaves what a real one leaves: a run.json and an aggregated log."""

import dataclasses
from pathlib import Path

from sweeps.jobs import Job
from sweeps.work import Work
from unlearn.atomic import write_json
from unlearn.config.settings import EvalSettings, FinetuneSettings
from unlearn.runs.record import start_run


def work(root: Path, name: str, *, lr: float = 1e-3, ds_size: int | None = None, overwrite: bool = False) -> Work:
    folder = root / name
    training = FinetuneSettings(save_dir=str(folder), lr=lr)
    evaluation = EvalSettings(
        model_path=str(folder), save_dir=str(folder / "eval_results"), ds_size=ds_size, overwrite=False
    )
    return Work(Job("finetune", name, folder, ()), training, (evaluation,), root / "jobs", overwrite)


def leave_results(one: Work) -> None:
    """As the pipeline does: another run in the folder is refused, unless it is to be replaced."""
    run = start_run(one.training, kind="finetune", overwrite=one.training.overwrite_dir, main=True)
    run.record["seen"] = {"data": {}, "files": {}}
    run.finish()
    write_json(Path(one.evaluations[0].save_dir) / "eval_log_aggregated.json", {})


def redone(one: Work) -> Work:
    return dataclasses.replace(one, training=dataclasses.replace(one.training, overwrite_dir=True))
