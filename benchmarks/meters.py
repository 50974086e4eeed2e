"""Seconds and memory of this process: of the GPU where there is one, else processor time and resident memory."""

import ctypes
import time
from pathlib import Path

import torch


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
