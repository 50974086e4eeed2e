"""Where jobs run, through submitit: long-lived workers on this machine, or one SLURM job each.

A process takes 6 to 13 s to start and a small job 7 s to run, so local workers take one job after the other. They agree
by locks and records on disk, so that a worker that dies costs its job only, and a second sweep in the folder takes
part. The only pickles are submitit's own call files, written and read by this sweep under `<save_dir>/jobs/submitit`.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from sweeps.settings import SlurmSettings, Sweep
from sweeps.work import Work, attempt, carry_out

logger = logging.getLogger(__name__)
Body = Callable[[Work], dict[str, float]]


@dataclass(frozen=True)
class Worker:
    """Takes the next waiting job until none is left. `device`: the GPU it sees (CUDA_VISIBLE_DEVICES), None for all;
    `threads`: torch's, None leaves them."""

    works: tuple[Work, ...]
    threads: int | None
    device: str | None
    parent: int
    body: Body = carry_out

    def __call__(self) -> None:
        if self.device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.device
        _start_logging()
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        for work in self.works:
            if not _alive(self.parent):
                return  # the sweep was killed: its next start takes over
            try:
                with work.lock().acquire(timeout=0):
                    if work.record().get("status") == "waiting":
                        attempt(work, self.body)
            except Timeout:
                continue  # another worker has it


@dataclass(frozen=True)
class Task:
    """One job on one SLURM allocation. Preempted or out of time, it is requeued as it is: jobs go on from
    checkpoints."""

    body: Body = carry_out

    def __call__(self, work: Work) -> None:
        _start_logging()
        with work.lock():
            if not work.finished():
                attempt(work, self.body)

    def checkpoint(self, work: Work) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, work)


def start(works: Sequence[Work], sweep: Sweep, folder: Path, body: Body = carry_out) -> list[Any]:
    """Starts what carries out the jobs; returns submitit's handles. ValueError where there is no SLURM."""
    import submitit

    folder.mkdir(parents=True, exist_ok=True)
    if sweep.executor == "slurm":
        executor = slurm_executor(sweep.slurm, folder, parallel=sweep.jobs or len(works))
        with executor.batch():
            return [executor.submit(Task(body), work) for work in works]
    if sweep.executor == "debug":
        handle = submitit.DebugExecutor(folder).submit(Worker(tuple(works), None, None, os.getpid(), body))
        handle.result()
        return [handle]
    gpus = visible_gpus()
    count = min(at_a_time(sweep), len(works))
    local = submitit.LocalExecutor(folder)
    handles = []
    for number in range(count):
        device = gpus[number % len(gpus)] if gpus else None
        local.update_parameters(timeout_min=60 * 24 * 365)  # its default ends a worker after two minutes
        with _interruptible():
            handles.append(local.submit(Worker(tuple(works), _threads(count), device, os.getpid(), body)))
    return handles


def at_a_time(sweep: Sweep) -> int:
    """How many jobs run beside one another."""
    if sweep.executor == "debug":
        return 1
    return sweep.jobs or len(visible_gpus()) or len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A shell starts `command &` with SIGINT ignored, which children inherit; submitit ends its workers by SIGINT."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    ):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def slurm_executor(slurm: SlurmSettings, folder: Path, parallel: int) -> Any:
    """submitit's SlurmExecutor with the sweep's settings. ValueError outside a SLURM cluster or for an unknown
    option."""
    import submitit

    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=1000)
    except RuntimeError as error:
        raise ValueError(f"executor=slurm: {error} Use executor=local here.") from None
    words = {"job_name": "sweep", "partition": slurm.partition, "time": slurm.time, "gpus_per_node": slurm.gpus or None,
             "cpus_per_task": slurm.cpus, "mem": slurm.mem, "setup": slurm.setup or None, "array_parallelism": parallel,
             "additional_parameters": {"requeue": True}}  # fmt: skip
    extra = dict(slurm.options)
    words["additional_parameters"] |= extra.pop("additional_parameters", {})
    try:
        executor.update_parameters(**{key: value for key, value in (words | extra).items() if value is not None})
    except ValueError as error:
        raise ValueError(f"slurm.options: {error}") from None
    return executor


def visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them."""
    import torch

    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return (chosen or [str(number) for number in range(torch.cuda.device_count())])[: torch.cuda.device_count()]


def _threads(workers: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _start_logging() -> None:
    """What a job logs goes to its worker's files; a process that has logging set up keeps it."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns on every machine without a GPU
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(name)s: %(message)s")
