"""An evaluation log does not depend on interruptions, on what lies in its folder, or on the number of processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import unlearn.evaluation.suite as evaluation
from tests.eval_suite import run, same_log, tasks
from tests.models import tiny_llava
from unlearn.results import AGGREGATE, META
from unlearn.runs.cleaning import remove_results
from unlearn.token_log import tokens_path

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One evaluation, and its folder."""
    folder = tmp_path_factory.mktemp("reference")
    return run(folder), folder


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory):
    """The same with the scores of tokens."""
    folder = tmp_path_factory.mktemp("with_tokens")
    return run(folder, token_scores=True), folder


def tokens_of(folder):
    return json.loads(tokens_path(folder, "eval_log_forget").read_text())


def interrupted(monkeypatch, folder, batches, **options):
    """A run that dies when it would measure batch number `batches`."""
    measure, calls = evaluation.measure_prepared, []

    def dying(*args, **kwargs):
        calls.append(len(args[2]))
        if len(calls) > batches:
            raise KeyboardInterrupt
        return measure(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "measure_prepared", dying)
        with pytest.raises(KeyboardInterrupt):
            run(folder, **options)


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_interrupted_run_continues_after_its_last_batch(reference, tmp_path, monkeypatch, overwrite):
    interrupted(monkeypatch, tmp_path, 4, overwrite=overwrite)  # the first task (3 batches) and one batch of the second
    assert not (tmp_path / AGGREGATE).exists()
    suite = tasks()
    log = run(tmp_path, suite=suite, overwrite=overwrite)
    same_log(log, reference[0])
    assert suite[0].items.made == [] and len(suite[1].items.made) == 4
    assert not (tmp_path / ".partial").exists()
    run(tmp_path, suite=suite, overwrite=overwrite)
    assert len(suite[0].items.made) == (7 if overwrite else 0)  # a finished run starts afresh, or is kept


def test_scores_of_tokens_are_part_of_the_rows_in_part(reference, with_tokens, tmp_path, monkeypatch):
    assert with_tokens[0] == reference[0], "the log is the same to the bit"
    interrupted(monkeypatch, tmp_path, 2, token_scores=True)
    suite = tasks()
    run(tmp_path, suite=suite, token_scores=True)
    assert len(suite[0].items.made) == 1, "continued"
    same_log(tokens_of(tmp_path), tokens_of(with_tokens[1]))
    interrupted(monkeypatch, tmp_path / "without", 2)
    suite = tasks()
    run(tmp_path / "without", suite=suite, token_scores=True)
    assert len(suite[0].items.made) == 7, "rows in part that lack them are measured again"
    same_log(tokens_of(tmp_path / "without"), tokens_of(with_tokens[1]))


def test_a_task_is_finished_with_the_scores_of_its_tokens(reference, tmp_path):
    run(tmp_path)
    for asked, made, there in ((True, 7, True), (True, 0, True), (False, 0, True)):
        suite = tasks()
        same_log(run(tmp_path, suite=suite, overwrite=False, token_scores=asked), reference[0])
        assert len(suite[0].items.made) == made and tokens_path(tmp_path, "eval_log_forget").is_file() is there
    run(tmp_path)
    assert not list(tmp_path.glob("*.tokens.json")), "none stays beside a log that was written anew without"
    run(tmp_path, token_scores=True)
    run(tmp_path, model=tiny_llava(1)[0], suite=tasks(names=("eval_log",)))
    assert not list(tmp_path.glob("*.tokens.json")), "nor of another model"
    run(tmp_path, suite=tasks(names=("own",)), token_scores=True)
    remove_results(tmp_path)
    assert not tmp_path.exists()


def test_a_line_cut_by_the_kill_is_measured_again(reference, tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, 2)
    file = tmp_path / ".partial" / "eval_log_forget.0.jsonl"
    file.write_text(file.read_text()[:-40])
    suite = tasks()
    same_log(run(tmp_path, suite=suite), reference[0])
    assert len(suite[0].items.made) == 2


def test_partial_rows_of_other_weights_are_not_used(tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, 2)
    suite = tasks()
    log = run(tmp_path, model=tiny_llava(1)[0], suite=suite)
    assert sorted(suite[0].items.made) == list(range(7))
    same_log(log, run(tmp_path / "alone", model=tiny_llava(1)[0]))


def test_finished_tasks_are_kept_and_stay_in_the_aggregate(reference, tmp_path):
    first = tasks(names=("eval_log_forget",))
    run(tmp_path, suite=first)
    both = tasks()
    log = run(tmp_path, suite=both, overwrite=False)
    assert both[0].items.made == [] and len(both[1].items.made) == 7
    same_log(log, reference[0])
    again = run(tmp_path, suite=tasks(names=("eval_forget_facerec",)), overwrite=True)
    assert list(again) == ["eval_log_forget.json", "eval_forget_facerec.json"]
    with pytest.raises(ValueError, match="evaluated on other rows, questions or pictures .7 rows .*now 5 rows"):
        run(tmp_path, suite=tasks(5), overwrite=False)


def test_results_under_other_questions_or_pictures_are_not_kept(tmp_path):
    (own,) = tasks(names=("eval_log_forget",))
    run(tmp_path, suite=[own])
    (shuffled,) = tasks(names=("eval_log_forget",))
    with pytest.raises(ValueError, match="evaluated on other rows, questions or pictures"):
        run(tmp_path, suite=[replace(shuffled, identity="shuffled")], overwrite=False)
    run(tmp_path, suite=[replace(shuffled, identity="shuffled")])
    assert len(shuffled.items.made) == len(shuffled.items)


def test_results_of_another_model_are_refused_or_replaced_whole(tmp_path):
    run(tmp_path)
    other = tiny_llava(1)[0]
    with pytest.raises(ValueError, match="results of another model"):
        run(tmp_path, model=other, suite=tasks(names=("eval_log",)), overwrite=False)
    log = run(tmp_path, model=other, suite=tasks(names=("eval_log",)), overwrite=True)
    assert list(log) == ["eval_log.json"]
    assert not (tmp_path / "eval_forget_facerec.json").exists()
    (tmp_path / META).unlink()
    with pytest.raises(ValueError, match="overwrite=true"):
        run(tmp_path, model=other, suite=tasks(names=("eval_log",)), overwrite=False)


TWO = """
import sys
from dataclasses import replace
from accelerate import PartialState
from tests.eval_suite import run
state = PartialState(cpu=True)
assert state.num_processes == 2 and "CPU" in str(state.distributed_type), state
run(sys.argv[1], token_scores=True)
"""


def test_two_processes_write_the_log_of_one(with_tokens, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(script), str(tmp_path / "log")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    same_log(json.loads((tmp_path / "log" / AGGREGATE).read_text()), with_tokens[0])
    same_log(tokens_of(tmp_path / "log"), tokens_of(with_tokens[1]))
    meta, alone = (json.loads((folder / META).read_text()) for folder in (tmp_path / "log", with_tokens[1]))
    assert meta["tasks"]["eval_log_forget"]["rows"] == alone["tasks"]["eval_log_forget"]["rows"]


def test_processes_that_do_not_see_one_another_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="2 processes, but 1 take part"):
        run(tmp_path)
