"""Folders that are either whole or absent, finding the newest one to resume from, and reading its weights."""

import json
import logging
import re
import shutil
from pathlib import Path

from unlearn.atomic import INCOMPLETE, write_json

logger = logging.getLogger(__name__)
SEAL = "files.json"  # what a checkpoint consists of: copied in part, it is told from a whole one
BEST = "best"  # best-<step>: the best weights so far (watch.py)
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of what training wrote, whole or damaged, fewest steps first; not what only is called so."""
    found = [(CHECKPOINT.fullmatch(entry.name), entry) for entry in folder.glob("checkpoint-*")]
    return sorted(
        (int(match[1]), entry)
        for match, entry in found
        if match and ((entry / SEAL).is_file() or (entry / "trainer_state.json").is_file())
    )


def _whole_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints under `folder`, fewest steps first."""
    return [entry for _, entry in _checkpoints(folder) if (entry / "trainer_state.json").is_file()]


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps under `folder`, or None."""
    return next(reversed(_whole_checkpoints(folder)), None)


def seal(checkpoint: Path, processes: int) -> None:
    """Notes every file with its size, and how many processes trained; by it `fault` knows a whole checkpoint."""
    files = {
        str(file.relative_to(checkpoint)): file.stat().st_size
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file()
    }
    write_json(checkpoint / SEAL, {"processes": processes, "files": files})


def fault(checkpoint: Path, processes: int = 1) -> str | None:
    """Why a run of `processes` cannot go on from `checkpoint` ("is damaged: ..."), or None. Weights are not read."""
    state = checkpoint / "trainer_state.json"
    if not state.is_file():
        return "is not a checkpoint folder (it has no trainer_state.json)"
    read = {}
    for file in (state, checkpoint / SEAL):
        if not file.is_file():
            return f"is damaged: {file.name} is missing"
        try:
            read[file.name] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"is damaged: {file.name} is no JSON ({error})"
    for name, size in read[SEAL]["files"].items():
        found = (checkpoint / name).stat().st_size if (checkpoint / name).is_file() else None
        if found != size:
            return f"is damaged: {name} " + ("is missing" if found is None else f"has {found} of {size} bytes")
    made_by = read[SEAL]["processes"]
    if made_by != processes:
        return f"was made by {made_by} processes, this run has {processes}: each step would see other items"
    return None


def newest_usable(folder: Path, processes: int = 1) -> Path | None:
    """The newest checkpoint under `folder` without a fault; None where there is no checkpoint at all.

    Raises:
        ValueError: all that are there have a fault.
    """
    faults: list[str] = []
    for checkpoint in reversed(_whole_checkpoints(folder)):
        wrong = fault(checkpoint, processes)
        if wrong is None:
            for words in faults:
                logger.warning("%s; going on from %s", words, checkpoint.name)
            return checkpoint
        faults.append(f"{checkpoint} {wrong}")
    if faults:
        raise ValueError(f"{'; '.join(faults)}. Remove it, or start afresh with resume_from_checkpoint=false.")
    return None


def keep_newest(folder: Path, count: int | None) -> None:
    """Removes all but the `count` newest checkpoints; None keeps them all."""
    for old in _whole_checkpoints(folder)[: -count if count else 0]:
        shutil.rmtree(old)


def drop_later(folder: Path, start: Path | None) -> None:
    """Removes checkpoints of more steps than `start` (None: all): damaged ones, or those of a run that begins anew.
    They would be taken for the newest, and those of this run for the old ones."""
    kept = int(start.name.removeprefix("checkpoint-")) if start and CHECKPOINT.fullmatch(start.name) else 0
    for step, entry in _checkpoints(folder):
        if step > kept:
            shutil.rmtree(entry)


def best_folders(folder: Path) -> list[Path]:
    """The `best-<step>` folders of a run; a model or anything else that somebody called best-... is not among them."""
    return [
        entry
        for entry in folder.glob(f"{BEST}-*")
        if entry.name.removeprefix(f"{BEST}-").isdecimal() and entry.is_dir() and not (entry / "run.json").exists()
    ]


def remove_checkpoints(folder: Path) -> None:
    """Checkpoints and half-written folders of a finished run; whatever else lies there, by whatever name, stays."""
    for entry in [*(entry for _, entry in _checkpoints(folder)), *best_folders(folder), *folder.glob(f"{INCOMPLETE}*")]:
        entry.unlink() if entry.is_file() or entry.is_symlink() else shutil.rmtree(entry)


def not_written(folder: Path, step: int, error: Exception) -> str:
    """What to say when a checkpoint could not be written: what is left, and what to do."""
    last = newest_checkpoint(folder)
    kept = f"training will go on from {last.name}" if last else "training will begin anew"
    return (
        f"checkpoint-{step} could not be written to {folder}: {str(error).strip()}. Is the disk full? Make room "
        f"and run the same command again: {kept}."
    )
