"""SIGTERM and SIGINT (a scheduler's notice, Ctrl-C): finish what must not be lost, then exit with 143 or 130.

    exit_on_signals()             a script's first line: a signal ends it there and then, with cleaning up
    with deferred() as stop:      while training and saving a signal only sets a flag ...
        if stop.asked(): ...      ... that all processes see at the same step

The same signal again, more than GRACE seconds later, ends the process at once. Sooner ones and other ones are taken for
echoes of the first: a terminal signals every process of a job, and a launcher then passes on what it got itself.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

GRACE = 2.0  # seconds
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether this process, or with several processes any of them, has been asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._group: Any = None

    def asked(self) -> bool:
        """The same answer on every process, so all must ask at the same step. No GPU is waited for: the flag travels
        by gloo."""
        import torch
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            if self._group is None:
                self._group = dist.new_group(backend="gloo")
            flag = torch.tensor(self.signal or 0)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
            self.signal = int(flag) or None
        return self.signal is not None

    def exit(self) -> None:
        """SystemExit with the signal's code, if there was one."""
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


class _Handler:
    """What a signal does now. One for the process, as handlers are."""

    def __init__(self) -> None:
        self.first: tuple[int, float] | None = None
        self.stops: list[Stop] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now, name = time.monotonic(), signal.Signals(number).name
        if self.first is not None:
            if number == self.first[0] and now - self.first[1] > GRACE:
                os._exit(128 + number)
            return
        self.first = (number, now)
        if not self.stops:
            raise SystemExit(128 + number)
        self.stops[-1].signal = number
        say = f"{name}: saving after this step, then exit with {128 + number}; once more to stop at once\n"
        os.write(2, say.encode())  # a signal may arrive in the middle of a log line, which print would trip over


_handler = _Handler()


def exit_on_signals() -> None:
    """From here on SIGTERM and SIGINT raise SystemExit(143) and SystemExit(130), for as long as the process lives."""
    for number in SIGNALS:
        signal.signal(number, _handler)
    _end_with_launcher()


@contextlib.contextmanager
def deferred() -> Iterator[Stop]:
    """In this block a signal sets a flag; at its end, or at `stop.exit()`, the program exits with the signal's code.

    Outside of a main thread signals are none of our business: the flag stays down.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    _handler.first = None
    before = {number: signal.signal(number, _handler) for number in SIGNALS}
    _handler.stops.append(stop)
    try:
        yield stop
    finally:
        _handler.stops.pop()
        for number, handler in before.items():
            signal.signal(number, handler)
    stop.exit()


def _end_with_launcher() -> None:
    """`accelerate launch` of one process dies of a signal without telling its child; the kernel then sends it
    SIGTERM (Linux)."""
    try:
        parent = Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    except OSError:
        return  # no Linux
    if b"accelerate" in parent:
        end_with_parent()


def end_with_parent() -> None:
    """From here on this process gets SIGTERM when its parent dies, of whatever (Linux; elsewhere nothing happens)."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
