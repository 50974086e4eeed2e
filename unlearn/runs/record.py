"""A run's identity on disk: which settings made this folder, whether it is finished, and whether it may be written
to."""

import dataclasses
import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn import ROOT
from unlearn.atomic import write_json
from unlearn.contents import Digests
from unlearn.models.start import ADAPTER_CONFIG, ADAPTER_WEIGHTS, WEIGHTS, Start
from unlearn.results import read_record
from unlearn.runs.checkpoints import remove_checkpoints
from unlearn.runs.cleaning import remove_results
from unlearn.runs.identity import difference, settings_hash, start_hash, step_batch
from unlearn.runs.locks import FolderLock, check_writable, hold
from unlearn.runs.made_from import Changed, MadeFrom, changed, same_pictures

logger = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets")
WEIGHTED = (*WEIGHTS[:2], ADAPTER_WEIGHTS)
MODEL_FILES = (
    *WEIGHTS,
    ADAPTER_WEIGHTS,
    ADAPTER_CONFIG,
    "config.json",
    "train_log.jsonl",
    "watch.jsonl",
    "watch.png",
    "answers_*.jsonl",
)


@dataclass
class Run:
    """A folder with its `run.json`. Only the main process writes, and no other run may meanwhile.

    `fresh` until `begin`: the record is that of a run to come; `replaces`: of what was there before, if anything was.
    """

    folder: Path
    record: dict[str, Any]
    main: bool = False
    lock: FolderLock | None = None
    fresh: bool = False
    replaces: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        return self.record["status"] == "finished"

    def same_data(self, stamps: Mapping[str, str | None]) -> bool:
        """Whether the data, and pictures elsewhere that they name, have the sizes and times that they had when their
        content was looked at."""
        seen = self.record.get("seen") or {}
        same = seen.get("data") == dict(stamps) and None not in stamps.values()
        return same and same_pictures(seen.get("pictures", {}))

    def confirm(self, made_from: MadeFrom, seen: Mapping[str, Any], *, main: bool) -> None:
        """Takes note of what the run is made from. Of a run that is there already it must be the same.

        A run of before such notes is taken at its word, once: what it is made from now is noted.

        Raises:
            Changed (a ValueError): other data, another start model, processor or word list than it was made from.
        """
        if not self.fresh:
            self._compare(made_from)
        folders = {*seen.get("folders", ()), *(self.record.get("seen") or {}).get("folders", ())}
        noted = {"made_from": made_from, "seen": {**seen, "folders": sorted(folders)}}
        news = any(self.record.get(key) != value for key, value in noted.items())
        self.record.update(noted)
        if self.finished and main and news:
            write_json(self.folder / "run.json", self.record)

    def _compare(self, made_from: MadeFrom) -> None:
        before = self.record.get("made_from")
        if before is None:
            logger.warning(
                "%s was made before runs noted the content of their data and start model; they are taken to be what "
                "they were, and noted now.", self.folder,
            )  # fmt: skip
        elif other := changed(before, made_from):
            raise Changed(
                f"{self.folder} holds {'a finished' if self.finished else 'an unfinished'} run of the same settings "
                f"that was made from something else: {', '.join(other)} changed since. Set overwrite_dir=true to "
                "replace it, or choose another save_dir."
            )
        logger.info("%s: %s", self.folder, "done (same settings)" if self.finished else "resuming")

    def begin(self, *, main: bool) -> "Run":
        """Locks the folder and, for a new run, removes what it replaces and writes the record; on the main process."""
        self.main = main
        if not main:
            return self
        self.lock = hold(self.folder)
        if self.fresh:
            if read_record(self.folder) != self.replaces:
                raise ValueError(f"Another run has begun in {self.folder} meanwhile; choose another save_dir.")
            if self.replaces is not None:
                _remove_old(self.folder)
            self._write()
            self.fresh = False
        return self

    def note(self, **facts: Any) -> None:
        """Adds facts to the record (a stopping rule that fired, the loss curve's last point, ...)."""
        self.record.update(facts)
        self._write()

    def finish(self) -> None:
        """Marks the run finished, with the digests of the weights it made, and removes what only an unfinished run
        needs."""
        self.record["status"] = "finished"
        if self.main:
            digests = Digests()
            digests.of(file for name in (*WEIGHTS, ADAPTER_WEIGHTS, "config.json") for file in self.folder.glob(name))
            self.record["files"] = {Path(file).name: entry for file, entry in digests.seen.items()}
        self._write()
        if self.main and not self.record["settings"].get("save_ckpts"):
            remove_checkpoints(self.folder)
        if self.lock is not None:
            self.lock.release()

    def _write(self) -> None:
        if self.main:
            write_json(self.folder / "run.json", self.record)


def find_run(settings: Any, *, kind: str, overwrite: bool) -> Run:
    """The run of `settings.save_dir`, by the settings alone: a new one, one to be resumed, or a finished one. Writes
    nothing; `Run.confirm` compares what it is made from, `Run.begin` opens it.

    Raises:
        ValueError: no save_dir, or one that holds another run, or a model of elsewhere, and may not be overwritten.
    """
    if not settings.save_dir:
        raise ValueError("save_dir is empty; say where the run's files should go.")
    folder = Path(settings.save_dir)
    start = getattr(settings, "model_path", None)
    if start and folder.resolve() in (Path(start).resolve(), (ROOT / start).resolve()):
        raise ValueError(
            f"save_dir={folder} is the folder of the model that training starts from; choose another save_dir."
        )
    check_writable(folder)
    digest = settings_hash(settings)
    known = read_record(folder)
    if known and known.get("settings_hash") == digest and known.get("kind") == kind and not overwrite:
        return Run(folder, known)
    if known and not overwrite:
        raise ValueError(
            f"{folder} holds another run ({difference(known, kind, settings)}); choose "
            "another save_dir, or set overwrite_dir=true to replace it."
        )
    if known is None and (model := next((file for name in WEIGHTED for file in folder.glob(name)), None)):
        raise ValueError(
            f"{folder} holds a model that no run of this project made ({model.name}); choose another save_dir."
        )
    record = {
        "kind": kind,
        "status": "running",
        "settings_hash": digest,
        "variant": settings_hash(settings, frozenset({"seed", "model_path"})),
        "start": start_hash(settings),
        "settings": dataclasses.asdict(settings),
        "batch": step_batch(settings),
        "seed": settings.seed,
        "commit": git_commit(),
        "versions": versions(),
        "command": " ".join(sys.argv),
    }
    return Run(folder, record, fresh=True, replaces=known)


def start_run(settings: Any, *, kind: str, overwrite: bool, main: bool) -> Run:
    """`find_run`, and `begin` unless it is finished, for runs that note nothing but their settings.

    Raises:
        ValueError: as find_run; or a folder that cannot be written, or that another process is writing to.
    """
    run = find_run(settings, kind=kind, overwrite=overwrite)
    if not run.fresh:
        logger.info("%s: %s", run.folder, "done (same settings)" if run.finished else "resuming")
    return run if run.finished else run.begin(main=main)


def check_start(start: Start, digests: Digests) -> None:
    """ValueError if the model under an adapter is not the one that it was trained on: made anew since, or with other
    weights than its run noted."""
    for place, (adapter, base) in enumerate(zip(start.chain, start.chain[1:], strict=False)):
        wanted, found = (read_record(Path(folder)) or {} for folder in (adapter, base))
        if wanted.get("start") and found.get("settings_hash") and wanted["start"] != found["settings_hash"]:
            raise ValueError(
                f"{adapter} is an adapter of {base} as run {wanted['start']} had made it, but run "
                f"{found['settings_hash']} has replaced that model: make the old one again, or train the adapter "
                "again (overwrite_dir=true)."
            )
        noted = (wanted.get("made_from") or {}).get("start", {}).get("weights")
        below = dataclasses.replace(start, chain=start.chain[place + 1 :])
        if noted is not None and noted != below.weights(digests):
            raise ValueError(
                f"{adapter} is an adapter of {base}, but the weights there are not those that it was trained on: put "
                "them back, or train the adapter again (overwrite_dir=true)."
            )


def known_digests(chain: Sequence[str], run: Run | None = None) -> Digests:
    """Digests of files that know what `run` has read before, and what the runs that made the models of `chain` noted of
    their weights: those are read again only where size or times differ."""
    known: dict[str, Any] = {}
    for folder in map(Path, chain):
        record = read_record(folder) or {} if folder.is_dir() else {}
        known |= {str((folder / name).resolve()): entry for name, entry in record.get("files", {}).items()}
        known |= (record.get("seen") or {}).get("files", {})
    return Digests(known | ((run.record.get("seen") or {}).get("files", {}) if run else {}))


def _remove_old(folder: Path) -> None:
    """Of an old run its models, logs and results go, whatever else lies there stays."""
    remove_checkpoints(folder)
    remove_results(folder / "eval_results")  # they belong to the model that is replaced
    for pattern in MODEL_FILES:  # an adapter left behind would be taken for part of a new full model
        for file in folder.glob(pattern):
            file.unlink()


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
