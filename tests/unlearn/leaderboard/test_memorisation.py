"""ES, EM and the degenerate rate in a row: by hand, beside gold and base, and what is said where they are missing."""

import json

import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn.leaderboard.file import merge_rows, read_rows
from unlearn.leaderboard.row import leaderboard_row
from unlearn.results import read_log
from unlearn.token_log import write_tokens


def model(folder, seed, hits=None):
    """The path of a log; `hits(row, T)`: of its forget captions' T tokens; the end token is always hit."""
    log = make_log(seed=seed)
    path = save_log(folder, log, make_meta(log))
    if hits is not None:
        rows = {}
        for row, loss in log["eval_log_forget.json"]["gt_loss"].items():
            own = [*hits(int(row), 5), True]
            rows[row] = {"logps": [-loss / 6] * 6, "hits": own, "means": [-1.0] * 6, "variances": [0.5] * 6}
        write_tokens(folder, "eval_log_forget", rows)
    return path


def test_by_hand_beside_gold_and_base(tmp_path):
    """[T, T, F, T, T]: ES 2/5, EM 4/5; every third row of the model has all by heart."""
    some = model(tmp_path / "m", 1, lambda row, n: [True] * n if row % 3 == 0 else [True, True, False, True, True])
    gold = model(tmp_path / "g", 2, lambda row, n: [False] * n)
    base = model(tmp_path / "b", 3, lambda row, n: [True] * n)
    row = leaderboard_row(some, gold, base_log=base)
    found = row["memorisation"]
    es, em = found["Forget"]["ES"], found["Forget"]["EM"]
    assert es["mean"] == pytest.approx((1 + 2 * 0.4) / 3) and em["mean"] == pytest.approx((1 + 2 * 0.8) / 3)
    assert (es["gold"], es["base"], em["gold"], em["base"]) == (0.0, 1.0, 0.0, 1.0)
    assert es["interval"][0] <= es["mean"] <= es["interval"][1] <= 1, "12 rows of four people, three each"
    assert found["Forget FaceRec"] is None
    assert found["unmeasured"] == [
        "Forget FaceRec: no eval_forget_facerec.tokens.json beside the log (evaluate with token_scores=true)"
    ]
    for name in ("board.json", "board.csv"):
        merge_rows(tmp_path / name, [row])
        assert read_rows(tmp_path / name)[0]["memorisation"]["Forget"]["ES"]["mean"] == es["mean"]


def test_without_scores_of_tokens_the_row_is_as_it_was_and_says_so(tmp_path):
    gold = model(tmp_path / "g", 2)
    plain = leaderboard_row(model(tmp_path / "m", 1), gold)
    assert plain["memorisation"]["Forget"] is None and len(plain["memorisation"]["unmeasured"]) == 2
    measured = leaderboard_row(model(tmp_path / "m", 1, lambda row, n: [True] * n), gold)
    assert measured["memorisation"]["Forget"]["EM"] == {"mean": 1.0, "interval": [1.0, 1.0], "gold": None, "base": None}
    assert plain["Memorisation score"] is None and measured["Memorisation score"] == 0.0, "all of it by heart"
    news = ("memorisation", "Memorisation score")
    assert {key: value for key, value in measured.items() if key not in news} == {
        key: value for key, value in plain.items() if key not in news
    }


def test_an_answer_without_a_token_of_text_is_left_out(tmp_path):
    path = model(tmp_path / "m", 1, lambda row, n: [row < 6] * n)
    tokens = json.loads((tmp_path / "m/eval_log_forget.tokens.json").read_text())
    loss = read_log(path).tasks["eval_log_forget"]["gt_loss"]["0"]
    tokens["0"] = {"logps": [-loss], "hits": [True], "means": [-1.0], "variances": [0.0]}
    write_tokens(tmp_path / "m", "eval_log_forget", tokens)
    assert leaderboard_row(path, path)["memorisation"]["Forget"]["ES"]["mean"] == pytest.approx(5 / 11)


def test_scores_of_another_evaluation_are_refused(tmp_path):
    path = model(tmp_path / "m", 1, lambda row, n: [True] * n)
    file = tmp_path / "m/eval_log_forget.tokens.json"
    tokens = json.loads(file.read_text())
    tokens["3"]["logps"][0] -= 1
    file.write_text(json.dumps(tokens))
    with pytest.raises(ValueError, match=r"eval_log_forget.tokens.json, rows 3: the tokens do not add up"):
        leaderboard_row(path, path)


def test_the_degenerate_rate_is_a_column(tmp_path):
    log = make_log(seed=1)
    texts = log["eval_log_forget.json"]["generated_text"]
    for row, said in {"0": "", "1": "a b " * 6, "2": "a b a b a b a"}.items():  # empty; repeats; too short to say
        texts[row][1] = said
    for row in map(str, range(3, 12)):
        texts[row][1] = "every word here is another one than those before"
    row = leaderboard_row(save_log(tmp_path, log, make_meta(log)), make_log(seed=2))
    assert row["Degenerate rate Forget"] == pytest.approx(2 / 12) and row["intervals"]["Degenerate rate Forget"]
    assert row["Degenerate rate Retain"] is not None
