"""Writes that are either whole or absent (a temporary file beside the target, then one rename), and JSON read back."""

import hashlib
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INCOMPLETE = ".incomplete"
REMEDY = "make room or choose a folder that can be written, and run the same command again: what is finished is kept"


def finite(value: Any) -> Any:
    """`value` with every NaN or infinity replaced by None, so that the JSON is valid for every reader."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path`, with the mode that the user's umask gives; when the block ends it takes the place
    of `path` by one rename. A killed process leaves the old file or the new one. Of a link, the target is replaced.

    The folder is created. Its name begins with `.incomplete-`, and ends like that of `path`.
    """
    target = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{INCOMPLETE}-{os.getpid()}-{threading.get_ident()}-{target.name}")
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~umask())  # some libraries write files that only their owner may read
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def umask() -> int:
    """The permissions that new files of this process go without."""
    try:  # reading it by setting it would be seen by other threads
        return int(re.search(r"^Umask:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)[1], 8)  # type: ignore[index]
    except (OSError, TypeError):
        os.umask(mask := os.umask(0o077))
        return mask


def write_text(path: str | Path, text: str) -> None:
    """Replaces `path` by `text` in one step; creates the folder.

    Raises:
        OSError: it cannot be written (a full disk, a folder without permission), naming the file.
    """
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise type(error)(error.errno, f"{path} could not be written ({error.strerror}); {REMEDY}") from error


def write_json(path: str | Path, value: Any) -> None:
    """`value` as UTF-8 JSON (indent 4) under `path`, atomically; non-finite numbers become null."""
    write_text(path, json.dumps(finite(value), indent=4, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "The file may be cut off or damaged. Write it again.") -> Any:
    """The JSON in a file. ValueError names it if it is missing, no UTF-8, no JSON, nested without end, or says
    something twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
        return found

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file. Run the evaluation that writes it, or correct the path.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}). {remedy}") from None
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON (nested too deeply). {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}). {remedy}") from None


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that becomes `path` by one rename when the block ends, replacing an older one (of a link,
    its target)."""
    path = path.resolve() if path.is_symlink() else path
    staging = path.parent / f"{INCOMPLETE}-{path.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)  # on a full disk its space is wanted
        raise
    replace_folder(staging, path)


def open_up(folder: Path) -> None:
    """Gives every file under `folder` the mode that the umask gives."""
    mode = 0o666 & ~umask()
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)


def replace_folder(staging: Path, path: Path) -> None:
    """`staging` under the name `path`. The old folder goes first: for a moment there is none, never half of one.

    Its files get the mode that the umask gives: safetensors writes such that only their owner may read."""
    open_up(staging)
    if path.exists():
        old = path.parent / f"{INCOMPLETE}-old-{path.name}"
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        staging.rename(path)
        shutil.rmtree(old)
    else:
        staging.rename(path)


def content_hash(*parts: str | bytes | None) -> str:
    """Identity of a row by what it holds (texts and image bytes), independent of its place in a file."""
    digest = hashlib.sha256()
    for part in parts:
        raw = b"\x00none" if part is None else part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:20]
