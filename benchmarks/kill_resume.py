"""Runs that are killed at random moments and started again by the same command: do they end in the same weights?

    python benchmarks/kill_resume.py --times 50               # kill -9
    python benchmarks/kill_resume.py --times 50 --signal TERM # a scheduler's notice: a checkpoint, and code 143

Each trial starts mm/finetune.py or mm/forget.py on the embedded benchmark (two optimisers and schedules, dropout, LoRA
and full finetuning), kills it at a moment drawn uniformly from the life of an uninterrupted run, sometimes twice,
starts it once more and compares every weight file byte by byte with the uninterrupted run's. Exit status 1 if one
differs.

The scripts run as themselves, from parsing the arguments to the exit, in children forked from a parent that has
imported
everything: a trial then takes seconds instead of the 6-13 s of imports of each start, `--jobs` trials at a time. So
    kills
during imports are not drawn; tests/test_kill.py has one. On 2 idle cores a kill and its resume take about 10 s
together.
"""

import argparse
import json
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASE = "minibench/weights/llava-mini"
SMALL = ("max_steps=12", "batch_size=4", "logging_steps=5")
RUNS = {
    "forget npo, LoRA": (
        "mm/forget.py",
        "forget_loss=npo",
        f"model_path={BASE}",
        "save_steps=3",
        "LoRA.dropout=0.1",
        *SMALL,
    ),
    "forget SKU, full": (
        "mm/forget.py",
        "forget_loss=SKU",
        f"model_path={BASE}",
        "save_steps=4",
        "LoRA.r=0",
        "lr=1e-4",
        "lr_scheduler=cosine",
        "gradient_accumulation_steps=2",
        *SMALL,
    ),
    "finetune, LoRA": (
        "mm/finetune.py",
        f"model_path={BASE}",
        "save_steps=2",
        "LoRA.dropout=0.1",
        "num_workers=1",
        *SMALL,
    ),
}
FINAL = ("*.safetensors", "config.json")


@dataclass
class Trial:
    """One run, killed (`moments`: seconds after each start) and resumed."""

    run: str
    moments: list[float]
    phases: list[str] = field(default_factory=list)
    equal: bool = False
    words: str = ""
    seconds: float = 0.0


def start(arguments: Sequence[str], folder: Path) -> int:
    """A child that runs the script; its process id. What it prints goes to `folder`.txt."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        out = os.open(f"{folder}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(out, stream)
        sys.argv = [arguments[0], *arguments[1:], f"save_dir={folder}"]
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(child: int, within: float | None = None) -> int | None:
    """The child's exit status (negative: the signal it died of) once it has ended, or None after `within` seconds."""
    end = None if within is None else time.monotonic() + within
    while end is None or time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def phase(folder: Path) -> str:
    """What the killed run was doing, by what it left."""
    if not (folder / "run.json").exists():
        return "before the run"
    if '"status": "finished"' in (folder / "run.json").read_text():
        return "after the end"
    if list(folder.glob(".incomplete-model")) or list(folder.glob("*.safetensors")):
        return "saving the model"
    if list(folder.glob(".incomplete*")):
        return "saving a checkpoint"
    return "training, checkpoints" if list(folder.glob("checkpoint-*")) else "loading, first steps"


def weights(folder: Path) -> dict[str, bytes]:
    """What a finished run is judged by."""
    return {file.name: file.read_bytes() for pattern in FINAL for file in sorted(folder.glob(pattern))}


def attempt(trial: Trial, expected: dict[str, bytes], folder: Path, number: signal.Signals) -> Trial:
    """Carries a trial out; its folder is removed unless something is wrong."""
    began = time.monotonic()
    for moment in trial.moments:
        child = start(RUNS[trial.run], folder)
        code = ended(child, moment)
        if code is None:
            os.kill(child, number)
            code = ended(child)
        trial.phases.append(phase(folder))
        if code not in (0, -signal.SIGKILL, 128 + number):
            trial.words = f"exit status {code} after the kill"
    code = ended(start(RUNS[trial.run], folder))
    found = weights(folder)
    left = [path.name for path in folder.glob("*") if path.name.startswith(("checkpoint-", ".incomplete", ".lock"))]
    if code != 0:
        trial.words = f"the resumed run ended with {code}, see {folder}.txt"
    elif found != expected:
        trial.words = (
            f"differs: {sorted(name for name in {**found, **expected} if found.get(name) != expected.get(name))}"
        )
    elif left and "after the end" not in trial.phases:
        trial.words = f"left behind: {left}"
    trial.equal, trial.seconds = not trial.words, time.monotonic() - began
    if trial.equal:
        shutil.rmtree(folder)
    return trial


def warm() -> None:
    """Imports, in this process, what the children need; no tensor is touched, so forking is safe."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    import datasets  # noqa: F401
    import hydra  # noqa: F401
    import peft  # noqa: F401
    import transformers

    for name in (
        "LlavaForConditionalGeneration",
        "LlavaProcessor",
        "CLIPVisionModel",
        "LlamaForCausalLM",
        "AutoProcessor",
        "AutoModelForImageTextToText",
        "CLIPImageProcessorPil",
    ):
        getattr(transformers, name)
    import minibench
    import mm.clear  # noqa: F401
    from unlearn import methods, pipeline  # noqa: F401

    minibench.ensure_dataset("data/clear-mini")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="kills")
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began = time.monotonic()
    warm()
    root, rng = Path(tempfile.mkdtemp(prefix="kill_resume_")), random.Random(chosen.seed)
    expected, life = references(root, chosen.jobs)
    trials, kills = [], 0
    while kills < chosen.times:
        run = rng.choice(list(RUNS))
        moments = [rng.uniform(0, life[run]) for _ in range(min(rng.choice((1, 1, 2)), chosen.times - kills))]
        kills += len(moments)
        trials.append(Trial(run, moments))
    done = carry_out(trials, expected, root, signal.Signals[f"SIG{chosen.signal}"], chosen.jobs)
    bad = report(done, kills, chosen.signal, time.monotonic() - began)
    if not bad:
        shutil.rmtree(root)
    return 1 if bad else 0


def references(root: Path, jobs: int) -> tuple[dict[str, dict[str, bytes]], dict[str, float]]:
    """Each run without a kill: its files and its seconds, while as many run as will in the trials."""
    folders = {run: root / re.sub(r"\W+", "_", run) for run in RUNS}
    waiting: list[str] = list(RUNS)
    children: dict[Any, Any] = {}
    life: dict[str, Any] = {}
    while waiting or children:
        while waiting and len(children) < jobs:
            run = waiting.pop(0)
            children[start(RUNS[run], folders[run])] = run, time.monotonic()
        child, status = os.wait()
        run, began = children.pop(child)
        life[run] = time.monotonic() - began
        if status or not weights(folders[run]):
            raise SystemExit(f"{run} does not run by itself (status {status}), see {folders[run]}.txt")
        print(f"{run}: {life[run]:.1f} s without a kill", flush=True)
    return {run: weights(folder) for run, folder in folders.items()}, life


def carry_out(
    trials: list[Trial], expected: dict[str, dict[str, bytes]], root: Path, number: signal.Signals, jobs: int
) -> list[Trial]:
    """All trials, `jobs` at a time, with a progress bar: each in a forked process of its own, as threads must not
    fork."""
    from tqdm import tqdm

    waiting, running, done = list(enumerate(trials)), 0, []
    with tqdm(total=sum(len(trial.moments) for trial in trials), unit="kill") as bar:
        while waiting or running:
            while waiting and running < jobs:
                place, trial = waiting.pop(0)
                running += 1
                if os.fork() == 0:
                    result = attempt(trial, expected[trial.run], root / f"trial{place}", number)
                    (root / f"trial{place}.json").write_text(json.dumps(asdict(result)))
                    os._exit(0)
            os.wait()
            running -= 1
            for file in root.glob("trial*.json"):
                done.append(Trial(**json.loads(file.read_text())))
                bar.update(len(done[-1].moments))
                file.unlink()
    lost = len(trials) - len(done)
    assert not lost, f"{lost} trials broke off"
    return done


def report(trials: list[Trial], kills: int, number: str, seconds: float) -> list[Trial]:
    """Prints the table; returns the trials that went wrong."""
    bad = [trial for trial in trials if not trial.equal]
    count = Counter((trial.run, at) for trial in trials for at in trial.phases)
    wrong = Counter((trial.run, at) for trial in bad for at in trial.phases)
    print(f"\n{'run':20} {'killed while':24} {'kills':>5} {'resumed, equal':>15}")
    for (run, at), times in sorted(count.items()):
        print(f"{run:20} {at:24} {times:5} {times - wrong[run, at]:15}")
    for trial in bad:
        print(f"NOT EQUAL: {trial}")
    good = sum(len(trial.moments) for trial in trials if trial.equal)
    print(f"\nSIG{number}: {good} of {kills} kills resumed to the same bytes, {len(trials)} runs, {seconds:.0f} s")
    return bad


if __name__ == "__main__":
    sys.exit(main())
