"""Which of the processes of a launch this one is, and what they tell one another."""

import os
from typing import Any

import torch


def process_state() -> Any:
    """accelerate's view of the processes; RuntimeError where a launcher started several that do not see one another."""
    from accelerate import PartialState

    state = PartialState(cpu=torch.accelerator.current_accelerator() is None)  # ignored if one exists already
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != state.num_processes:
        raise RuntimeError(
            f"The launcher started {started} processes, but {state.num_processes} take part: all would write the "
            "same files. On CPUs use `accelerate launch --config_file config/accelerate/cpu.yaml`."
        )
    return state


def from_main(value: Any) -> Any:
    """`value` of the main process, on every process."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def peak_memory_mb() -> float:
    """MiB: of the GPU during this task, else of the process since it started."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return int(os.environ.get("RANK", 0)) == 0
