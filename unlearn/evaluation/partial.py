"""Finished rows of an evaluation that is still running: one JSON line each, so that a kill costs a batch at most."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unlearn.atomic import write_text


class PartialRows:
    """`<folder>/<task>.<process>.jsonl`; the first line says which evaluation (`key`) the rows belong to."""

    def __init__(self, folder: Path, task: str, key: str) -> None:
        self.folder, self.task, self.key = folder, task, key

    def collect(self) -> dict[int, Any]:
        """Rows of an interrupted run by their place in the task, joined into one file; rows of another key are dropped.

        One process calls this, before any of them writes.
        """
        files = sorted(self.folder.glob(f"{self.task}.*.jsonl"))
        rows = {place: row for file in files for place, row in self._read(file)}
        joined = self.folder / f"{self.task}.earlier.jsonl"
        if rows:
            write_text(joined, "".join(_line(entry) for entry in [self.key, *rows.items()]))
        for file in files:
            if file != joined or not rows:
                file.unlink()
        return rows

    @contextmanager
    def writer(self, process: int) -> Iterator[Callable[[Mapping[int, Any]], None]]:
        """A function that appends a batch `{place: row}` and has it on the disk when it returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.task}.{process}.jsonl").open("w", encoding="utf-8") as file:
            file.write(_line(self.key))

            def write(batch: Mapping[int, Any]) -> None:
                file.write("".join(_line(entry) for entry in batch.items()))
                file.flush()
                os.fsync(file.fileno())

            yield write

    def _read(self, file: Path) -> Iterator[tuple[int, Any]]:
        """The whole lines of a file of this key; what follows a line that was cut off is ignored."""
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                if not line.endswith("\n"):
                    return
                entry = json.loads(line)
                if number > 0:
                    yield entry[0], entry[1]
                elif entry != self.key:
                    return


def _line(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
