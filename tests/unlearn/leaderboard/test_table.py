"""What is printed and drawn: pooling of seeds, gold and base on top, flags, and the three formats."""

import copy

import pytest
from PIL import Image

from tests.unlearn.metrics.synthetic import make_log, make_meta
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.table import entries, latex_table, markdown_table, text_table
from unlearn.report.scatter import trade_off_picture
from unlearn.results import as_log


@pytest.fixture(scope="module")
def logs():
    gold = make_log(seed=2, rows=20, forget=0.2)
    return {
        "gold": as_log(gold, make_meta(gold, method="retain90+tofu", model="g")),
        "base": as_log(make_log(seed=3, rows=20, forget=2.5)),
    }


@pytest.fixture(scope="module")
def row(logs):
    log = make_log(seed=1, rows=20, forget=0.6)
    return leaderboard_row(as_log(log, make_meta(log, method="my_npo")), logs["gold"], base_log=logs["base"])


def varied(row, **changes):
    return {**copy.deepcopy(row), **changes}


def test_gold_and_base_come_first_although_they_have_no_row(row):
    lines = entries([row, varied(row, method="dpo")])
    assert [(line.role, line.label) for line in lines] == [
        ("gold", "gold (retain90+tofu)"), ("base", "base (model)"), ("model", "my_npo"), ("model", "dpo"),
    ]  # fmt: skip
    assert lines[0].numbers["Forget Quality"] == 1.0
    assert lines[0].numbers["Forget metric"] == row["gold"]["Forget metric"]


def test_gold_with_a_row_of_its_own_is_shown_once(row):
    row = varied(row, gold={**row["gold"], "log": "gold.json"}, logs={"model": "npo.json", "gold": "gold.json"})
    gold = varied(row, method="retain90+tofu", logs={"model": "gold.json", "gold": "gold.json"}, base=None)
    assert [line.role for line in entries([row, gold])] == ["gold", "base", "model"]


def test_seeds_are_pooled(row):
    rows = [varied(row, seed=seed, **{"Retain metric": value}) for seed, value in ((0, 0.5), (1, 0.6), (2, 0.7))]
    *_, line = entries(rows)
    assert (line.seeds, line.intervals) == (3, {})
    assert line.numbers["Retain metric"] == pytest.approx(0.6)
    assert line.spread["Retain metric"] == pytest.approx(0.1), "the sample standard deviation"
    assert "0.60 ± 0.10" in text_table(rows)
    assert "standard deviation over seeds" in text_table(rows)


def test_runs_that_share_a_seed_or_have_none_stay_apart(row):
    same = [varied(row, seed=1, settings_hash=name) for name in ("aa", "bb")]
    assert [line.label for line in entries(same)[2:]] == ["my_npo [aa]", "my_npo [bb]"]
    asked = [varied(row, seed=seed, evaluation=name) for seed, name in enumerate(("own", "shuffled"))]
    assert [line.label for line in entries(asked)[2:]] == ["my_npo [own]", "my_npo [shuffled]"]
    foreign = [varied(row, seed=None, settings_hash=None, model=name, model_family=None) for name in ("x", "y")]
    assert len(entries(foreign)) == 4
    variants = [varied(row, seed=seed, variant=name) for seed, name in enumerate(("lr 1e-5", "lr 1e-4"))]
    assert [line.seeds for line in entries(variants)[2:]] == [1, 1]


def test_text_table_is_aligned_and_flags_rows(row):
    rows = [row, varied(row, method="ga", memorised=False, **{"Retain metric": 0.1})]
    lines = text_table(rows).splitlines()
    header, rule, gold, base, npo, ga = lines[:6]
    assert header.split()[:6] == ["Method", "Modality", "Seeds", "Real", "Retain", "Forget"]
    assert len(rule) == len(header)
    for column in ("Modality", "Seeds", "Retain", "Forget Quality", "Floor"):
        assert npo[header.index(column) - 1] == ga[header.index(column) - 1] == " ", "cells start under their header"
    assert ga.startswith("ga*! ")
    assert npo.startswith("my_npo ")
    low, high = row["intervals"]["Retain metric"]
    assert f"{row['Retain metric']:.2f} [{low:.2f}, {high:.2f}]" in npo
    parts = " / ".join(f"{row[name]:.2f}" for name in ("ROUGE Forget", "Prob. Forget FaceRec", "Truth Ratio Forget"))
    assert parts in npo
    assert any(line.startswith("*: Retain metric under 0.4") for line in lines)
    assert any(line.startswith("!: base does not know") for line in lines)
    assert "!" not in text_table([row])


def test_tracks_have_tables_of_their_own(row):
    nlp = leaderboard_row(make_log("nlp", seed=1), make_log("nlp", seed=2), method="text_npo")
    mm_part, nlp_part = text_table([nlp, row]).split("\n\nMethod")
    assert "text_npo" in nlp_part
    assert "JS Forget Quality" in nlp_part
    assert "my_npo" in mm_part
    assert "text_npo" not in mm_part


def test_markdown_escapes_and_has_even_rows(row):
    text = markdown_table([varied(row, method="a|b*c_d", **{"Retain metric": 0.1})])
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert table[-1].startswith("| *a\\|b\\*c\\_d\\** | *both* |")


def test_latex_escapes_and_greys(row):
    text = latex_table([row, varied(row, method="50%_&", **{"Retain metric": 0.1})])
    assert "my\\_npo & both & 1 &" in text
    assert "\\textcolor{gray}{50\\%\\_\\&*} & \\textcolor{gray}{both}" in text
    assert text.count("\\begin{tabular}{llllllllll}") == text.count("\\end{tabular}") == 1


def test_picture_is_drawn(tmp_path, row):
    """One more model is more ink of another colour; nothing but the picture is left in the folder."""
    few = trade_off_picture([row], tmp_path / "new" / "few.png")
    nlp = leaderboard_row(make_log("nlp", seed=1), make_log("nlp", seed=2), method="text_npo")
    both = trade_off_picture([row, nlp], tmp_path / "new" / "both.png")
    assert sorted(path.name for path in few.parent.iterdir()) == ["both.png", "few.png"]
    with Image.open(few) as one, Image.open(both) as two:
        assert one.format == "PNG"
        assert two.height == 2 * one.height
        colours = {colour for _, colour in one.convert("RGB").getcolors(1 << 24)}
    assert {(0x00, 0x72, 0xB2), (0xB8, 0x86, 0x0B), (0, 0, 0)} <= colours, "the model, gold and base"
    with pytest.raises(ValueError, match="nothing to draw"):
        trade_off_picture([], tmp_path / "none.png")
