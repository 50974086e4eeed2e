"""What files and folders hold, as digests. Sizes and times are looked at first; a file is read only where they differ.

What is known of a file is `[size, mtime_ns, ctime_ns, sha256]`. The time of change (ctime) cannot be set by a program,
so a file that was swapped and given its old date back is read again.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unlearn.atomic import content_hash

Known = Mapping[str, Sequence[Any]]
THREADS = 4  # hashlib lets go of the interpreter: the shards of a model are read side by side


class Digests:
    """sha256 of files, from what is `known` where size and times are the same. `seen`: to be kept for the next time."""

    def __init__(self, known: Known | None = None) -> None:
        self.known, self.seen = dict(known or {}), dict[str, list[Any]]()

    def of(self, files: Iterable[Path]) -> str:
        """One digest over the files' names and contents, whatever folder they lie in."""
        files = sorted(files)
        with ThreadPoolExecutor(THREADS) as pool:
            digests = list(pool.map(self._file, files))
        return content_hash(
            *(part for file, digest in zip(files, digests, strict=True) for part in (file.name, digest))
        )

    def _file(self, file: Path) -> str:
        key, facts = str(file.resolve()), stamp(file)
        entry = self.seen.get(key) or self.known.get(key)
        if entry is None or list(entry[:3]) != facts:
            with file.open("rb") as opened:
                entry = [*facts, hashlib.file_digest(opened, "sha256").hexdigest()]
        self.seen[key] = list(entry)
        return str(entry[3])


def stamp(file: Path) -> list[int]:
    """Size in bytes, and the times of the content and of the file's last change, in nanoseconds."""
    facts = file.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def folder_stamp(folder: str | Path, deep: bool = True) -> str:
    """A digest over the names, sizes and times of all files under a folder, or directly in it (`deep` false); none of
    them is opened."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        found += [
            f"{Path(place, name)} {stamp(Path(place, name))}" for name in sorted(names) if not name.startswith(".")
        ]
    return content_hash(*found)
