"""One job as it is carried out: planned from its overrides, recorded in `<save_dir>/jobs/<name>.json`, run under a
lock.

A record's status is waiting, running, interrupted, finished or failed. What is finished under the same digest is not
run again; everything else is, and the pipeline itself goes on from its checkpoints.
"""

import contextlib
import dataclasses
import gc
import hashlib
import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sweeps import tracks
from sweeps.jobs import Job
from unlearn.atomic import write_json
from unlearn.results import AGGREGATE, read_meta, read_record
from unlearn.runs.made_from import Changed, untouched
from unlearn.runs.record import settings_hash

logger = logging.getLogger(__name__)
TRACEBACK_LINES = 12
COST = ("train_seconds", "memory_mb")


@dataclass(frozen=True)
class Work:
    """A job with its settings read and checked. `overwrite`: a run of other settings in its folder is redone."""

    job: Job
    training: Any
    evaluations: tuple[Any, ...]
    records: Path
    overwrite: bool = False

    @property
    def record_file(self) -> Path:
        return self.records / f"{self.job.name}.json"

    def digest(self) -> str:
        """Over every setting of the training and of the evaluations, and over the run that made the start model."""
        if self.job.is_study:
            return _hash(self.training[0])
        return _hash([settings_hash(self.training), *map(_identity, self.evaluations)])

    def record(self) -> dict[str, Any]:
        """What is known of the job; empty for one that was never planned. A damaged record counts as none."""
        try:
            return json.loads(self.record_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def note(self, status: str, **facts: Any) -> None:
        """Writes the record. `stale` stays in it until the job is done: its folder holds results of other settings.
        What training cost stays as well: the job may be done again for its evaluations alone."""
        stale = self.stale() and status != "finished"
        facts = {"stale": True, **facts} if stale else facts
        facts = {**self.cost(), **facts}
        write_json(self.record_file, {"job": self.job.name, "status": status, "digest": self.digest(), **facts})

    def cost(self) -> dict[str, float]:
        """What the training that is there has cost, of a record that says so."""
        record = self.record() if self.trained() else {}
        return {key: record[key] for key in COST if record.get(key) is not None}

    def trained(self) -> bool:
        """Whether a finished run of these settings is there."""
        run = None if self.job.is_study else read_record(self.job.folder)
        return run is not None and _is_whole(run) and run.get("settings_hash") == settings_hash(self.training)

    def stale(self) -> bool:
        """Whether the job was finished with other settings (of the evaluation, it may be, where the model is the
        same)."""
        record = self.record()
        return bool(record.get("stale")) or (
            record.get("status") == "finished" and record.get("digest") != self.digest()
        )

    def finished(self) -> bool:
        """Whether the same job was done before, its files are still there, and what it was made from looks the same.

        Where it does not, the pipeline looks closer: it calls it done, or refuses it (`overwrite` redoes it then).
        """
        record = self.record()
        if record.get("status") != "finished" or record.get("digest") != self.digest():
            return False
        if self.job.is_study:
            runs = [read_record(file.parent) or {} for file in Path(self.training[0].root).glob("*/run.json")]
            return Path(self.training[0].leaderboard).is_file() and bool(runs) and all(map(_is_whole, runs))
        return self.trained() and all(map(_is_evaluated, self.evaluations))

    def lock(self) -> FileLock:
        """Who holds it works on the job: a lock of the operating system, which ends with its process."""
        self.records.mkdir(parents=True, exist_ok=True)
        return FileLock(self.records / f".{self.job.name}.lock")

    def busy(self) -> bool:
        try:
            with self.lock().acquire(timeout=0):
                return False
        except Timeout:
            return True


def plan(job: Job, records: Path, overwrite: bool = False) -> Work:
    """Reads and checks the job's settings. ValueError names the job and what is wrong with its overrides."""
    from hydra.errors import HydraException

    try:
        training = tracks.training_settings(job.track, job.script, job.overrides)
        evaluations = tuple(tracks.evaluation_settings(job.track, words) for words in job.evaluations)
    except (ValueError, HydraException) as error:
        raise ValueError(f"{job.name}: {error}") from error
    return Work(job, training, evaluations, records, overwrite)


def carry_out(work: Work) -> dict[str, float]:
    """Trains and evaluates in this process; returns the seconds of each part, and the most MiB that training took."""
    _fresh_memory()
    known = work.cost()  # of a training that is only looked at
    training, job, started = work.training, work.job, time.monotonic()
    other_model = work.overwrite and _other_run(work)
    again = other_model or (work.overwrite and work.stale())
    if other_model:
        logger.info("%s: made with other settings before; it is redone", job.name)
        training = dataclasses.replace(training, overwrite_dir=True)
    redone = _redoing(work, lambda chosen: tracks.train(job.track, job.script, chosen), training, "overwrite_dir")
    cost = {"train_seconds": time.monotonic() - started, "memory_mb": _peak_memory_mb(), **({} if redone else known)}
    work.note("running", **cost)  # an evaluation that fails leaves it
    trained = time.monotonic()
    for evaluation in work.evaluations:
        chosen = dataclasses.replace(evaluation, overwrite=True) if again or redone else evaluation
        _redoing(work, lambda chosen: tracks.evaluate(job.track, chosen), chosen, "overwrite")
    return {**cost, "eval_seconds": time.monotonic() - trained}


def _redoing(work: Work, call: Callable[[Any], Any], settings: Any, overwrite: str) -> bool:
    """Whether the call was made again, to replace results that were made from something else: only if asked to."""
    try:
        call(settings)
        return False
    except Changed as other:
        if not work.overwrite or work.job.is_study:
            raise
        logger.info("%s: %s It is redone", work.job.name, other)
    call(dataclasses.replace(settings, **{overwrite: True}))
    return True


def attempt(work: Work, body: Callable[[Work], dict[str, float]] = carry_out) -> None:
    """Runs the job and records how it ended. Only what stops the whole process (a signal, SystemExit) is raised."""
    started = time.monotonic()
    work.note("running")
    try:
        seconds = body(work)
    except Exception as error:  # whatever a job dies of, the others go on
        lines = "".join(traceback.format_exception(error)).strip().splitlines()
        reason = f"{type(error).__name__}: {error}"
        logger.warning("%s failed: %s", work.job.name, reason)
        work.note("failed", error=reason, traceback=lines[-TRACEBACK_LINES:], seconds=time.monotonic() - started)
    except BaseException:
        work.note("interrupted", seconds=time.monotonic() - started)
        raise
    else:
        work.note("finished", seconds=time.monotonic() - started, **seconds)


def _is_whole(run: Mapping[str, Any]) -> bool:
    return run.get("status") == "finished" and untouched(run)


def _is_evaluated(evaluation: Any) -> bool:
    """Whether the log is there, of a model, data and prompts that look as they do now."""
    folder = Path(evaluation.save_dir)
    if not (folder / AGGREGATE).is_file():
        return False
    try:
        meta = read_meta(folder)
        if meta is None:  # of a track that notes nothing
            return True
        from unlearn.evaluation.finished import looks_the_same, seen
        from unlearn.models.start import Start

        return looks_the_same(meta, seen(evaluation, Start.of(evaluation.model_path)))
    except ValueError:  # a damaged meta file, a model that is gone: the evaluation itself says what is wrong
        return False


def _other_run(work: Work) -> bool:
    """Whether the folder holds a run of other settings."""
    run = None if work.job.is_study else read_record(work.job.folder)
    return run is not None and run.get("settings_hash") != settings_hash(work.training)


def _fresh_memory() -> None:
    """What the job before has left behind must not count as this one's."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # elsewhere than on Linux the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts anew


def _peak_memory_mb() -> float:
    """MiB since `_fresh_memory`: of the GPU, else of the process with its libraries."""
    import torch

    from unlearn.distributed.processes import peak_memory_mb

    status = Path("/proc/self/status")
    if torch.cuda.is_available() or not status.is_file():
        return peak_memory_mb()
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**10


def _identity(evaluation: Any) -> dict[str, Any]:
    ours = {"overwrite", "batch_size", "submitted_by"}  # change no result
    return {key: value for key, value in dataclasses.asdict(evaluation).items() if key not in ours}


def _hash(value: Any) -> str:
    value = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
