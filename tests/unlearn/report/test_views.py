"""What each view says, by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from tests.unlearn.report.logs import NLP, PEOPLE, Model, write_board, write_run
from unlearn.leaderboard.comparison import compare_logs
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.table import Entry
from unlearn.metrics.membership import attack_auc
from unlearn.report.answers import answers, evenly, fate
from unlearn.report.authors import authors, means_by_author
from unlearn.report.board import distinct_labels, load_boards
from unlearn.report.compare import compare
from unlearn.report.cost import cost
from unlearn.report.curves import curves, quantities_of, thin
from unlearn.report.ecdf import ecdf, ks_gap
from unlearn.report.privacy import privacy, roc
from unlearn.report.table import table
from unlearn.report.thumbnails import Thumbnails, data_uri
from unlearn.report.tradeoff import bar, pareto, tradeoff
from unlearn.report.training import load_trainings, read_lines
from unlearn.results import read_log


@pytest.fixture(scope="module")
def loaded(board):
    root, rows = board
    (one,) = load_boards(rows, root)
    return one


def column(shown, label, key):
    return next(line for line in shown["lines"] if line["label"] == label)["cells"][key]


def test_pareto_line_rewards_keeping_and_forgetting_down_to_gold():
    keeps_most, better, dominated, beyond, further_beyond = (0.9, 0.8), (0.7, 0.4), (0.6, 0.5), (0.5, 0.1), (0.3, 0.0)
    points = [dominated, further_beyond, keeps_most, beyond, better]
    assert pareto(points, goal=0.2) == [
        keeps_most,
        better,
        beyond,
    ]  # 0.0 is no gain over 0.1: both lie below gold's 0.2
    assert pareto(points, goal=None) == [keeps_most, better, beyond, further_beyond]
    assert pareto([(0.5, 0.3), (0.5, 0.2)], goal=None) == [(0.5, 0.2)]
    assert pareto([], goal=0.2) == []


def test_bars_are_the_interval_of_one_run_and_the_spread_of_several():
    def entry(seeds, spread, intervals):
        return Entry("npo", "model", "mm", "", seeds, {"Retain metric": 0.6}, spread, intervals, False, None)

    assert bar(entry(1, {}, {"Retain metric": [0.5, 0.8]}), "Retain metric") == [0.5, 0.8]
    assert bar(entry(1, {}, {"Retain metric": [0.5, None]}), "Retain metric") is None
    assert bar(entry(3, {"Retain metric": 0.1}, {}), "Retain metric") == pytest.approx([0.5, 0.7])


def test_tradeoff_leaves_rows_that_kept_too_little_off_the_line(loaded):
    picture = tradeoff(loaded)["paper"]
    points = {point["label"]: point for point in picture["points"]}
    assert points["grad_ascent"]["low_retain"] and points["npo"]["seeds"] == 3
    assert (points["grad_ascent"]["x"], points["grad_ascent"]["y"]) not in picture["line"]
    assert picture["points"][0]["role"] == "gold" and picture["points"][1]["role"] == "base"


def test_table_pools_seeds_and_shows_both_definitions(board, loaded):
    _, rows = board
    npo = [row for row in rows if row["method"] == "npo"]
    shown = table(loaded)
    for definition, values in (("paper", npo), ("reference", [row["reference"] for row in npo])):
        for key in ("Forget metric", "Forget Quality"):
            numbers = [row[key] for row in values]
            cell = column(shown[definition], "npo", key)
            assert cell["value"] == pytest.approx(np.mean(numbers))
            assert cell["bar"][1] - cell["value"] == pytest.approx(np.std(numbers, ddof=1))
    assert column(shown["paper"], "idk", "Forget metric")["bar"] == rows[3]["intervals"]["Forget metric"]
    assert column(shown["reference"], "idk", "Forget metric")["bar"] is None
    assert "Null floor" not in [one["key"] for one in shown["reference"]["columns"]]  # the released code has none
    assert column(shown["reference"], "gold (retain90)", "Forget Quality")["value"] == pytest.approx(1.0)


def test_reference_numbers_of_base_are_its_own(board, loaded):
    root, rows = board
    gold, base = root / rows[0]["logs"]["gold"], root / rows[0]["logs"]["base"]
    own = leaderboard_row(base, gold)["reference"]
    assert column(table(loaded)["reference"], "base (full)", "Forget metric")["value"] == pytest.approx(
        own["Forget metric"]
    )
    assert column(table(loaded)["reference"], "base (full)", "Forget Quality")["value"] == pytest.approx(
        own["Forget Quality"]
    )


def test_ks_gap_by_hand_and_against_scipy():
    # after 0.3 the model has 3/4 of its items and gold 1/4
    assert ks_gap([0.1, 0.2, 0.3, 0.9], [0.15, 0.5, 0.6, 0.7]) == {
        "at": 0.3,
        "model": 0.75,
        "gold": 0.25,
        "distance": 0.5,
    }
    assert ks_gap([0.5, 0.5], [0.5, 0.5])["distance"] == 0
    random = np.random.default_rng(0)
    for _ in range(20):
        model, gold = np.round(random.random(30), 1), np.round(random.random(50) ** 2, 1)  # ties
        assert ks_gap(model, gold)["distance"] == pytest.approx(ks_2samp(model, gold).statistic)


def test_ecdf_agrees_with_the_rows(board, loaded):
    _, rows = board
    shown = {panel["label"]: panel["ks"]["distance"] for panel in ecdf(loaded)["panels"]}
    for row in rows[3:]:
        assert shown[row["method"]] == pytest.approx(row["KS statistic"])
    assert {f"npo · seed {seed}" for seed in (1, 2, 3)} <= shown.keys() and "base (full)" in shown


@pytest.mark.parametrize(
    ("model", "base", "gold", "forget", "expected"),
    [
        (0.2, 1.0, 0.2, True, "forgotten"), (0.59, 1.0, 0.2, True, "forgotten"), (0.6, 1.0, 0.2, True, "kept"),
        (0.09, 1.0, 0.2, True, "over-forgotten"), (0.11, 1.0, 0.2, True, "forgotten"),
        (0.3, 0.25, 0.2, True, "never learned"),
        (0.0, 0.25, 0.2, True, "over-forgotten"), (0.0, 0.05, 0.5, True, "never learned"),
        (0.9, 1.0, 1.0, False, "kept"),
        (0.5, 1.0, 1.0, False, "over-forgotten"), (0.0, 0.0, 1.0, False, "never learned"),
        (0.35, None, 0.2, True, "kept"),
        (0.25, None, 0.2, True, "forgotten"), (0.0, None, 0.2, True, "over-forgotten"), (0.2, None, 0.2, False, "kept"),
    ],
)  # fmt: skip
def test_fate(model, base, gold, forget, expected):
    assert fate(model, base, gold, forget=forget) == expected


def test_answers_are_the_logs_and_the_budget_thins_rows_but_not_the_shares(board, loaded):
    root, rows = board
    shown, thinned = (answers(loaded, Thumbnails(0), budget) for budget in (10**6, 30_000))
    (task,) = [task for task in shown["tasks"] if task["label"] == "Forget FaceRec"]
    texts = read_log(root / rows[3]["logs"]["model"]).tasks["eval_forget_facerec"]["generated_text"]
    place = [run["label"] for run in shown["runs"]].index("idk")
    assert [card["answers"][place][0] for card in task["rows"]] == [texts[card["id"]][1] for card in task["rows"]]
    assert [card["id"] for card in task["rows"]] == [str(row) for row in range(24)]
    assert shown["tasks"][0]["forget"] and not shown["tasks"][-1]["forget"]
    few = next(task for task in thinned["tasks"] if task["label"] == "Forget FaceRec")
    assert 5 <= len(few["rows"]) < 24 and few["total"] == 24 and few["fates"] == task["fates"]
    assert all(sum(share.values()) == 24 for share in task["fates"].values())
    assert evenly(list("abcdef"), 3) == ["a", "c", "e"] and evenly(list("ab"), 3) == ["a", "b"]


def test_over_long_answers_are_cut(tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=6)
    log = tmp_path / rows[0]["logs"]["model"]
    tasks = json.loads(log.read_text())
    tasks["eval_log_forget.json"]["generated_text"]["0"][1] = "word " * 5000
    log.write_text(json.dumps(tasks))
    shown = answers(load_boards(rows, tmp_path)[0], Thumbnails(0), 10**6)
    (text,) = {card["answers"][-1][0] for card in shown["tasks"][0]["rows"] if card["id"] == "0"}
    assert 600 <= len(text) <= 602 and text.endswith("…")


def test_authors_are_means_over_a_persons_items(loaded):
    assert means_by_author(np.array([0.0, 1.0, 0.5]), ["a", "b", "a"]) == {"a": 0.25, "b": 1.0}
    shown = authors(loaded)
    task = shown["tasks"][0]
    assert task["label"] == "Forget" and task["authors"] == sorted(PEOPLE) and task["items"] == [3] * 8
    place = shown["runs"].index("scrub")
    scores = next(run for run in loaded.runs if run.label == "scrub").measured.scores.items["ROUGE Forget"]
    for line, author in enumerate(task["authors"]):
        own = scores[[PEOPLE.index(author) + 8 * time for time in range(3)]]
        assert task["metrics"]["ROUGE"][line][place] == pytest.approx(own.mean(), abs=1e-4)


def test_curves_and_costs_are_what_the_run_left(board, loaded):
    root, _ = board
    trainings, notes = load_trainings(loaded, root)
    shown, costs = curves(loaded, trainings), cost(loaded, trainings)
    assert notes == [] and shown["names"][:3] == ["loss", "parts/forget", "parts/retain"]
    run = next(run for run in shown["runs"] if run["label"] == "npo · seed 2")
    lines = [json.loads(line) for line in (root / "npo_2/train_log.jsonl").read_text().splitlines()]
    assert run["quantities"]["loss"]["step"] == list(range(1, 31))
    assert run["quantities"]["loss"]["value"] == pytest.approx([line["loss"] for line in lines[:-1]], rel=1e-4)
    line = next(line for line in costs["lines"] if line["label"] == "npo · seed 2")
    assert line["train_seconds"] == 115.0 and line["train_steps"] == 30 and line["items"] == 6 * 24
    assert line["eval_seconds"] == pytest.approx(6 * 24 * 0.21) and line["eval_memory"] == 1482.0
    assert line["items_per_second"] == pytest.approx(1 / 0.21) and line["tokens_per_item"] == 9


def test_long_curves_are_thinned_and_keep_their_ends():
    assert thin([1.0, 2.0], 5) == [1.0, 2.0]
    many = thin([float(value) for value in range(1000)], 100)
    assert len(many) == 101 and many[0] == 0 and many[-1] == 999
    found = quantities_of([{"loss": 1.0, "step": 5, "epoch": 0.1}, {"train_runtime": 3.0, "step": 5}])
    assert found == {"loss": {"step": [5], "value": [1.0]}}


def test_curves_of_a_model_that_was_trained_again_are_left_out(tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4)
    record = tmp_path / "npo_0/run.json"
    record.write_text(record.read_text().replace("hash-npo_0", "another"))
    with (tmp_path / "full_0/train_log.jsonl").open("a") as log:
        log.write('{"loss": 0.')
    (one,) = load_boards(rows, tmp_path)
    found, notes = load_trainings(one, tmp_path)
    assert list(found) == ["gold (retain90)"]
    assert "trained again" in notes[1] and "line 32" in notes[0] and "cut off" in notes[0]
    with pytest.raises(ValueError, match="line 32"):
        read_lines(tmp_path / "full_0/train_log.jsonl")


def test_labels_say_no_more_than_needed():
    def rows(*settings):
        return [dict(zip(("method", "modality", "seed", "settings_hash"), one, strict=True)) for one in settings]

    assert distinct_labels(rows(("npo", "both", 1, "a"), ("idk", "both", 1, "b"))) == ["npo", "idk"]
    assert distinct_labels(rows(("npo", "both", 1, "a"), ("npo", "text", 1, "b"))) == ["npo · both", "npo · text"]
    assert distinct_labels(rows(("npo", "both", 1, "a"), ("npo", "both", 2, "b"), ("npo", "text", 1, "c"))) == [
        "npo · both · seed 1", "npo · both · seed 2", "npo · text",
    ]  # fmt: skip
    assert distinct_labels(rows(("npo", None, 1, "a"), ("npo", None, 1, "b"))) == ["npo · a", "npo · b"]
    assert distinct_labels(rows(("npo", None, None, None), ("npo", None, None, None))) == ["npo · 1", "npo · 2"]


def test_comparisons_with_other_golds_and_tracks_stand_apart(tmp_path):
    gold, base = Model("retain95", 0.0, 0.9, seed=9), Model("full", 0.9, 0.9, seed=9)
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4)
    rows += write_board(tmp_path, [Model("npo", 0.5, 0.9, seed=9)], gold=gold, base=base, items=4)
    rows += write_board(tmp_path, [Model("npo", 0.5, 0.9)], track=NLP, items=4, prefix="nlp_")
    boards = load_boards(rows, tmp_path)
    assert [one.track.name for one in boards] == ["mm", "mm", "nlp"]
    assert len({one.title for one in boards}) == 3
    assert (
        tradeoff(boards[2])["reference"] is None and tradeoff(boards[2])["paper"]
    )  # the released nlp code has no such means
    cell = column(table(boards[2])["reference"], "npo", "Forget Quality")
    assert cell["value"] == pytest.approx(rows[2]["reference"]["Forget Quality"])


def test_a_log_of_other_rows_is_left_out_and_named(tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=6)
    write_run(tmp_path / "npo_0", Model("npo", 0.5, 0.9), items=5)  # evaluated again on fewer rows
    (one,) = load_boards(rows, tmp_path)
    (problem,) = [run.problem for run in one.runs if run.problem]
    assert "other rows" in problem and [run.role for run in one.readable] == ["gold", "base"]


def test_pictures_are_embedded_once_within_the_budget_and_only_from_their_folder(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    jpeg = b"\xff\xd8\xff" + bytes(100)
    for name, content in {"a.jpg": jpeg, "same.jpg": jpeg, "b.jpg": jpeg + b"!", "page.jpg": b"<html>"}.items():
        (folder / name).write_bytes(content)
    (tmp_path / "secret.jpg").write_bytes(jpeg)
    assert data_uri(folder, "../secret.jpg") is None and data_uri(folder, "page.jpg") is None
    uri = data_uri(folder, "a.jpg")
    assert uri.startswith("data:image/jpeg;base64,/9j/")
    pictures = Thumbnails(len(uri))
    pictures.look_in([tmp_path / "gone", folder])
    keys = [pictures.add(name) for name in ("a.jpg", "same.jpg", "a.jpg", "b.jpg", "none.jpg", None)]
    assert keys == ["p0", "p0", "p0", None, None, None] and pictures.embedded == {"p0": uri}
    assert (pictures.left_out, pictures.missing) == (1, 1)


def test_the_area_under_a_roc_curve_is_the_auc_of_the_attack():
    forget, holdout = [0.8, 1.1, 1.1, 0.5, 1.9, 2.2], [1.1, 2.0, 2.4, 1.5, 0.9, 3.1, 2.2]
    curve = roc(forget, holdout)
    assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve["y"], curve["x"]) == pytest.approx(attack_auc(forget, holdout), abs=1e-3)
    assert roc([1.0], [1.0]) == {"x": [0.0, 1.0], "y": [0.0, 1.0]}


def test_privacy_shows_what_the_rows_say(board, loaded):
    _, rows = board
    shown = privacy(loaded)
    assert [task["label"] for task in shown["tasks"]] == ["Forget", "Forget FaceRec"]
    task = shown["tasks"][0]
    assert task["people"] == {"forget": 8, "holdout": 8} and len(task["runs"]) == 8
    scrub = task["runs"][-1]
    assert scrub["attacks"]["LOSS"]["auc"] == rows[-1]["privacy"]["Forget"]["LOSS"]["AUC"]
    assert set(scrub["attacks"]) == {"LOSS", "ZLib", "Reference"}, "no scores of tokens, no Min-K"
    assert np.trapezoid(scrub["y"], scrub["x"]) == pytest.approx(scrub["attacks"]["LOSS"]["auc"], abs=2e-3)


def test_compare_says_of_two_runs_what_the_command_says(board, loaded):
    root, rows = board
    shown = compare(loaded)
    labels = [run["label"] for run in shown["runs"]]
    assert len(shown["pairs"]) == 8 * 7 / 2 and shown["left_out"] == 0
    a, b = labels.index("gold (retain90)"), labels.index("scrub")
    logs = {name: read_log(root / rows[-1]["logs"][name]) for name in ("model", "gold", "base")}
    found = compare_logs(logs["gold"], logs["model"], gold=logs["gold"], base=logs["base"])["numbers"]
    assert list(found) == shown["names"]
    for place, (name, one) in enumerate(found.items()):
        difference, low, high, verdict, needed = shown["pairs"][f"{a}-{b}"][name]
        assert [difference, low, high] == pytest.approx([one["difference"], *one["interval"]], abs=1e-4)
        assert (verdict, needed) == (one["verdict"], one["people needed"])
        leakage = one["leakage"] or {"A": None, "B": None}
        assert (shown["runs"][a]["leakage"][place], shown["runs"][b]["leakage"][place]) == (
            leakage["A"], leakage["B"] and pytest.approx(leakage["B"], abs=1e-4)
        )  # fmt: skip


def test_ecdf_needs_gold():
    assert ecdf(SimpleNamespace(run_of=lambda role: None)) is None
