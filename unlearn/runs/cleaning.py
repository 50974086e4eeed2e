"""Removing what an evaluation wrote, by name, and nothing that lies beside it."""

import contextlib
import re
from collections.abc import Collection
from pathlib import Path

from unlearn.results import read_meta
from unlearn.token_log import tokens_path

THUMBNAILS = "thumbnails"


def remove_results(folder: Path) -> None:
    """Removes what an evaluation wrote to `folder`, faces included; whatever else lies there stays."""
    with contextlib.suppress(ValueError):  # a meta file that is damaged names no task, and goes too
        for task in (read_meta(folder) or {"tasks": {}})["tasks"]:
            (folder / f"{task}.json").unlink(missing_ok=True)
            tokens_path(folder, task).unlink(missing_ok=True)
    for file in [*folder.glob("eval_*.json"), *folder.glob("leaderboard_row.json"), *folder.glob(".partial/*.jsonl")]:
        file.unlink()
    remove_thumbnails(folder)
    for place in (folder / ".partial", folder):
        with contextlib.suppress(OSError):  # it holds something else, or is not there
            place.rmdir()


def remove_thumbnails(folder: Path, keep: Collection[str] = ()) -> None:
    """Removes the faces that an evaluation wrote under `folder`, but those of `keep` ("thumbnails/<name>.jpg")."""
    for file in folder.glob(f"{THUMBNAILS}/*.jpg"):
        if re.fullmatch(r"[0-9a-f]{16}\.jpg", file.name) and f"{THUMBNAILS}/{file.name}" not in keep:
            file.unlink()
    with contextlib.suppress(OSError):
        (folder / THUMBNAILS).rmdir()
