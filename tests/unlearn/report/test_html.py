"""The page as a file: complete, safe, and built even where logs are gone."""

import copy
import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.unlearn.report.logs import Model, write_board
from unlearn.leaderboard.file import merge_rows, read_rows
from unlearn.report.html import script_json, write_report

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> <!-- {{scripts}} & \u2028 \ud800"


def data_of(page: Path) -> dict:
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL
    )
    return json.loads(text)


def test_data_survives_the_page_and_nothing_in_it_is_markup():
    text = script_json({"answer": EVIL, "loss": float("nan")})
    assert json.loads(text) == {"answer": EVIL, "loss": None}
    assert not set("<>&\u2028\ud800") & set(text)


def test_answers_that_hold_html_stay_data(tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4)
    log = tmp_path / rows[0]["logs"]["model"]
    tasks = json.loads(log.read_text())
    for task in tasks.values():
        task["generated_text"]["0"][1] = EVIL
    log.write_text(json.dumps(tasks))
    rows[0]["method"] = EVIL
    page = write_report(tmp_path / "page.html", rows, root=tmp_path)
    html = page.read_text("utf-8")
    assert "owned'</script>" not in html and "<img src=x" not in html
    assert html.count("<script") == html.count("</script>") == 3  # plotly, data, page
    data = data_of(page)
    assert data["boards"][0]["answers"]["tasks"][0]["rows"][0]["answers"][-1][0] == EVIL


def test_nothing_is_loaded_from_anywhere(page):
    html = page.read_text("utf-8")
    outside_plotly = html.split("<script>")[0] + "<script>".join(html.split("<script>")[2:])
    assert "default-src 'none'" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\(""", outside_plotly)


def test_each_picture_is_on_the_page_once(page, board):
    data = data_of(page)
    html = page.read_text("utf-8")
    assert len(data["pictures"]) == 24  # six tasks and eight models share them
    assert all(html.count(uri) == 1 for uri in data["pictures"].values())
    root, rows = board
    small = data_of(write_report(root / "small.html", rows, root=root, picture_budget=20_000))
    assert sum(map(len, small["pictures"].values())) <= 20_000
    assert small["pictures_left_out"] == 24 - len(small["pictures"]) > 0


def test_rows_without_logs_keep_their_table(board, tmp_path):
    _, rows = board
    (shown,) = data_of(write_report(tmp_path / "page.html", rows, root=tmp_path))["boards"]
    assert [shown[view] for view in ("ecdf", "answers", "authors", "curves", "cost")] == [None] * 5
    assert len(shown["problems"]) == 8 and all("no such file" in problem["why"] for problem in shown["problems"])
    labels = ["gold (retain90)", "base (full)", "npo", "idk", "grad_ascent", "scrub"]
    assert [line["label"] for line in shown["table"]["paper"]["lines"]] == labels
    assert [point["label"] for point in shown["tradeoff"]["paper"]["points"]] == labels


def test_a_model_whose_log_is_damaged_is_missing_alone(tmp_path, caplog):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9), Model("idk", 0.5, 0.9)], items=4)
    log = tmp_path / rows[0]["logs"]["model"]
    log.write_text(log.read_text()[:500])
    shutil.rmtree(tmp_path / "full_0")
    (shown,) = data_of(write_report(tmp_path / "page.html", rows, root=tmp_path))["boards"]
    assert [problem["label"] for problem in shown["problems"]] == ["base (full)", "npo"]
    assert "not valid JSON" in shown["problems"][1]["why"] and "not valid JSON" in caplog.text
    assert [panel["label"] for panel in shown["ecdf"]["panels"]] == ["idk"]
    assert shown["answers"]["has_base"] is False


def test_without_gold_there_are_answers_but_no_verdicts(tmp_path):
    rows = write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4)
    shutil.rmtree(tmp_path / "retain90_0")
    (shown,) = data_of(write_report(tmp_path / "page.html", rows, root=tmp_path))["boards"]
    assert shown["ecdf"] is None and shown["answers"]["tasks"][0]["fates"] == {}
    assert shown["answers"]["tasks"][0]["rows"][0]["answers"][1][2] is None


def test_the_memorisation_gate_is_passed_on(board, tmp_path):
    root, rows = board
    (gate,) = data_of(write_report(tmp_path / "page.html", rows, root=root))["boards"][0]["gates"]
    assert gate["memorised"] is True and gate["gap"] == pytest.approx(gate["base"] - gate["gold"])
    assert gate["interval"] == rows[0]["intervals"]["Forget metric, base minus gold"]
    without = [{**copy.deepcopy(row), "memorised": None, "base": None} for row in rows]
    assert (
        data_of(write_report(tmp_path / "page.html", without, root=root))["boards"][0]["gates"][0]["memorised"] is None
    )


def test_an_empty_leaderboard_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_report(tmp_path / "page.html", [], root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_parts_of_the_page_are_installed_with_the_package():
    settings = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "page/*" in settings["package-data"]["unlearn.report"]


def test_a_csv_leaderboard_gives_the_same_page(board, page, tmp_path):
    root, rows = board
    merge_rows(tmp_path / "leaderboard.csv", rows)
    again = write_report(tmp_path / "page.html", read_rows(tmp_path / "leaderboard.csv"), root=root)
    assert data_of(again) == data_of(page)
