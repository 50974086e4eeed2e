"""A flag that travels from the device to the host while both go on working."""

from typing import Any

import torch
from torch import Tensor


class Arrival:
    """A boolean of the device, on its way. `bool(arrival)` waits for the flag, not for what was queued after it.

    On a CPU the flag is there already.

    Args:
        flag: [] bool. On a GPU it is copied to pinned memory and `event` recorded behind the copy.
        event: a `torch.cuda.Event`, or what behaves like one (tests); None makes one for a GPU's flag.
    """

    def __init__(self, flag: Tensor, event: Any = None) -> None:
        self.event = torch.cuda.Event() if event is None and flag.is_cuda else event
        self.flag = flag
        if self.event is not None:
            self.flag = torch.empty((), dtype=torch.bool, pin_memory=flag.is_cuda)
            self.flag.copy_(flag, non_blocking=True)
            self.event.record()

    def __bool__(self) -> bool:
        if self.event is not None:
            self.event.synchronize()
        return bool(self.flag)
