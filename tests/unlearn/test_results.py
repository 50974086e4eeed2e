"""The eval log on disk: what was written is read back, and everything else is refused with file, task, row and
remedy."""

import copy
import json

import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log, shuffled
from unlearn.results import (
    TaskLog,
    as_log,
    check_same_rows,
    plain_text,
    read_log,
    read_meta,
    read_task,
    require_tasks,
    row_order,
    write_aggregate,
    write_meta,
    write_task,
)


@pytest.fixture
def log():
    return make_log(ragged=True, filled_rouge=True)


def test_what_is_written_is_read_back(tmp_path, log):
    for name, task in log.items():
        write_task(tmp_path, name.removesuffix(".json"), task)
    path = write_aggregate(tmp_path, [name.removesuffix(".json") for name in log])
    write_meta(tmp_path, make_meta(log))
    assert json.loads(path.read_text("utf-8")) == log
    assert path.name == "eval_log_aggregated.json"
    read = read_log(path)
    assert read.tasks["eval_log"] == log["eval_log.json"] == read_task(tmp_path, "eval_log")
    assert read.meta == make_meta(log) == read_meta(tmp_path)
    assert read.path == path


def test_the_aggregate_holds_tasks_that_finished_earlier(tmp_path, log):
    write_task(tmp_path, "eval_log", log["eval_log.json"])
    write_aggregate(tmp_path, ["eval_log"])
    write_task(tmp_path, "eval_log_forget", log["eval_log_forget.json"])
    assert list(read_log(write_aggregate(tmp_path, ["eval_log", "eval_log_forget"])).tasks) == [
        "eval_log",
        "eval_log_forget",
    ]


def test_the_schema_is_the_published_one():
    assert {*TaskLog.__required_keys__} == {
        "avg_gt_loss", "gt_loss", "num_token_gt", "avg_paraphrased_loss", "paraphrased_loss", "num_token_paraphrased",
        "average_perturb_loss", "perturb_loss", "num_token_perturb", "truth_ratio", "generated_text", "rouge1_recall",
        "rougeL_recall",
    }  # fmt: skip
    assert {*TaskLog.__optional_keys__} == {"normalized_gt_loss"}


def test_a_foreign_log_needs_only_what_the_released_scripts_read(tmp_path, log):
    keys = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "generated_text")
    slim = {
        name: {**{key: task[key] for key in keys}, "chrf_scores": {"0": 3}, "rougeL_recall": {}}
        for name, task in log.items()
    }
    read = read_log(save_log(tmp_path, slim))
    assert read.meta is None
    assert read.tasks["eval_log"]["avg_gt_loss"] == log["eval_log.json"]["avg_gt_loss"]
    with pytest.raises(ValueError, match=r"eval_log: no gt_loss, num_token_gt"):
        write_task(tmp_path, "eval_log", slim["eval_log.json"])


@pytest.mark.parametrize(
    ("key", "row", "value", "message"),
    [
        ("avg_gt_loss", "3", float("nan"), r"avg_gt_loss is nan, not a finite number"),
        ("avg_paraphrased_loss", "3", None, r"avg_paraphrased_loss is None"),
        ("average_perturb_loss", "3", [1.0, float("inf")], r"average_perturb_loss is inf"),
        ("average_perturb_loss", "3", [], r"at least one wrong answer"),
        ("average_perturb_loss", "3", 2.0, r"must be a list"),
        ("gt_loss", "3", "2.0", r"gt_loss is '2.0'"),
        ("num_token_gt", "3", True, r"num_token_gt is True"),
        ("generated_text", "3", ["a", "b"], r"three strings"),
        ("generated_text", "3", ["a", None, "b"], r"three strings"),
    ],
)
def test_a_bad_cell_is_named(tmp_path, log, key, row, value, message):
    task = copy.deepcopy(log["eval_log.json"])
    task[key][row] = value
    with pytest.raises(ValueError, match=rf"eval_log\.json, task eval_log, row 3: .*{message}.*overwrite=true"):
        write_task(tmp_path, "eval_log", task)
    assert not list(tmp_path.iterdir())
    path = save_log(tmp_path, {"eval_log.json": task})
    with pytest.raises(ValueError, match=rf"eval_log_aggregated\.json, task eval_log, row 3: .*{message}"):
        read_log(path)


def test_rows_that_differ_between_columns_are_listed(tmp_path, log):
    task = log["eval_log.json"]
    task["gt_loss"]["77"] = task["gt_loss"].pop("10")
    task["gt_loss"]["78"] = task["gt_loss"].pop("2")
    with pytest.raises(
        ValueError, match=r"gt_loss and avg_gt_loss .*only the first has 77, 78; only the second has 2, 10"
    ):
        write_task(tmp_path, "eval_log", task)


def test_an_empty_task_says_so(tmp_path, log):
    with pytest.raises(ValueError, match=r"task eval_log: the task has no rows. Check its split and ds_size"):
        read_log(save_log(tmp_path, {**log, "eval_log.json": {key: {} for key in log["eval_log.json"]}}))


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"eval_log.json": [1, 2]}'])
def test_other_json_is_refused(tmp_path, content):
    path = tmp_path / "eval_log_aggregated.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"eval_log_aggregated\.json"):
        read_log(path)


def test_a_file_cut_in_half_and_a_missing_one(tmp_path, log):
    path = save_log(tmp_path, log)
    path.write_text(path.read_text("utf-8")[: path.stat().st_size // 2], "utf-8")
    with pytest.raises(ValueError, match=r"eval_log_aggregated\.json: not valid JSON .*cut off"):
        read_log(path)
    with pytest.raises(ValueError, match=r"nowhere.json: no such file"):
        read_log(tmp_path / "nowhere.json")


def test_missing_tasks_are_listed(log):
    del log["eval_forget_facerec.json"], log["eval_log.json"]
    with pytest.raises(
        ValueError, match=r"no task eval_log, eval_forget_facerec; it holds eval_real_faces_wo_options, "
    ):
        require_tasks(as_log(log), ["eval_log", "eval_log_forget", "eval_forget_facerec"])
    require_tasks(as_log(log), ["eval_log_forget"])


def test_the_same_rows_in_another_order_are_the_same(log):
    check_same_rows(as_log(log), as_log(shuffled(log)), [name.removesuffix(".json") for name in log])


def test_other_rows_than_gold_are_listed(tmp_path):
    ours, gold = (
        read_log(save_log(tmp_path / "m", make_log(rows=12))),
        read_log(save_log(tmp_path / "g", make_log(rows=14))),
    )
    with pytest.raises(
        ValueError, match=r"m/eval_log.*g/eval_log.*task eval_log: .*the first has none; only the second has 12, 13"
    ):
        check_same_rows(ours, gold, ["eval_log"])


def test_another_reference_text_is_shown(log):
    other = copy.deepcopy(log)
    other["eval_log.json"]["generated_text"]["4"][2] = "someone else"
    with pytest.raises(ValueError, match=r"other reference texts in rows 4 \(row 4: .* against 'someone else'\)"):
        check_same_rows(as_log(log), as_log(other), ["eval_log"])
    other["eval_log.json"]["generated_text"]["4"][2] = "  " + log["eval_log.json"]["generated_text"]["4"][2] + "\n"
    check_same_rows(as_log(log), as_log(other), ["eval_log"])


def test_another_number_of_wrong_answers_is_shown(log):
    other = copy.deepcopy(log)
    other["eval_log.json"]["average_perturb_loss"]["4"].append(1.0)
    with pytest.raises(ValueError, match=r"another number of wrong answers in rows 4\."):
        check_same_rows(as_log(log), as_log(other), ["eval_log"])


def test_meta_must_fit_the_log(tmp_path, log):
    meta = make_meta(log)
    meta["tasks"]["eval_log"]["rows"]["5"]["wrong_answers"].append("one more")
    meta["tasks"]["eval_log"]["rows"]["5"]["wrong_equals_right"].append(False)
    with pytest.raises(ValueError, match=r"task eval_log, row 5: eval_meta.json has another number of wrong answers"):
        read_log(save_log(tmp_path, log, meta))
    meta = make_meta(log)
    del meta["tasks"]["eval_log"]["rows"]["5"]
    with pytest.raises(ValueError, match=r"eval_meta.json and the log .*only the second has 5"):
        read_log(save_log(tmp_path, log, meta))
    meta = make_meta(log)
    del meta["tasks"]["eval_log"]  # an evaluation that was stopped: the rest is still of use
    assert "eval_log" not in read_log(save_log(tmp_path, log, meta)).meta["tasks"]


def test_bad_meta_is_refused(tmp_path, log):
    good = make_meta(log)
    for change, message in [
        (lambda meta: meta.update(schema_version=2), r"schema_version 2, this code reads 1"),
        (lambda meta: meta.pop("run"), r"expected schema_version, run and tasks"),
        (lambda meta: meta["tasks"]["eval_log"].pop("seconds"), r"task eval_log: no seconds"),
        (lambda meta: meta["tasks"]["eval_log"]["rows"]["1"].pop("author"), r"task eval_log, row 1: no author"),
        (lambda meta: meta["tasks"]["eval_log"]["rows"]["1"]["wrong_equals_right"].pop(), r"row 1: wrong_equals_right"),
    ]:
        meta = copy.deepcopy(good)
        change(meta)
        with pytest.raises(ValueError, match=rf"eval_meta\.json.*{message}"):
            write_meta(tmp_path, meta)
    assert read_meta(tmp_path) is None


def test_rows_are_read_in_human_order():
    assert sorted(["10", "2", "b", "a", "1"], key=row_order) == ["1", "2", "10", "a", "b"]


def test_a_tokenizers_spacing_is_no_other_reference():
    pairs = [("A red hat .", "A red hat."), ("Do n't ( go ) , Ann", "Don't (go), Ann"), ("José  is", "Jose\u0301 is")]
    assert all(plain_text(one) == plain_text(other) for one, other in pairs)
    assert plain_text("now here") != plain_text("nowhere") and plain_text("a.") != plain_text("a")
