"""Rows: the `paper` numbers by hand, and the identities of METRICS."""

import copy
import json
import math

import numpy as np
import pytest

from tests.unlearn.metrics.synthetic import MM_TASKS, make_log, make_meta, save_log, shuffled
from unlearn.leaderboard.row import forget_quality, leaderboard_row
from unlearn.leaderboard.scores import Scores
from unlearn.leaderboard.tracks import track_named
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.results import as_log

LABELS = ("Real Faces", "Real World", "Forget", "Retain", "Forget FaceRec", "Retain FaceRec")


def row_of(log, gold, **options):
    return leaderboard_row(log, gold, method="m", submitted_by="s", **options)


def with_meta(log, **options):
    return as_log(log, make_meta(log, **options))


def hand_log():
    """Every task has two rows; p = exp(-loss) are powers of a half. Row 0: right 1/2, base 1/4, wrong 1/4 and 1/8.
    Row 1: right 1/4, base 1/2, wrong 1/8 once. Row 0 says two of its four words, row 1 all of its one."""
    half = math.log(2)
    task = {
        "avg_gt_loss": {"0": half, "1": 2 * half},
        "avg_paraphrased_loss": {"0": 2 * half, "1": half},
        "average_perturb_loss": {"0": [2 * half, 3 * half], "1": [3 * half]},
        "generated_text": {"0": ["q", "Ann paints", "Ann Vásquez paints boats"], "1": ["q", "Bo", "Bo"]},
    }
    return {f"{name}.json": copy.deepcopy(task) for name in MM_TASKS}


def test_paper_numbers_by_hand():
    row = row_of(hand_log(), hand_log())
    prob = (0.5 / (0.5 + 0.25 + 0.125) + 0.25 / (0.25 + 0.125)) / 2
    knowledge = ((1 - (0.25 + 0.125) / 2 / 0.25) + (1 - 0.125 / 0.5)) / 2
    rouge = (0.5 + 1.0) / 2
    for label in LABELS:
        assert row[f"Prob. {label}"] == pytest.approx(prob), "captions are multiple choice too"
        assert row[f"Truth Ratio {label}"] == pytest.approx(knowledge), "and forget points the same way"
        assert row[f"ROUGE {label}"] == pytest.approx(rouge)
        assert row[f"ROUGE-L F1 {label}"] == pytest.approx((2 * 0.5 / 1.5 + 1) / 2)
        assert row[f"Generation words {label}"] == 1.5
        assert row[f"Refusal rate {label}"] is None
    mean = 3 / (1 / prob + 1 / knowledge + 1 / rouge)
    for composite in ("Real metric", "Retain metric", "Forget metric", "Model Utility"):
        assert row[composite] == pytest.approx(mean)


def test_text_tasks_stand_beside_the_aggregates():
    log = hand_log()
    plain = row_of(log, log)
    with_text = {**log, "eval_text_forget.json": log["eval_log.json"]}
    row = row_of(with_text, log)
    assert (
        row["ROUGE Forget Text"] == pytest.approx((0.5 + 1.0) / 2) and row["Prob. Forget Text"] == row["Prob. Retain"]
    )
    assert {name: value for name, value in row.items() if "Forget Text" not in name} == plain, "and change none of them"
    assert not any("Text" in name for name in plain)


def test_what_the_composites_are_made_of():
    row = row_of(make_log(seed=1, ragged=True), make_log(seed=2, ragged=True))
    three = ("ROUGE", "Prob.", "Truth Ratio")
    assert row["Real metric"] == pytest.approx(harmonic_mean(row[f"{m} {t}"] for m in three for t in LABELS[:2]))
    for name, split in (("Retain metric", "Retain"), ("Forget metric", "Forget")):
        parts = [row[f"ROUGE {split}"], row[f"Prob. {split} FaceRec"], row[f"Truth Ratio {split}"]]
        assert row[name] == pytest.approx(harmonic_mean(parts))
    kept = ("Real Faces", "Real World", "Retain", "Retain FaceRec")
    assert row["Model Utility"] == pytest.approx(harmonic_mean(row[f"{m} {t}"] for m in three for t in kept))
    assert row["Forget Quality"] == 1 - row["JS metric"]


def test_nlp_numbers_by_hand():
    log = make_log("nlp", seed=1)
    row = row_of(log, make_log("nlp", seed=2, forget=0.0))
    assert row["track"] == "nlp"
    for task, label in (("eval_log", "Retain"), ("eval_log_forget", "Forget")):
        losses = log[f"{task}.json"]["avg_gt_loss"].values()
        assert row[f"Prob. {label}"] == pytest.approx(np.mean([math.exp(-loss) for loss in losses]))
    task = log["eval_real_author_wo_options.json"]
    wrong = {key: sum(math.exp(-loss) for loss in losses) for key, losses in task["average_perturb_loss"].items()}
    choice = [math.exp(-loss) / (math.exp(-loss) + wrong[key]) for key, loss in task["avg_gt_loss"].items()]
    assert row["Prob. Real Authors"] == pytest.approx(np.mean(choice))
    assert row["Forget Quality"] == row["KS test p-value"]
    assert row["Log Forget Quality"] == pytest.approx(math.log(row["KS test p-value"]))
    assert row["JS Forget Quality"] == 1 - row["JS metric"]
    kept = ("Real Authors", "Real World", "Retain")
    assert row["Model Utility"] == pytest.approx(
        harmonic_mean(row[f"{m} {t}"] for m in ("ROUGE", "Prob.", "Truth Ratio") for t in kept)
    )


def test_log_forget_quality_has_a_floor():
    """900 items far apart: p underflows to 0, its logarithm stays finite."""
    model, gold = (Scores({}, {}, {"Forget": np.linspace(start, start + 1, 900)}) for start in (0, 5))
    numbers = forget_quality(model, gold, track_named("nlp"))
    assert numbers["Forget Quality"] == 0.0
    assert numbers["Log Forget Quality"] == pytest.approx(math.log(2.2250738585072014e-308))


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_gold_against_itself(track):
    gold = make_log(track, seed=2, ragged=True)
    row = row_of(gold, gold)
    assert (row["Forget Quality"], row["KS test p-value"], row["KS statistic"], row["Wasserstein-1"]) == (
        1.0,
        1.0,
        0.0,
        0.0,
    )
    assert row["intervals"]["Forget Quality" if track == "mm" else "JS Forget Quality"] == [1.0, 1.0]


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_order_of_rows_changes_nothing(track):
    log, gold = make_log(track, seed=1, ragged=True), make_log(track, seed=2, ragged=True)
    straight = row_of(with_meta(log), gold, refusals=["the portrait"])
    mixed = row_of(as_log(shuffled(log, 5), make_meta(log)), shuffled(gold, 6), refusals=["the portrait"])
    assert mixed == straight


def test_a_common_factor_of_an_items_probabilities_moves_only_what_it_should():
    log, gold = make_log(seed=1), make_log(seed=2)
    scaled = copy.deepcopy(log)
    for task in scaled.values():
        for key in ("avg_gt_loss", "avg_paraphrased_loss"):
            task[key] = {row: loss + 7 for row, loss in task[key].items()}
        task["average_perturb_loss"] = {
            row: [x + 7 for x in losses] for row, losses in task["average_perturb_loss"].items()
        }
    before, after = row_of(log, gold), row_of(scaled, gold)
    names = [name for name, value in before.items() if isinstance(value, float)]
    assert len(names) > 40
    for name in names:
        assert after[name] == pytest.approx(before[name], rel=1e-9), name
    assert after["reference"]["Prob. Retain"] == pytest.approx(before["reference"]["Prob. Retain"] * math.exp(-7))


def test_wrong_answers_that_equal_the_right_one_are_left_out():
    """Marked in the meta of either log; the `reference` numbers keep them."""
    log, gold = make_log(seed=1), make_log(seed=2)
    meta = make_meta(log)
    for rows in (task["rows"].values() for task in meta["tasks"].values()):
        for facts in rows:
            facts["wrong_equals_right"][0] = True
    without = copy.deepcopy((log, gold))
    for each in without:
        for task in each.values():
            task["average_perturb_loss"] = {row: losses[1:] for row, losses in task["average_perturb_loss"].items()}
    expected = row_of(*without)
    for marked in (row_of(as_log(log, meta), gold), row_of(log, as_log(gold, meta))):
        for name in ("Prob. Retain FaceRec", "Truth Ratio Forget", "Forget Quality", "Model Utility", "Wasserstein-1"):
            assert marked[name] == pytest.approx(expected[name]), name
        assert marked["reference"] == row_of(log, gold)["reference"]
    meta["tasks"]["eval_log"]["rows"]["3"]["wrong_equals_right"] = [True] * 5
    with pytest.raises(ValueError, match="task eval_log, row 3: every wrong answer equals the right one"):
        row_of(as_log(log, meta), gold)


def test_a_collapsed_model_gives_finite_numbers_or_null():
    log, gold = make_log(seed=1), make_log(seed=2)
    for task in log.values():
        task["avg_gt_loss"] = dict.fromkeys(task["avg_gt_loss"], 900.0)
        task["avg_paraphrased_loss"] = dict.fromkeys(task["avg_gt_loss"], 1000.0)
        task["average_perturb_loss"] = {
            row: [1.0] * len(losses) for row, losses in task["average_perturb_loss"].items()
        }
    with np.errstate(all="raise", under="ignore"):
        row = row_of(log, gold)
    json.dumps(row, allow_nan=False)
    assert row["Forget metric"] == row["Model Utility"] == 0.0
    assert row["low_retain"]


def test_identity_comes_from_the_meta_or_the_folder(tmp_path):
    log = make_log(seed=1)
    path = save_log(tmp_path / "models" / "npo_run" / "eval_results", log)
    foreign = leaderboard_row(path, path, relative_to=tmp_path)
    assert foreign["method"] == "npo_run"
    assert foreign["model"] == "models/npo_run/eval_results/eval_log_aggregated.json"
    assert foreign["seed"] is foreign["settings_hash"] is foreign["global_batch"] is foreign["commit"] is None
    assert foreign["logs"] == {"model": foreign["model"], "gold": foreign["model"]}
    save_log(path.parent, log, make_meta(log, seed=7, variant="v", global_batch=2))
    row = leaderboard_row(path, path, submitted_by="me")
    expected = {
        "method": "npo",
        "seed": 7,
        "variant": "v",
        "global_batch": 2,
        "settings_hash": "abc",
        "modality": "both",
        "submitted_by": "me",
    }
    assert {key: row[key] for key in expected} == expected
    assert leaderboard_row(path, path, method="given")["method"] == "given"
    assert row["Generation tokens Retain"] == 7.0


def test_what_was_evaluated_and_how_is_part_of_a_row():
    """A run scored on shuffled images or in 4 bit must not take the place of its ordinary row; a text task may be
    added."""
    log = make_log(seed=1)

    def evaluation(**facts):
        items = {task: f"10 rows {task}" for task in log} | facts.pop("items", {})
        return row_of(
            as_log(log, make_meta(log, **{"items": items, "quantization": None, "max_new_tokens": 32, **facts})), log
        )["evaluation"]

    plain = evaluation()
    assert evaluation() == evaluation(items={"eval_text_forget": "5 rows"}) == plain and plain
    others = [
        evaluation(items={"eval_log": "10 rows shuffled"}),
        evaluation(quantization="4bit"),
        evaluation(max_new_tokens=8),
    ]
    assert len({plain, *others}) == 4


def test_refusals_and_run_on_text():
    log, gold = make_log(seed=1), make_log(seed=2)
    task = log["eval_log_forget.json"]
    for row in list(task["generated_text"])[:3]:
        task["generated_text"][row][1] = "I don't know that. " + "and so on " * 30
    row = row_of(log, gold, refusals=["I don’t know that."])
    assert row["Refusal rate Forget"] == pytest.approx(3 / 12)
    assert row["Refusal rate Retain"] == 0.0
    assert row["Generation words Forget"] > row["Generation words Retain"] + 15


def test_low_retain_is_flagged():
    assert row_of(make_log(seed=1, known=0.2), make_log(seed=2))["low_retain"]
    assert not row_of(make_log(seed=1, known=3.0), make_log(seed=2))["low_retain"]


def test_logs_that_cannot_be_compared(tmp_path):
    log, gold = make_log(seed=1), make_log(seed=2)
    with pytest.raises(ValueError, match="is an mm evaluation and .* is not"):
        row_of(log, make_log("nlp"))
    with pytest.raises(ValueError, match="no task eval_retain_facerec"):
        row_of({name: task for name, task in log.items() if "retain" not in name}, gold)
    with pytest.raises(ValueError, match="no task eval_log;"):
        row_of(log, {name: task for name, task in gold.items() if name != "eval_log.json"})
    with pytest.raises(ValueError, match="neither an mm nor an nlp evaluation"):
        row_of({"eval_log.json": log["eval_log.json"]}, gold)
    with pytest.raises(ValueError, match="only the first has 12, 13"):
        row_of(make_log(seed=1, rows=14), gold)
    with pytest.raises(ValueError, match="only the second has 12, 13"):
        row_of(log, gold, base_log=make_log(seed=1, rows=14))
    other = make_meta(gold)
    other["tasks"]["eval_log"]["rows"]["2"]["wrong_answers"][0] = "another"
    with pytest.raises(ValueError, match="task eval_log: other wrong answers in 1 rows, the first of them 2"):
        row_of(with_meta(log), as_log(gold, other))
