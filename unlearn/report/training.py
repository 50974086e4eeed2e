"""What training left in a model's folder: run.json and train_log.jsonl, for the curves and the cost."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.report.board import Board, Run
from unlearn.results import read_record

logger = logging.getLogger(__name__)
LOG = "train_log.jsonl"


@dataclass(frozen=True)
class Training:
    """The lines of a training log and the run's record ({} where there is none)."""

    lines: list[dict[str, Any]]
    record: dict[str, Any]


def load_trainings(board: Board, root: Path) -> tuple[dict[str, Training], list[str]]:
    """Training by run label, and a sentence about each run whose files are there but of no use."""
    found: dict[str, Training] = {}
    notes = []
    for run in board.readable:
        try:
            if training := _read(run, root):
                found[run.label] = training
        except (ValueError, OSError) as error:
            logger.warning("%s has no training curves in the report: %s", run.label, error)
            notes.append(f"{run.label}: {error}")
    return found, notes


def _read(run: Run, root: Path) -> Training | None:
    """The log in the eval log's folder, in the one above it, or in eval_meta.json's `model_path`; None if there is
    none.

    ValueError if it is damaged, or if run.json has other settings than the row: then the model was trained again since.
    """
    assert run.measured is not None
    above, named = run.measured.path.parent, run.measured.run.get("model_path")
    places = [above, above.parent, *([root / str(named)] if named else [])]
    folder = next((place for place in places if (place / LOG).is_file()), None)
    if folder is None:
        return None
    record = read_record(folder) or {}
    wanted, found = run.row.get("settings_hash"), record.get("settings_hash")
    if wanted and found and wanted != found:
        raise ValueError(f"{folder / 'run.json'} has other settings than the row: the model was trained again since.")
    return Training(read_lines(folder / LOG), record)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON objects of a training log. ValueError names the line that is none."""
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(_text_lines(file), start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number}: not valid JSON ({error}); the file may be cut off.") from None
        if not isinstance(entry, dict):
            raise ValueError(f"{file}, line {number}: expected a JSON object, found {line[:40]!r}.")
        lines.append(entry)
    return lines


def _text_lines(file: Path) -> Iterable[str]:
    return (line for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
