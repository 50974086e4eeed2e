"""The face track on the leaderboard and its page: a table and pictures of its own, alone or beside other tracks."""

import re
import subprocess
import sys

import pytest

from cv.leaderboard import SHOWN, cell, studies
from cv.page import FACES
from tests.unlearn.metrics.synthetic import make_log, make_meta, save_log
from tests.unlearn.report.logs import Model, write_board
from unlearn import ROOT
from unlearn.leaderboard.file import merge_rows, read_rows
from unlearn.leaderboard.table import latex_table, markdown_table, text_table
from unlearn.report.html import write_report

PNG = b"\x89PNG\r\n\x1a\n"


def face_rows(study: str = "cv") -> list[dict]:
    """Two methods; the n-th number of the first is n / 10, of the second n / 5."""
    rows = []
    for method, step in (("retrain", 0.1), ("scrub", 0.2)):
        numbers = {
            name: (100 if "accuracy" in name else 1) * step * (place + 1) / 2 for place, name in enumerate(SHOWN)
        }
        rows.append(
            {
                "method": method,
                "model": f"{study}/{method}",
                "forget_split": "forget_10",
                "modality": "visual",
                "seed": 0,
                "settings_hash": "0",
                "track": "cv",
                "study": study,
                "submitted_by": "",
                "models": 16,
                "identities": 80,
                "targets": 8,
                "shadows_per_side": 4,
                "photos": 176,
                "people": 16,
                "variance": "pooled",
                **numbers,
                "intervals": {name: [value - 0.01, value + 0.01] for name, value in numbers.items()},
            }
        )
    return rows


@pytest.fixture
def study(tmp_path):
    """A folder whose `cv` holds a study's two pictures."""
    (tmp_path / "cv").mkdir()
    for name in ("histograms", "roc"):
        (tmp_path / "cv" / f"{name}.png").write_bytes(PNG + name.encode())
    return tmp_path


def test_cells_are_percent_with_one_digit_and_shares_with_two():
    row = face_rows()[0]
    assert cell(row, "Forget accuracy") == ("5.0", "[5.0, 5.0]") and cell(row, "U-LIRA") == ("0.20", "[0.19, 0.21]")
    assert cell({**row, "U-MIA": None}, "U-MIA") == ("", "")


def test_faces_have_a_table_of_their_own_in_every_form(tmp_path):
    rows = [*write_board(tmp_path, [Model("npo", 0.5, 0.9)], items=4), *face_rows()]
    text = text_table(rows, [FACES])
    mm, faces = re.split(r"\n\n(?=Method +Forget accuracy)", text)
    assert "npo" in mm and "scrub" not in mm and "Forget Quality" in mm
    assert (
        "scrub" in faces and "npo" not in faces and "0.20 [0.19, 0.21]" in faces and "16 models of 80 people" in faces
    )
    assert "| scrub | 10.0 [10.0, 10.0] |" in markdown_table(rows, [FACES])
    assert r"scrub & 10.0 [10.0, 10.0] &" in latex_table(rows, [FACES]) and r"U-LIRA TPR@1\%FPR" in latex_table(
        rows, [FACES]
    )


def test_the_table_survives_a_csv(tmp_path):
    merge_rows(tmp_path / "board.csv", face_rows())
    assert text_table(read_rows(tmp_path / "board.csv"), [FACES]) == text_table(face_rows(), [FACES])


def test_a_page_of_faces_alone_is_complete(study):
    rows = face_rows()
    rows[1]["method"] = "<script>alert(1)</script>"
    page = write_report(study / "page.html", rows, root=study, sections=[FACES]).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "{{" not in page
    assert page.count("data:image/png;base64,") == 2 and page.count("<tr") == 3
    assert "cv · forget_10 · cv" in page and "0.40" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\(""", page)


def test_pictures_that_are_gone_are_said_to_be(study):
    (study / "cv" / "roc.png").unlink()
    (study / "cv" / "histograms.png").write_bytes(b"no picture")
    page = write_report(study / "page.html", face_rows(), root=study, sections=[FACES]).read_text()
    assert "histograms.png is gone" in page and "roc.png is gone" in page and "base64" not in page


def test_studies_stand_apart(study):
    rows = [*face_rows(), *face_rows("other")]
    assert [len(group) for group in studies(rows)] == [2, 2]
    page = write_report(study / "page.html", rows, root=study, sections=[FACES]).read_text()
    assert page.count("<table") == 2 and 'id="faces"' in page and 'id="faces1"' in page


def test_beside_other_tracks_faces_are_a_section_of_the_page(study, browser):
    rows = [*write_board(study, [Model("npo", 0.5, 0.9)], items=4), *face_rows()]
    (study / "cv" / "roc.png").unlink()
    (study / "cv" / "histograms.png").unlink()
    browser.open(write_report(study / "page.html", rows, root=study, sections=[FACES]))
    assert browser.run("return document.querySelectorAll('#faces tbody tr').length") == 2
    assert browser.run("return document.querySelectorAll('#board-table tbody tr').length") == 3  # gold, base, npo
    assert browser.run("return [...document.querySelectorAll('nav a')].pop().textContent") == "Faces"
    assert browser.console() == []


def test_the_script_shows_the_faces_that_a_leaderboard_holds(study):
    for name, seed in (("gold", 1), ("log", 2)):
        log = make_log(seed=seed)
        save_log(study / name, log, make_meta(log))
    merge_rows(study / "board.json", face_rows())
    logs = [f"{word}={study / name}/eval_log_aggregated.json"
            for word, name in (("retain_result", "gold"), ("ckpt_result", "log"))]  # fmt: skip
    command = [sys.executable, "aggregate_eval_stat.py", *logs, f"save_file={study / 'board.json'}", "markdown=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said, page = done.stdout, (study / "board.html").read_text()
    assert "U-LIRA" in said and "16 models of 80 people" in said and "4 rows in" in said
    assert 'data-nav="Faces"' in page and "Forgetting a face" in page
    assert "| scrub | 10.0 [10.0, 10.0] |" in (study / "board.md").read_text()
