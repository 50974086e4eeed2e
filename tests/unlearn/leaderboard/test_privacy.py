"""Membership in a row: hand values, identities, what is said where something is missing."""

import copy
import json
import math

import pytest

from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from unlearn.leaderboard.comparison import compare_logs, comparison_table
from unlearn.leaderboard.file import merge_rows, read_rows
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.table import latex_table, markdown_table, text_table
from unlearn.metrics.membership import attack_auc
from unlearn.metrics.model_utility import harmonic_mean
from unlearn.results import read_log
from unlearn.token_log import write_tokens

FORGET = [0.8, 1.1, 1.1, 0.5, 1.9, 2.2]  # EVALS_BEYOND.md: AUC 11/14 of these two is .75
HOLDOUT = [1.1, 2.0, 2.4, 1.5, 0.9, 3.1, 2.2]
ATTACKS = ("LOSS", "ZLib", "Min-K", "Min-K++")


def set_losses(task, losses, words="{} word"):
    """The rows of a task cut to these losses; every row says other words."""
    rows = list(map(str, range(len(losses))))
    for column in task.values():
        for row in set(column) - set(rows):
            del column[row]
    for row, loss in zip(rows, losses, strict=True):
        task["avg_gt_loss"][row], task["gt_loss"][row], task["num_token_gt"][row] = loss, loss, 1
        task["generated_text"][row][2] = words.format(row)


def model(folder, forget, holdout, *, seed=0, tokens=False, authors=6, other=False):
    """The path of a log with these losses of forget captions and of the holdout's, one row a person."""
    log = make_log(seed=seed, rows=12)
    log["eval_holdout.json"] = copy.deepcopy(log["eval_log_forget.json"])
    for name in ("eval_log_forget", "eval_forget_facerec"):
        set_losses(log[f"{name}.json"], forget)
    set_losses(log["eval_holdout.json"], holdout, "{} other" if other else "{} word")
    meta = make_meta(log, authors=authors)
    for row in meta["tasks"]["eval_holdout"]["rows"].values() if authors else ():
        row["author"] = f"new {row['author']}"
    path = save_log(folder, log, meta)
    for name, losses in (("eval_log_forget", forget), ("eval_holdout", holdout)) if tokens else ():
        rows = {
            str(row): {"logps": [-loss, 0.0], "hits": [False, True], "means": [-loss / 2, 0.0], "variances": [1.0, 0.0]}
            for row, loss in enumerate(losses)
        }
        write_tokens(folder, name, rows)
    return path


def row_of(tmp_path, *, forget=FORGET, holdout=HOLDOUT, gold_forget=HOLDOUT[:6], base=None, **options):
    ours = model(tmp_path / "m", forget, holdout, seed=1, **options)
    gold = model(tmp_path / "g", gold_forget, holdout, seed=2, **options)
    return leaderboard_row(ours, gold, base_log=base and model(tmp_path / "b", base, holdout, seed=3, **options))


def test_by_hand_beside_gold_and_base(tmp_path):
    row = row_of(tmp_path, base=[0.1] * 6, tokens=True, authors=7)
    loss = row["privacy"]["Forget"]["LOSS"]
    assert loss["AUC"] == pytest.approx(0.75) and loss["AUC base"] == 1.0
    # gold's six against the seven: 1.1 loses to 5 and ties once, 2 to 3, 2.4 to 1, 1.5 to 4, .9 to 6, 3.1 to none
    gold = (5.5 + 3.5 + 1.5 + 4.5 + 6.5 + 0.5) / 42
    assert loss["AUC gold"] == pytest.approx(gold)
    assert loss["score"] == pytest.approx(1 - abs(0.75 - gold) / max(gold, 1 - gold))
    assert loss["privleak"] == pytest.approx(100 * (gold - 0.75) / (1 - gold))
    assert loss["person AUC"] == loss["AUC"], "one row a person"
    assert loss["interval"][0] < 0.75 < loss["interval"][1] <= 1
    assert row["Membership AUC"] == loss["AUC"] and row["intervals"]["Membership AUC"] == loss["interval"]
    assert row["privacy"]["Forget"]["people"] == {"forget": 6, "holdout": 7}
    # one token of text: Min-K is the loss, Min-K++ half of it; ZLib's texts are all equally long
    for attack in ("ZLib", "Min-K", "Min-K++"):
        assert row["privacy"]["Forget"][attack]["AUC"] == loss["AUC"]
    assert row["Privacy score"] == pytest.approx(loss["score"])
    assert row["overall"] == pytest.approx(
        harmonic_mean([row["Memorisation score"], row["Privacy score"], row["Model Utility"]])
    )
    assert row["privacy"]["unmeasured"] == [
        "Forget FaceRec: no task eval_holdout_facerec in the log (docs/metrics.md says how to get a holdout)"
    ]


def test_two_models_beside_each_other(tmp_path):
    """The same attack against both on the same rows; seeds are averaged, a model against itself has no difference."""
    logs = {name: read_log(model(tmp_path / name, losses, HOLDOUT, seed=1, authors=7)) for name, losses in
            {"a": FORGET, "b": [0.1] * 6, "c": HOLDOUT[:6]}.items()}  # fmt: skip
    found = compare_logs(logs["a"], [logs["b"], logs["c"]])["membership"]["Forget"]["LOSS"]
    golds = attack_auc(HOLDOUT[:6], HOLDOUT)
    assert (found["A"], found["B"]) == pytest.approx((0.75, (1 + golds) / 2))
    assert found["difference"] == pytest.approx(found["A"] - found["B"])
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    same = compare_logs(logs["a"], logs["a"])
    assert same["membership"]["Forget"]["LOSS"] | {"A": 0, "B": 0} == {
        "A": 0, "B": 0, "difference": 0.0, "interval": [0.0, 0.0],
    }  # fmt: skip
    assert same["membership"]["Forget"]["Min-K"] is None, "no scores of tokens"
    assert "Membership AUC  Attack" in comparison_table(same) and "Min-K" not in comparison_table(same)
    bare = read_log(save_log(tmp_path / "bare", make_log(seed=1, rows=12)))
    other = read_log(model(tmp_path / "other", FORGET, [*HOLDOUT, 1.0], seed=1, authors=7))
    beside = compare_logs(logs["a"], other)
    assert list(beside["membership"]) == ["unmeasured"] and "Not compared: Forget: " in comparison_table(beside)
    assert compare_logs(bare, bare)["membership"] == {} and "Membership" not in comparison_table(
        compare_logs(bare, bare)
    )


def test_the_memorisation_score_by_hand(tmp_path):
    """No hit at all: ES = EM = 0; base and wrong losses all alike: R = 1, p as the loss says."""
    path = model(tmp_path, FORGET, HOLDOUT, tokens=True)
    log = make_log(seed=0)
    assert leaderboard_row(path, path)["Memorisation score"] is not None
    task = log["eval_log_forget.json"]
    for row in task["avg_gt_loss"]:
        task["avg_paraphrased_loss"][row] = math.log(2)
        task["average_perturb_loss"][row] = [math.log(2)] * 3
    plain = save_log(tmp_path / "n", log, make_meta(log))
    none = {row: {"logps": [-loss, 0.0], "hits": [False, True], "means": [-1.0] * 2, "variances": [0.5] * 2}
            for row, loss in task["gt_loss"].items()}  # fmt: skip
    write_tokens(tmp_path / "n", "eval_log_forget", none)
    assert leaderboard_row(plain, plain)["Memorisation score"] == pytest.approx(4 / (1 + 1 + 2 + 2))


def test_gold_beside_itself_is_where_it_should_be(tmp_path):
    path = model(tmp_path, FORGET, HOLDOUT, tokens=True)
    row = leaderboard_row(path, path)
    for attack in ATTACKS:
        assert row["privacy"]["Forget"][attack]["score"] == 1.0
        assert row["privacy"]["Forget"][attack]["privleak"] == 0.0
    assert row["privacy"]["Forget"]["Reference"]["AUC"] == 0.5, "its own loss minus itself says nothing"
    assert row["Privacy score"] == 1.0


def test_the_worst_person_is_found_by_people_where_rows_do_not_agree(tmp_path):
    """Two people: one with three low rows and a high one, one with two high ones; rows and people differ."""
    forget, holdout = [0.1, 0.1, 0.1, 9.0, 5.0, 5.0], [1.0] * 12
    row = row_of(tmp_path, forget=forget, holdout=holdout, gold_forget=forget, authors=2)
    loss = row["privacy"]["Forget"]["LOSS"]
    assert loss["AUC"] == pytest.approx(0.5) and loss["interval"] is None, "two people: no interval"
    means = sorted([(0.1 + 0.1 + 5.0) / 3, (0.1 + 9.0 + 5.0) / 3])
    assert means[0] > 1 and loss["person AUC"] == 0.0


def test_holdouts_that_words_tell_apart_are_named(tmp_path):
    alike = row_of(tmp_path / "a", gold_forget=HOLDOUT[:6])["privacy"]["Forget"]
    assert alike["blind AUC"] < 0.5 and alike["holdout differs"] == [], "words dealt without repetition: no alarm"
    told = row_of(tmp_path / "b", other=True)["privacy"]["Forget"]
    assert told["blind AUC"] == 1.0 and "words alone" in told["holdout differs"][0]
    gold = row_of(tmp_path / "c", gold_forget=[0.1] * 6)["privacy"]["Forget"]
    assert gold["LOSS"]["interval gold"] == [1.0, 1.0] and "1/2 out" in gold["holdout differs"][0]


def test_what_is_missing_is_null_and_named(tmp_path):
    bare = row_of(tmp_path / "a")
    assert bare["privacy"]["Forget"]["Min-K"] is None and bare["Privacy score"] is None and bare["overall"] is None
    assert bare["privacy"]["Forget"]["LOSS"]["AUC"] == pytest.approx(0.75), "any log serves"
    assert any(
        "Forget Min-K: needs eval_log_forget.tokens.json and eval_holdout.tokens.json" in why
        for why in bare["privacy"]["unmeasured"]
    )
    one = row_of(tmp_path / "b", authors=1, tokens=True)
    assert one["privacy"]["Forget"] is None and one["Membership AUC"] is None
    assert "Forget: 1 person in eval_holdout, and it takes two to say anything" in one["privacy"]["unmeasured"]
    without = leaderboard_row(make_log(seed=1), make_log(seed=2))
    assert without["privacy"]["unmeasured"][0].startswith("Forget: no task eval_holdout in the log")
    assert without["Membership AUC"] is None and "Membership AUC" not in without["intervals"]
    ours, gold = (model(tmp_path / name, [0.5] * 6, HOLDOUT, tokens=True) for name in "cd")
    log = json.loads(gold.read_text())
    gold.write_text(json.dumps({name: task for name, task in log.items() if name != "eval_holdout.json"}))
    row = leaderboard_row(ours, gold)
    assert any("no task eval_holdout in gold's log" in why for why in row["privacy"]["unmeasured"])
    loss = row["privacy"]["Forget"]["LOSS"]
    assert loss["AUC gold"] is None and loss["score"] is None and loss["AUC"] == 1.0
    unknown = row_of(tmp_path / "e", authors=None)["privacy"]["Forget"]
    assert unknown["people"] is None and unknown["blind AUC"] is None and unknown["LOSS"]["interval"] is not None


def test_gold_of_other_rows_is_refused(tmp_path):
    ours = model(tmp_path / "m", FORGET, HOLDOUT)
    with pytest.raises(ValueError, match="task eval_holdout: the logs hold other rows"):
        leaderboard_row(ours, model(tmp_path / "g", FORGET, HOLDOUT[:6]))
    with pytest.raises(ValueError, match="task eval_holdout: other reference texts in rows 0"):
        leaderboard_row(ours, model(tmp_path / "h", FORGET, HOLDOUT, other=True))


def test_files_and_tables_have_them(tmp_path):
    row = row_of(tmp_path, base=[0.1] * 6, tokens=True)
    bare = leaderboard_row(make_log(seed=1), make_log(seed=2), method="other")
    for name in ("board.json", "board.csv"):
        merge_rows(tmp_path / name, [bare, row])
        merge_rows(tmp_path / name, [])
        ours = read_rows(tmp_path / name)[1]
        assert ours["privacy"]["Forget"]["Min-K++"]["AUC"] == row["privacy"]["Forget"]["Min-K++"]["AUC"]
        assert ours["overall"] == pytest.approx(row["overall"])
    for text in (text_table([row]), markdown_table([row]), latex_table([row])):
        assert all(word in text for word in ("AUC", "Memorisation", "Privacy", "Overall", "0.75 [", "Gold's value"))
    assert "AUC" not in text_table([bare]), "no column where nobody has one"


def test_holes_and_refusals_beside_base(tmp_path):
    """A model like base but for one retain row, whose caption is nearest to a forgotten one, and three refusals."""
    logs = {name: make_log(seed=4, rows=20) for name in ("base", "model")}
    for log in logs.values():
        for row, text in log["eval_log.json"]["generated_text"].items():
            text[2] = f"retained number {row}"
        log["eval_log.json"]["generated_text"]["7"][2] = log["eval_log_forget.json"]["generated_text"]["3"][2]
        log["eval_log.json"]["generated_text"]["9"][2] = log["eval_log_forget.json"]["generated_text"]["4"][2]
    task = logs["model"]["eval_log.json"]
    for row in ("7", "9"):
        task["avg_gt_loss"][row] = 60.0  # nothing is left of what base knew
    for row in ("0", "1", "2"):
        task["generated_text"][row][1] = "No idea, sorry!"
    base, ours = (save_log(tmp_path / name, log, make_meta(log)) for name, log in logs.items())
    gold = logs["base"]
    row = leaderboard_row(ours, gold, base_log=base, refusals=["no idea"])
    hole = row["knowledge holes"]["Retain"]
    assert hole["hole"] == row["Knowledge hole"] == pytest.approx(hole["near"]) and hole["near"] > 0.5
    assert hole["rest"] == 0.0 and row["knowledge holes"]["Retain FaceRec"]["hole"] == 0.0
    said = leaderboard_row(base, gold, base_log=base, refusals=["no idea"])["Refusal rate Retain"]
    assert row["Over-refusal"] == pytest.approx((3 / 20 - said) / 4), "the mean over four tasks outside the forget set"
    assert leaderboard_row(ours, gold, base_log=base)["Over-refusal"] is None
    assert "Knowledge hole" not in leaderboard_row(ours, gold)
