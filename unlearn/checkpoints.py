"""Folders that are either whole or absent, and finding the newest one to resume from."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INCOMPLETE = ".incomplete"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that becomes `path` by one rename when the block ends, replacing an older one."""
    staging = path.parent / f"{INCOMPLETE}-{path.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield staging
    replace_folder(staging, path)


def replace_folder(staging: Path, path: Path) -> None:
    """`staging` under the name `path`. The old folder goes first: for a moment there is none, never half of one."""
    if path.exists():
        old = path.parent / f"{INCOMPLETE}-old-{path.name}"
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        staging.rename(path)
        shutil.rmtree(old)
    else:
        staging.rename(path)


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps under `folder`, or None."""
    found = [(int(match[1]), entry) for entry in folder.glob("checkpoint-*") if (match := CHECKPOINT.fullmatch(entry.name))]
    whole = [(step, entry) for step, entry in found if (entry / "trainer_state.json").is_file()]
    return max(whole)[1] if whole else None


def remove_checkpoints(folder: Path) -> None:
    """Checkpoints and half-written folders of a finished run."""
    for entry in [*folder.glob("checkpoint-*"), *folder.glob(f"{INCOMPLETE}*")]:
        shutil.rmtree(entry)
