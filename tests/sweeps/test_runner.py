"""What a sweep runs and in which order, what it skips, and how failures, interruptions and other settings are told."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps import runner, tracks
from sweeps.runner import Outcome, run_jobs, times_table
from sweeps.settings import Sweep
from sweeps.work import Work, attempt, carry_out
from tests.sweeps import stub
from unlearn.runs.made_from import Changed


class Body:
    """Counts its calls; `trouble` says what happens in a job."""

    def __init__(self, **trouble: Any) -> None:
        self.trouble, self.ran = trouble, []

    def __call__(self, work: Work) -> dict[str, float]:
        self.ran.append(work.job.name)
        if error := self.trouble.get(work.job.name):
            raise error
        stub.leave_results(work)
        return {"train_seconds": 2.0, "eval_seconds": 1.0}


def sweep(root: Path) -> Sweep:
    return Sweep(save_dir=str(root), executor="debug")


def statuses(outcomes: list[Outcome]) -> dict[str, str]:
    return {one.name: one.status for one in outcomes}


def test_jobs_run_in_order_and_finished_ones_are_kept(tmp_path: Path) -> None:
    works = [stub.work(tmp_path, name) for name in ("b", "a", "c")]
    body = Body()
    outcomes = run_jobs(works, sweep(tmp_path), body)
    assert body.ran == ["b", "a", "c"] == list(statuses(outcomes))
    assert {one.status for one in outcomes} == {"finished"} and outcomes[0].train_seconds == 2.0
    again = Body()
    more = [*works, stub.work(tmp_path, "d")]
    assert statuses(run_jobs(more, sweep(tmp_path), again)) == {"b": "kept", "a": "kept", "c": "kept", "d": "finished"}
    assert again.ran == ["d"]


@pytest.mark.parametrize("lost", ["run.json", "eval_results/eval_log_aggregated.json"])
def test_a_record_without_its_files_is_not_believed(tmp_path: Path, lost: str) -> None:
    works = [stub.work(tmp_path, "a")]
    run_jobs(works, sweep(tmp_path), Body())
    (tmp_path / "a" / lost).unlink()
    body = Body()
    run_jobs(works, sweep(tmp_path), body)
    assert body.ran == ["a"]


def test_a_failure_is_recorded_the_rest_goes_on_and_the_next_sweep_tries_again(tmp_path: Path) -> None:
    works = [stub.work(tmp_path, name) for name in ("a", "b", "c")]
    outcomes = run_jobs(works, sweep(tmp_path), Body(b=RuntimeError("out of memory\nsecond line")))
    assert statuses(outcomes) == {"a": "finished", "b": "failed", "c": "finished"}
    assert not outcomes[1].usable and outcomes[1].error == "RuntimeError: out of memory\nsecond line"
    record = json.loads((tmp_path / "jobs" / "b.json").read_text())
    assert record["status"] == "failed" and any("raise error" in line for line in record["traceback"])
    assert "b  failed" in times_table(outcomes) and "second line" not in times_table(outcomes)
    again = Body()
    assert statuses(run_jobs(works, sweep(tmp_path), again))["b"] == "finished" and again.ran == ["b"]


def test_an_interruption_ends_the_sweep_and_the_same_command_goes_on(tmp_path: Path) -> None:
    works = [stub.work(tmp_path, name) for name in ("a", "b", "c")]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(works, sweep(tmp_path), Body(b=KeyboardInterrupt()))
    found = {name: json.loads((tmp_path / "jobs" / f"{name}.json").read_text())["status"] for name in "abc"}
    assert found == {"a": "finished", "b": "interrupted", "c": "waiting"}
    body = Body()
    run_jobs(works, sweep(tmp_path), body)
    assert body.ran == ["b", "c"]


def test_a_half_written_record_counts_as_none(tmp_path: Path) -> None:
    works = [stub.work(tmp_path, "a")]
    run_jobs(works, sweep(tmp_path), Body())
    (tmp_path / "jobs" / "a.json").write_text('{"status": "fin')
    body = Body()
    run_jobs(works, sweep(tmp_path), body)
    assert body.ran == ["a"]


def test_results_of_other_settings_are_reported_not_mixed(tmp_path: Path) -> None:
    run_jobs([stub.work(tmp_path, "a")], sweep(tmp_path), Body())
    (outcome,) = run_jobs([stub.work(tmp_path, "a", lr=1.0)], sweep(tmp_path), Body())
    assert outcome.status == "failed" and "holds another run (lr: 0.001 there, 1.0 here)" in outcome.error
    assert json.loads((tmp_path / "a" / "run.json").read_text())["settings"]["lr"] == 1e-3


def test_the_same_model_under_another_evaluation_is_not_taken_for_done(tmp_path: Path) -> None:
    run_jobs([stub.work(tmp_path, "a")], sweep(tmp_path), Body())
    body = Body()
    run_jobs([stub.work(tmp_path, "a", ds_size=3)], sweep(tmp_path), body)
    assert body.ran == ["a"]


def test_evaluated_again_a_job_keeps_what_its_training_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a finished run was looked at in no time says nothing; a run that is made anew costs what it costs, and an
    evaluation that fails leaves the number."""
    clock = [0.0]

    def costs(seconds: float, fails: bool = False, other_data: bool = False, **settings: Any) -> float | None:
        one = stub.work(tmp_path, "a", **settings)

        def train(track: str, script: str, training: Any) -> None:
            if other_data and not training.overwrite_dir:
                raise Changed("made from other data")
            clock[0] += seconds
            stub.leave_results(stub.redone(one) if one.overwrite else one)

        def evaluate(track: str, evaluation: Any) -> None:
            assert not fails, "no room on the disk"

        monkeypatch.setattr(tracks, "train", train)
        monkeypatch.setattr(tracks, "evaluate", evaluate)
        (outcome,) = run_jobs([one], sweep(tmp_path), carry_out)
        assert outcome.usable != fails
        return outcome.train_seconds

    monkeypatch.setattr("sweeps.work.time.monotonic", lambda: clock[0])
    assert costs(60.0, fails=True) == 60.0
    assert costs(0.1) == 60.0
    assert costs(0.1, ds_size=3) == 60.0
    assert costs(50.0, fails=True, ds_size=3, lr=1.0, overwrite=True) == 50.0
    assert costs(0.1, ds_size=3, lr=1.0) == 50.0
    assert costs(40.0, other_data=True, ds_size=4, lr=1.0, overwrite=True) == pytest.approx(40.0), (
        "the same settings, trained anew"
    )


@pytest.mark.parametrize("overwrite", [True, False])
def test_overwrite_redoes_what_is_of_other_settings_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    called: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        tracks, "train", lambda track, script, settings: called.append(("train", settings.overwrite_dir))
    )
    monkeypatch.setattr(tracks, "evaluate", lambda track, settings: called.append(("eval", settings.overwrite)))

    def run(**settings: Any) -> list[tuple[str, bool]]:
        called.clear()
        one = stub.work(tmp_path, "a", overwrite=overwrite, **settings)
        attempt(one, carry_out)
        stub.leave_results(stub.redone(one))
        return list(called)

    assert run() == [("train", False), ("eval", False)], "a new folder"
    assert run() == [("train", False), ("eval", False)], "the same settings"
    assert run(ds_size=3) == [("train", False), ("eval", overwrite)], "the model is the same"
    assert run(ds_size=3, lr=1.0) == [("train", overwrite), ("eval", overwrite)]


def test_a_job_that_another_sweep_holds_is_waited_for_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = [stub.work(tmp_path, name) for name in ("a", "b")]
    theirs, body = works[0].lock(), Body()

    def they_finish(seconds: float) -> None:
        assert works[0].record()["status"] == "running", "what the other sweep wrote stays"
        stub.leave_results(works[0])
        works[0].note("finished", seconds=1.0)
        theirs.release()

    monkeypatch.setattr(runner, "time", SimpleNamespace(sleep=they_finish))
    theirs.acquire()
    works[0].note("running")
    assert statuses(run_jobs(works, sweep(tmp_path), body)) == {"a": "finished", "b": "finished"} and body.ran == ["b"]


def test_a_job_that_another_sweep_gave_up_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works, body = [stub.work(tmp_path, "a")], Body()
    theirs = works[0].lock()
    monkeypatch.setattr(runner, "time", SimpleNamespace(sleep=lambda seconds: theirs.release()))
    theirs.acquire()
    works[0].note("running")
    assert statuses(run_jobs(works, sweep(tmp_path), body)) == {"a": "finished"} and body.ran == ["a"]
