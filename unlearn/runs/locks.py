"""One run at a time in a folder: a lock that the kernel drops when its holder ends, however it ends."""

import errno
import fcntl
import json
import logging
import os
import platform
import sys
import weakref
from pathlib import Path

logger = logging.getLogger(__name__)
NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class FolderLock:
    """What `hold` returns: keep it for as long as the folder is written to."""

    def __init__(self, folder: Path, handle: int) -> None:
        self.release = weakref.finalize(self, _release, handle, folder / NAME, os.getpid())


_held: "weakref.WeakValueDictionary[Path, FolderLock]" = weakref.WeakValueDictionary()


def hold(folder: Path) -> FolderLock:
    """Locks `folder`, which is created, until `release()` or until what is returned, or the process, is gone.

    A POSIX lock (fcntl), not flock: data-loading children do not inherit it, and NFS passes it on to its server. A
    killed run leaves the file `.lock` behind, unlocked. Holding a folder twice in one process is holding it once.

    Raises:
        ValueError: another process holds it (named), or the folder cannot be written.
    """
    key = folder.resolve()
    lock = _held.get(key)
    if lock is None or not lock.release.alive:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _held[key] = FolderLock(folder, _open(folder))
        except OSError as error:
            raise ValueError(f"save_dir={folder} cannot be written ({error}).") from None
    return lock


def check_writable(folder: Path) -> None:
    """ValueError if `folder` could not be written or made; makes nothing."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ValueError(f"save_dir={folder} cannot be written ({there} is no folder, or not yours to write to).")


def _open(folder: Path) -> int:
    """A locked file handle. The file may be removed between opening and locking, by a holder that ends: then once
    more."""
    while True:
        handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 1000).decode(errors="replace")
            os.close(handle)
            if error.errno in UNSUPPORTED:
                logger.warning("%s: its file system has no locks, so nothing keeps a second run out of it.", folder)
                return -1
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise ValueError(
                f"save_dir={folder} is in use by another run ({_said(holder)}); wait for it, or choose another "
                f"save_dir."
            ) from None
        if _same_file(handle, folder / NAME):
            os.truncate(handle, 0)
            os.pwrite(handle, json.dumps([platform.node(), os.getpid(), " ".join(sys.argv)[:500]]).encode(), 0)
            return handle
        os.close(handle)


def _said(holder: str) -> str:
    try:
        machine, process, command = json.loads(holder)
    except ValueError:
        return "it does not say which"
    return f"process {process} on {machine}: {command}"


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _release(handle: int, path: Path, owner: int) -> None:
    if handle >= 0 and os.getpid() == owner:  # a fork has a copy of the handle, but not the lock
        path.unlink(missing_ok=True)
        os.close(handle)
