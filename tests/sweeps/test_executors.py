"""Workers of their own processes, a worker that dies, the GPU each sees; what SLURM is asked for and how a job is
requeued."""

import json
import os
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from sweeps import executors, runner
from sweeps.executors import Task, start
from sweeps.runner import run_jobs
from sweeps.settings import SlurmSettings, Sweep
from sweeps.work import Work
from tests.sweeps import stub
from unlearn import ROOT


def body(work: Work) -> dict[str, float]:
    """Says where and when it ran; one job kills its process, another fails."""
    began = time.time()
    time.sleep(60 if (work.job.folder / "slow").exists() else 0.4)
    if work.job.name == "dies":
        os._exit(9)
    if work.job.name == "fails":
        raise RuntimeError("no")
    stub.leave_results(work)
    facts = {"pid": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": began, "ended": time.time()}
    (work.job.folder / "facts.json").write_text(json.dumps(facts))
    return {"train_seconds": 0.4, "eval_seconds": 0.0}


@pytest.fixture(autouse=True)
def in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """The worker has no tests to import: their functions travel by value."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    modules = [sys.modules[__name__], stub]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


def test_local_workers_share_the_jobs_and_survive_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "visible_gpus", lambda: ["4", "6"])
    names = ["a", "dies", "b", "fails", "c", "d"]
    outcomes = run_jobs([stub.work(tmp_path, name) for name in names], Sweep(save_dir=str(tmp_path), jobs=2), body)
    assert [one.name for one in outcomes] == names
    assert {one.name: one.status for one in outcomes} == {
        "a": "finished", "dies": "failed", "b": "finished", "fails": "failed", "c": "finished", "d": "finished"
    }  # fmt: skip
    assert "its process ended" in outcomes[1].error and outcomes[3].error == "RuntimeError: no"
    facts = [json.loads((tmp_path / name / "facts.json").read_text()) for name in "abcd"]
    assert {fact["gpu"] for fact in facts} <= {"4", "6"} and None not in {fact["gpu"] for fact in facts}
    assert len({fact["pid"] for fact in facts}) <= 2 and os.getpid() not in {fact["pid"] for fact in facts}
    assert all(len({fact["gpu"] for fact in facts if fact["pid"] == one["pid"]}) == 1 for one in facts)
    for moment in (fact["began"] for fact in facts):
        assert sum(fact["began"] <= moment < fact["ended"] for fact in facts) <= 2, "never more than `jobs` at a time"


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def test_ctrl_c_ends_the_workers_and_leaves_what_the_same_command_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, inherited: Any
) -> None:
    """In the background (`run_exps.py &`) SIGINT is ignored, by what is started there as well."""
    before = signal.signal(signal.SIGINT, inherited)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    works, sweep = [stub.work(tmp_path, name) for name in ("a", "b")], Sweep(save_dir=str(tmp_path), jobs=1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "slow").touch()

    def ctrl_c(*ignored) -> None:
        while works[0].record()["status"] != "running":
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_wait", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(works, sweep, body)
    monkeypatch.undo()
    with works[0].lock().acquire(timeout=20):  # the worker is gone, long before its minute was over
        assert works[0].record()["status"] in ("interrupted", "running") and works[1].record()["status"] == "waiting"
    (tmp_path / "a" / "slow").unlink()
    done = run_jobs(works, Sweep(save_dir=str(tmp_path), executor="debug"), body)
    assert [one.status for one in done] == ["finished", "finished"]


def test_one_worker_per_gpu_else_per_core_but_never_more_than_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list = []
    monkeypatch.setattr("submitit.LocalExecutor.submit", lambda self, worker: made.append(worker) or worker)

    def devices(gpus: list[str], works: int, **settings: int) -> list[str | None]:
        made.clear()
        monkeypatch.setattr(executors, "visible_gpus", lambda: gpus)
        start(
            [stub.work(tmp_path, str(number)) for number in range(works)],
            Sweep(save_dir=str(tmp_path), **settings),
            tmp_path,
        )
        return [worker.device for worker in made]

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    assert devices(["0", "1", "2"], 9) == ["0", "1", "2"]
    assert devices(["0", "1"], 9, jobs=3) == ["0", "1", "0"]
    assert devices(["0", "1", "2"], 2) == ["0", "1"]
    assert devices([], 9, jobs=3) == [None] * 3 and {worker.threads for worker in made} == {2}
    assert devices([], 9) == [None] * 6


def test_a_worker_whose_sweep_was_killed_takes_no_further_job(tmp_path: Path) -> None:
    one = stub.work(tmp_path, "a")
    one.note("waiting")
    executors.Worker((one,), 1, None, parent=2**22 + 1, body=body)()
    assert one.record()["status"] == "waiting"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster that keeps what it is asked for; returns the file of the last request."""
    programs, asked = tmp_path / "bin", tmp_path / "asked.sh"
    programs.mkdir()
    for name, text in {"srun": "exit 1", "sbatch": f'cp "$1" {asked}\necho "Submitted batch job 123"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return asked


def test_slurm_is_asked_for_an_array_that_is_requeued_and_goes_on(tmp_path: Path, slurm: Path) -> None:
    works = [stub.work(tmp_path, name) for name in ("a", "b", "c")]
    wanted = SlurmSettings(partition="gpu", time=90, gpus=1, cpus=4, mem="32GB", setup=["module load cuda"],
                           options={"account": "me", "signal_delay_s": 120})  # fmt: skip
    sweep = Sweep(save_dir=str(tmp_path), executor="slurm", jobs=2, slurm=wanted)
    handles = start(works, sweep, tmp_path / "submitit", body)
    assert [handle.job_id for handle in handles] == ["123_0", "123_1", "123_2"]
    text = slurm.read_text()
    for line in ("--partition=gpu", "--time=90", "--gpus-per-node=1", "--cpus-per-task=4", "--mem=32GB", "--account=me",
                 "--array=0-2%2", "--requeue", "--signal=USR2@120", "--open-mode=append"):  # fmt: skip
        assert f"#SBATCH {line}\n" in text, line
    assert "module load cuda\n" in text and "submitit.core._submit" in text
    delayed = handles[1].submission()
    requeued = delayed._checkpoint_function()
    assert isinstance(requeued.function, Task) and requeued.args[0].job.name == "b"
    requeued.result()
    assert works[1].finished() and not works[0].finished()
    before = (tmp_path / "b" / "facts.json").stat().st_mtime_ns
    delayed.result()
    assert (tmp_path / "b" / "facts.json").stat().st_mtime_ns == before, "a finished job is not run again"


def test_slurm_where_there_is_none_and_an_unknown_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: Path
) -> None:
    sweep = Sweep(save_dir=str(tmp_path), executor="slurm", slurm=SlurmSettings(options={"acount": "me"}))
    with pytest.raises(ValueError, match="slurm.options.*acount"):
        start([stub.work(tmp_path, "a")], sweep, tmp_path / "submitit", body)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="executor=slurm.*executor=local"):
        start([stub.work(tmp_path, "a")], sweep, tmp_path / "submitit", body)
