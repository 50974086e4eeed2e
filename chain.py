r"""Several steps with one start: what every script needs ten seconds to import is imported once, for all of them.

    python chain.py "mm/finetune.py split=full+tofu" "mm/eval.py overwrite=false" "mm/forget.py forget_loss=npo"

A step is a script's command line without `accelerate launch`. It runs as if it had been typed: in a process of its
own, a copy (fork) of this one in which the libraries are imported and nothing else has happened. So no step sees what
another left behind, and results are those of separate commands to the byte. The first step that fails ends the chain
with its exit code; the same command goes on there, as every step keeps what is finished. For one process: on several
GPUs launch the steps one by one.
"""

import importlib
import os
import runpy
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from unlearn.config.commandline import CONFIG_OF, check_overrides
from unlearn.distributed.signals import SIGNALS, end_with_parent, exit_on_signals

ROOT = Path(__file__).resolve().parent
LIBRARIES = (
    "hydra.main", "datasets", "peft", "transformers.models.auto.modeling_auto", "unlearn.pipeline", "unlearn.aggregate",
)  # fmt: skip
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"  # asks for GPUs without starting CUDA, which no fork survives


def run_chain(steps: Sequence[str]) -> int:
    """Runs the steps; the exit code. Returns in this process when all is over, and in a step's when that is done."""
    exit_on_signals()
    commands = [checked(step) for step in steps]
    start = time.monotonic()
    os.environ.setdefault(NVML, "1")
    for library in LIBRARIES:
        importlib.import_module(library)
    for command in commands:
        say(f"\n[{time.monotonic() - start:.0f} s] {shlex.join(command)}")
        process = os.fork()
        if process == 0:
            return run(command)
        if code := wait(process):
            say(f"[{time.monotonic() - start:.0f} s] stopped: exit code {code}; the same command goes on here")
            return code
    say(f"\n[{time.monotonic() - start:.0f} s] done")
    return 0


def checked(step: str) -> list[str]:
    """The step as words. Ends the program where the script is not there or a key is misspelt, before anything runs."""
    words = shlex.split(step)
    if not words or not (ROOT / words[0]).is_file() or not words[0].endswith(".py"):
        raise SystemExit(f"error: the step {step!r} does not begin with a script such as mm/finetune.py.")
    name = words[0].removesuffix(".py")
    name = CONFIG_OF.get(name, name)
    if (ROOT / "config" / f"{name}.yaml").is_file():
        check_overrides(name, words[1:])
    return words


def run(command: Sequence[str]) -> int:
    """The step, in its own process: from here on this is the script's."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    end_with_parent()
    script = str(ROOT / command[0])
    import torch

    if torch.cuda._is_in_bad_fork():  # the imports have started CUDA after all
        os.execv(sys.executable, [sys.executable, script, *command[1:]])
    sys.argv[:] = [script, *command[1:]]
    runpy.run_path(script, run_name="__main__")
    return 0


def wait(process: int) -> int:
    """The exit code of a step, to which signals are passed on."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(process, number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def say(text: str) -> None:
    print(text, flush=True)  # before a fork, or both would print it


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        raise SystemExit(__doc__)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SystemExit("error: a chain is for one process; on several, launch its steps one by one.")
    sys.exit(run_chain(sys.argv[1:]))
