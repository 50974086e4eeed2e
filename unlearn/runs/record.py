"""A run's identity on disk: which settings made this folder, whether it is finished, and whether it may be written
to."""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.atomic import write_json
from unlearn.distributed.processes import world_size
from unlearn.models.loading import adapter_base
from unlearn.registry import options_of
from unlearn.results import read_record
from unlearn.runs.checkpoints import remove_checkpoints
from unlearn.runs.locks import FolderLock, hold

logger = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets")
# What does not change the result: two runs that differ only here are the same run.
NOT_IDENTITY = {
    "save_dir",
    "overwrite_dir",
    "overwrite",
    "resume_from_checkpoint",
    "report_to",
    "logging_steps",
    "save_steps",
    "save_ckpts",
    "num_workers",
    "log_grad_norms",
    "eval_while_train",
    "eval_while_train_items",
    "keep_retain",
    "forget_target",
}
CHOOSES = {
    "eval_while_train_items",
    "keep_retain",
    "forget_target",
}  # what counts once keep_best or stop_early looks at it
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "adapter_config.json",
    "config.json",
    "train_log.jsonl",
    "watch.*",
)


@dataclass
class Run:
    """A folder with its `run.json`. Only the main process writes, and no other run may meanwhile."""

    folder: Path
    record: dict[str, Any]
    main: bool
    lock: FolderLock | None = None

    @property
    def finished(self) -> bool:
        return self.record["status"] == "finished"

    def note(self, **facts: Any) -> None:
        """Adds facts to the record (a stopping rule that fired, the loss curve's last point, ...)."""
        self.record.update(facts)
        self._write()

    def finish(self) -> None:
        """Marks the run finished and removes what only an unfinished run needs."""
        self.record["status"] = "finished"
        self._write()
        if self.main and not self.record["settings"].get("save_ckpts"):
            remove_checkpoints(self.folder)
        if self.lock is not None:
            self.lock.release()

    def _write(self) -> None:
        if self.main:
            write_json(self.folder / "run.json", self.record)


def settings_hash(settings: Any, leave_out: frozenset[str] = frozenset()) -> str:
    """Twelve hex digits over every setting that can change a result, and over the run that made the start model.

    Of `method_args` the chosen method's options count; `logging_steps` counts where `stop_when` looks at the log lines.

    `leave_out={"seed", "model_path"}` is the variant that runs of several seeds share.
    """
    values = {key: value for key, value in _identity(settings).items() if key not in leave_out}
    if "model_path" in values:
        values["start"] = _start_hash(settings)
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _identity(settings: Any) -> dict[str, Any]:
    """The settings that can change this run's result."""
    values = dataclasses.asdict(settings)
    kept = {"logging_steps"} if values.get("stop_when") is not None else set()
    if values.get("keep_best") or values.get("stop_early"):
        kept |= CHOOSES
    if "method_args" in values:
        values["method_args"] = options_of(values["forget_loss"], values["method_args"])
    if batch := step_batch(settings):  # however many processes share the step: as one process would accumulate it
        del values["global_batch_size"]
        values["gradient_accumulation_steps"] = batch["global"] // batch["per_device"]
    return {key: value for key, value in values.items() if key not in NOT_IDENTITY - kept}


def step_batch(settings: Any) -> dict[str, int]:
    """Rows of one optimiser step, and how this launch shares them out; empty for runs without such steps (cv).

    Raises:
        ValueError: `global_batch_size` cannot be met by this launch.
    """
    if not hasattr(settings, "accumulation"):
        return {}
    size, accumulation, processes = settings.batch_size, settings.accumulation(world_size()), world_size()
    whole = size * accumulation * processes
    return {"global": whole, "per_device": size, "accumulation": accumulation, "processes": processes}


def _start_hash(settings: Any) -> str | None:
    """The hash of the run that made the model this one starts from; None where no run of this project made it."""
    start = getattr(settings, "model_path", None)
    for folder in (Path(start), ROOT / start) if start else ():
        if (record := read_record(folder)) is not None:
            return record.get("settings_hash")
    return None


def start_run(settings: Any, *, kind: str, overwrite: bool, main: bool) -> Run:
    """Opens `settings.save_dir`: a new run, the same one to be resumed, or one that is already finished.

    Raises:
        ValueError: no save_dir, a folder that cannot be written, one that another process is writing to, or one that
            holds another run and may not be overwritten.
    """
    if not settings.save_dir:
        raise ValueError("save_dir is empty; say where the run's files should go.")
    folder = Path(settings.save_dir)
    start = getattr(settings, "model_path", None)
    if start and folder.resolve() in (Path(start).resolve(), (ROOT / start).resolve()):
        raise ValueError(
            f"save_dir={folder} is the folder of the model that training starts from; choose another save_dir."
        )
    digest = settings_hash(settings)
    known = read_record(folder)
    if known and known.get("settings_hash") == digest and known.get("kind") == kind and not overwrite:
        done = known["status"] == "finished"
        logger.info("%s: %s", folder, "done (same settings)" if done else "resuming")
        return Run(folder, known, main, hold(folder) if main and not done else None)
    if known and not overwrite:
        raise ValueError(
            f"{folder} holds another run ({_difference(known, kind, settings)}); choose "
            "another save_dir, or set overwrite_dir=true to replace it."
        )
    lock = hold(folder) if main else None
    if main and overwrite and known:
        _remove_old(folder)
    record = {
        "kind": kind,
        "status": "running",
        "settings_hash": digest,
        "variant": settings_hash(settings, frozenset({"seed", "model_path"})),
        "start": _start_hash(settings),
        "settings": dataclasses.asdict(settings),
        "batch": step_batch(settings),
        "seed": settings.seed,
        "commit": git_commit(),
        "versions": versions(),
        "command": " ".join(sys.argv),
    }
    run = Run(folder, record, main, lock)
    run._write()
    return run


def check_start(adapter: str) -> None:
    """ValueError if the model under an adapter is not the one it was trained on: made anew since, with other
    settings."""
    base = adapter_base(adapter)
    wanted, found = (read_record(Path(folder)) or {} for folder in (adapter, base))
    if wanted.get("start") and found.get("settings_hash") and wanted["start"] != found["settings_hash"]:
        raise ValueError(
            f"{adapter} is an adapter of {base} as run {wanted['start']} had made it, but run "
            f"{found['settings_hash']} has "
            "replaced that model: make the old one again, or train the adapter again (overwrite_dir=true)."
        )


def _remove_old(folder: Path) -> None:
    """Of an old run its models and logs go, whatever else lies there stays."""
    remove_checkpoints(folder)
    shutil.rmtree(folder / "eval_results", ignore_errors=True)  # they belong to the model that is replaced
    for pattern in MODEL_FILES:  # an adapter left behind would be taken for part of a new full model
        for file in folder.glob(pattern):
            file.unlink()


def _difference(known: dict[str, Any], kind: str, settings: Any) -> str:
    """What a user has to look at: the kind of run, the keys that differ, or the model that both start from."""
    if known.get("kind") != kind:
        return f"a {known.get('kind')} run"
    old, new = known.get("settings", {}), dataclasses.asdict(settings)
    changed = [
        f"{key}: {old.get(key)!r} there, {new[key]!r} here"
        for key in _identity(settings)
        if json.dumps(old.get(key), default=str) != json.dumps(new[key], default=str)
    ]
    there, here = known.get("batch", {}).get("global"), step_batch(settings).get("global")
    if there and there != here:
        changed.insert(0, f"rows of one step: {there} there, {here} here")
    if not changed:
        return f"{settings.model_path} was made anew with other settings"
    return "; ".join(changed[:3]) + ("; ..." if len(changed) > 3 else "")


def git_commit() -> str | None:
    """The project's commit, with `+` when files were changed since; None outside a checkout."""
    try:

        def git(*words: str) -> str:
            done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
            return done.stdout.strip()

        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in PACKAGES}}
