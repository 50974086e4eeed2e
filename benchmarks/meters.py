"""Seconds and memory of this process: of the GPU where there is one, else processor time and resident memory."""

import contextlib
import ctypes
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def clock() -> float:
    """Seconds: of the wall when a GPU has finished, else of this process on the processor."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def exact_memory() -> None:
    """From now on every larger allocation of this process is its own mapping, given back when it is freed. By default
    glibc keeps freed blocks of up to 32 MiB on its heap, and resident memory then shows fragments rather than
    tensors."""
    mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h
    assert ctypes.CDLL("libc.so.6").mallopt(mmap_threshold, 2**16) == 1


def reset_peak() -> float:
    """Forgets the peak so far and returns what is held now, in MiB."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier work freed goes back to the system first
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else status("VmHWM")


def status(field: str) -> float:
    """A line of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


# ---- one piece of work after another --------------------------------------------------------------------------------


def needs_gpu(tiny: bool) -> None:
    """Ends the program where there is no GPU, unless a tiny run was asked for."""
    if not tiny and not torch.cuda.is_available():
        raise SystemExit(f"{Path(sys.argv[0]).name}: no GPU here; --tiny runs the same code on a CPU in small")


def or_none(work: Callable[[], T]) -> T | None:
    """What `work` returns, None if it does not fit into the GPU. All that it held is free afterwards."""
    result = None
    with contextlib.suppress(torch.OutOfMemoryError):
        result = work()
    free()  # the error's traceback, which holds the tensors, is gone
    return result


def free() -> None:
    """Gives memory back: a dead model may be part of a cycle (a teacher and its cache), which only `gc` finds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def alone(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function(*inputs)` in a forked process on a CPU, whose memory starts clean; here on a GPU, whose counter is
    exact. None if it does not fit."""
    if torch.cuda.is_available():
        return or_none(lambda: function(*inputs))
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=lambda: send.send(function(*inputs)))
    child.start()
    send.close()
    try:
        return receive.recv()
    finally:
        child.join()


def matrix_rate() -> float:
    """bf16 FLOP/s of this GPU on a product of two 8192 x 8192 matrices."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - began)
