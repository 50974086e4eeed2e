"""`reference` numbers against a slow transcription of the released scripts, on logs in their schema."""

import json
import math

import pytest

from tests.unlearn.metrics.published import mm_ratios, published_mm, published_nlp
from tests.unlearn.metrics.synthetic import make_log, shuffled
from unlearn.leaderboard.row import leaderboard_row

PUBLISHED = {"mm": published_mm, "nlp": published_nlp}


@pytest.mark.parametrize("track", ["mm", "nlp"])
@pytest.mark.parametrize(
    "options",
    [{}, {"ragged": True}, {"filled_rouge": True}, {"forget": -1.5, "known": 0.3}, {"rows": 1}, {"rows": 150}],
)
def test_equals_the_released_scripts(track, options):
    log, gold = make_log(track, seed=3, **options), make_log(track, seed=4, **options)
    row = leaderboard_row(log, gold, method="npo", submitted_by="me")["reference"]
    expected = PUBLISHED[track](log, gold, "npo", "me")
    assert row.keys() == expected.keys()
    for key, value in expected.items():
        assert row[key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-9)), key


def test_mm_has_the_23_published_keys_first():
    row = leaderboard_row(make_log(seed=1), make_log(seed=2), method="m", submitted_by="s")
    tasks = ("Real Faces", "Real World", "Forget", "Retain", "Forget FaceRec", "Retain FaceRec")
    keys = ["method", "submitted_by"]
    keys += [f"{metric} {task}" for task in tasks for metric in ("Prob.", "ROUGE", "Truth Ratio")]
    keys += ["Model Utility", "KS test p-value", "JS metric"]
    assert list(row["reference"])[:23] == keys
    assert set(keys) <= set(row)


@pytest.mark.parametrize("track", ["mm", "nlp"])
def test_rows_are_aligned_by_id(track):
    """The released code pairs the first row with the first row; here a log in another order gives the same numbers."""
    log, gold = make_log(track, seed=3), make_log(track, seed=4)
    straight = leaderboard_row(log, gold, method="m", submitted_by="s")["reference"]
    mixed = leaderboard_row(shuffled(log), gold, method="m", submitted_by="s")["reference"]
    assert mixed == straight


def test_raw_vectors_are_blind_to_scale_and_gold_scores_one_against_itself():
    """Why `paper` exists: a model whose ratios are all 10 times gold's has reference Forget Quality 1."""
    scaled = make_log(seed=4)
    gold = json.loads(json.dumps(scaled))
    task = gold["eval_log_forget.json"]
    task["avg_paraphrased_loss"] = {row: loss + math.log(10) for row, loss in task["avg_paraphrased_loss"].items()}
    task = scaled["eval_log_forget.json"]
    assert mm_ratios(task)[0] == pytest.approx(10 * mm_ratios(gold["eval_log_forget.json"])[0])
    row = leaderboard_row(scaled, gold, method="m", submitted_by="s")
    assert row["reference"]["Forget Quality"] == pytest.approx(1.0, abs=1e-7)
    assert row["Forget Quality"] < 0.7
    assert leaderboard_row(gold, gold, method="m", submitted_by="s")["reference"]["JS metric"] == 0.0


def test_a_collapsed_model_has_finite_reference_numbers():
    """exp(2000) is no float: the released code would write NaN, here the rescaled vectors are compared."""
    log, gold = make_log(seed=3), make_log(seed=4)
    task = log["eval_log_forget.json"]
    task["average_perturb_loss"] = {row: [2000.0] * len(losses) for row, losses in task["average_perturb_loss"].items()}
    row = leaderboard_row(log, gold, method="m", submitted_by="s")
    assert all(math.isfinite(value) for value in row["reference"].values() if isinstance(value, float))
    assert row["reference"]["Truth Ratio Forget"] == 0.0
    json.dumps(row, allow_nan=False)
