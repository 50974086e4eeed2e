"""A flag on its way to the host is read after its event, never before; on a CPU it is read at once."""

import torch

from unlearn.training.arrival import Arrival


class LateEvent:
    """What a stream does: the copy lands when somebody waits for the event, no sooner."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arrival: Arrival | None = None
        self.value = False

    def record(self) -> None:
        self.calls.append("record")

    def synchronize(self) -> None:
        self.calls.append("synchronize")
        assert self.arrival is not None
        self.arrival.flag.fill_(self.value)


def test_without_a_gpu_there_is_nothing_to_wait_for() -> None:
    good, bad = torch.isfinite(torch.tensor(1.0)), torch.isfinite(torch.tensor(float("nan")))
    assert Arrival(good) and not Arrival(bad)
    assert Arrival(good).event is None and Arrival(good).flag.data_ptr() == good.data_ptr()


def test_a_flag_is_copied_and_recorded_at_once_and_read_behind_the_event() -> None:
    event = LateEvent()
    flag = torch.tensor(True)
    event.arrival = Arrival(flag, event)
    assert event.calls == ["record"] and event.arrival.flag.data_ptr() != flag.data_ptr()
    assert not event.arrival  # what landed with the event, not what lay in the buffer before
    assert event.calls == ["record", "synchronize"]
