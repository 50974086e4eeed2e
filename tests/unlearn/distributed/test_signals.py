"""A signal during training: a checkpoint, the code, and the same weights in the end; elsewhere: the code at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import make_trainer, trained_weights
from unlearn.config.settings import ForgetSettings
from unlearn.distributed import signals
from unlearn.distributed.signals import Stop, deferred
from unlearn.registry import build_method
from unlearn.runs.checkpoints import fault, newest_usable
from unlearn.training.build import train

OPTIONS: dict[str, Any] = {"dropout": 0.2, "num_epochs": 3, "lr_scheduler": "linear", "warmup": 2, "save_steps": 0}


def start(folder: Path, **options: Any) -> Any:
    return make_trainer(folder, build_method("npo"), **{**OPTIONS, **options})


def go_on(trainer: Any, folder: Path) -> None:
    with deferred() as stop:
        train(trainer, ForgetSettings(save_dir=str(folder)), stop)


def signal_at(trainer: Any, step: int, number: int) -> None:
    """Sends this process a signal while step `step` is being computed."""
    plain = trainer.compute_loss

    def compute_loss(*inputs: Any, **options: Any) -> Any:
        if trainer.state.global_step == step - 1:
            os.kill(os.getpid(), number)
        return plain(*inputs, **options)

    trainer.compute_loss = compute_loss


@pytest.mark.parametrize(("number", "code", "lora"), [(signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 0)])
def test_a_signal_saves_and_the_next_start_ends_bit_for_bit_alike(
    tmp_path: Path, number: int, code: int, lora: int
) -> None:
    before = signal.getsignal(number)
    whole = start(tmp_path / "whole", lora=lora)
    go_on(whole, tmp_path / "whole")
    broken = start(tmp_path / "broken", lora=lora)
    signal_at(broken, 3, number)
    with pytest.raises(SystemExit) as left:
        go_on(broken, tmp_path / "broken")
    assert left.value.code == code and broken.state.global_step == 3 < whole.state.global_step
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["checkpoint-3"]
    resumed = start(tmp_path / "broken", lora=lora)
    go_on(resumed, tmp_path / "broken")
    assert resumed.state.global_step == whole.state.global_step
    expected = trained_weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained_weights(resumed).items())
    assert signal.getsignal(number) == before


def test_a_signal_after_the_last_step_lets_the_run_end_first() -> None:
    done = []
    with pytest.raises(SystemExit) as left, deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("saved")
    assert left.value.code == 143 and done == ["saved"]


def test_an_error_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ValueError, match="the reason"), deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("the reason")


def test_echoes_of_a_signal_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(signals, "GRACE", 0.05)
    with pytest.raises(SystemExit) as left, deferred() as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):  # a launcher's, within the grace
            os.kill(os.getpid(), number)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)  # the launcher has died of Ctrl-C: not a second wish
        assert not ended and stop.asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [130]
    assert left.value.code == 130


def test_other_threads_have_no_signals() -> None:
    seen: list[Any] = []

    def inside() -> None:
        with deferred() as stop:
            seen.append(stop.asked())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_outside_of_training_a_signal_ends_the_script_with_its_code_after_cleaning_up(number: str, code: int) -> None:
    """As evaluation, whose finished rows are on the disk, and everything before training."""
    program = f"""
import os, signal
from unlearn.distributed.signals import exit_on_signals
exit_on_signals()
try:
    os.kill(os.getpid(), signal.{number})
    print("went on")
except Exception:
    print("swallowed")
finally:
    print("cleaned up")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "cleaned up\n"), done.stderr


def test_a_run_saved_at_its_last_step_trains_no_step_more(tmp_path: Path) -> None:
    """max_steps ends in the middle of the data: the Trainer by itself would take one step more."""
    whole = start(tmp_path, save_steps=2, steps=4)
    go_on(whole, tmp_path)
    again = start(tmp_path, save_steps=2, steps=4)
    go_on(again, tmp_path)
    assert again.state.global_step == 4 and newest_usable(tmp_path) == tmp_path / "checkpoint-4"
    expected = trained_weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained_weights(again).items())


def test_a_run_that_stop_when_had_ended_does_not_go_on(tmp_path: Path) -> None:
    first = start(tmp_path, save_steps=1, stop_when=0.1)
    go_on(first, tmp_path)
    assert first.state.global_step == 1 and first.stopped
    again = start(tmp_path, save_steps=1, stop_when=0.1)
    go_on(again, tmp_path)
    assert again.state.global_step == 1 and again.stopped == first.stopped


def test_a_checkpoint_of_two_processes_is_refused_by_one(tmp_path: Path) -> None:
    go_on(start(tmp_path, save_steps=2, steps=2), tmp_path)
    assert fault(tmp_path / "checkpoint-2", 1) is None
    assert "made by 1 processes, this run has 2" in str(fault(tmp_path / "checkpoint-2", 2))


def test_nobody_asked() -> None:
    with deferred() as stop:
        assert not stop.asked()
        stop.exit()
    assert Stop().signal is None
