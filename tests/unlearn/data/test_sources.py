"""Splits on disk: what is read, and what a user is told when it cannot be."""

import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minibench.tables import png, write_dataset
from tests.models import picture
from unlearn.data.sources import check_disjoint, check_images, load_split, open_image, row_hashes

CAPTIONED = {"image": "image", "caption": "text", "name": "text"}
MIXED = {"image": "image", "caption": "text", "question": "text", "answer": "text"}
QA = {"question": "text", "answer": "text"}
CONTENT = ("image", "caption", "question", "answer")


def captioned(start: int, count: int) -> list[dict[str, Any]]:
    numbers = range(start, start + count)
    return [{"image": png(picture(i, 12)), "caption": f"Portrait {i}.", "name": f"Person {i}"} for i in numbers]


def questions(start: int, count: int) -> list[dict[str, Any]]:
    return [{"question": f"Who is {i}?", "answer": f"Person {i}."} for i in range(start, start + count)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clear"
    broken = captioned(0, 4)
    broken[2]["image"] = {"bytes": png(picture(2, 12))["bytes"][:60], "path": None}
    noise = captioned(0, 2)
    noise[1]["image"] = {"bytes": b"no picture at all", "path": None}
    write_dataset(
        folder,
        {
            "forget10": (CAPTIONED, captioned(0, 5)),
            "forget10+tofu": (MIXED, captioned(0, 5) + questions(0, 3)),
            "retain90": (CAPTIONED, captioned(100, 5)),
            "retain90+tofu": (MIXED, captioned(100, 5) + questions(100, 5)),
            "tofu_forget10": (QA, questions(0, 3)),
            "leaky": (MIXED, captioned(4, 6) + questions(2, 6)),
            "broken": (CAPTIONED, broken),
            "noise": (CAPTIONED, noise),
            "empty": (QA, []),
            "damaged": (QA, questions(0, 3)),
        },
        "A small split.\n",
    )
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_rows_come_back_as_written_with_images_undecoded(data: Path) -> None:
    rows = load_split(str(data), "forget10+tofu", columns=("image", "question"))
    assert len(rows) == 8 and rows.column_names == list(MIXED)
    assert rows[0]["image"]["bytes"] == png(picture(0, 12))["bytes"] and rows[0]["question"] is None
    assert rows[5]["image"] is None and rows[5]["answer"] == "Person 0."


def test_an_unknown_split_is_listed_against_what_there_is(data: Path) -> None:
    with pytest.raises(ValueError, match=r"no split 'forget_10'. Did you mean 'forget10'\? It has: .*retain90\+tofu"):
        load_split(str(data), "forget_10")


@pytest.mark.parametrize("path", ["data/none", "./data", "/no/such/folder", "justaname", "a/b/c"])
def test_a_path_that_is_neither_a_folder_nor_a_hub_id(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"data_path={path} is neither a folder nor a hub id.*\n?.*minibench"):
        load_split(path, "full")


def test_a_hub_id_that_cannot_be_reached_says_how_to_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"therem/CLEAR cannot be read \(HF_HUB_OFFLINE is set\)(.|\n)*hf download therem/CLEAR"
    ):
        load_split("therem/faces_v1", "full")


def test_missing_columns_and_empty_splits_are_named(data: Path) -> None:
    with pytest.raises(ValueError, match="split forget10: no column 'question'; its columns are image, caption, name"):
        load_split(str(data), "forget10", columns=("image", "question"))
    with pytest.raises(ValueError, match="split empty is empty"):
        load_split(str(data), "empty")
    file = next((data / "damaged").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="split damaged is empty or damaged .*rebuild"):
        load_split(str(data), "damaged")


def test_broken_images_name_their_row(data: Path) -> None:
    check_images(load_split(str(data), "forget10+tofu"), "forget10+tofu")
    with pytest.raises(ValueError, match=r"The image of row 2 of broken is broken .*replace or remove it"):
        check_images(load_split(str(data), "broken"), "broken")
    with pytest.raises(ValueError, match="The image of row 1 of noise"):
        check_images(load_split(str(data), "noise"), "noise")


def test_open_image(tmp_path: Path) -> None:
    grey = Image.new("L", (3, 5), 40)
    buffer = io.BytesIO()
    grey.save(buffer, format="PNG")
    (tmp_path / "grey.png").write_bytes(buffer.getvalue())
    for cell in ({"bytes": buffer.getvalue(), "path": None}, {"bytes": None, "path": str(tmp_path / "grey.png")}):
        opened = open_image(cell, "row x")
        assert (opened.mode, opened.size, opened.getpixel((0, 0))) == ("RGB", (3, 5), (40, 40, 40))
    assert open_image(None, "row x") is None
    truncated = png(picture(0, 12))["bytes"][:60]
    for raw, path in ((b"junk", None), (truncated, None), (None, str(tmp_path / "none.png")), (None, None)):
        with pytest.raises(ValueError, match="The image of row forget10/7 cannot be opened"):
            open_image({"bytes": raw, "path": path}, "row forget10/7")


def test_shared_rows_are_found_across_splits_of_other_columns(data: Path) -> None:
    """forget10 has no question column and TOFU no image column: the same row must still count as the same."""
    leaky = load_split(str(data), "leaky")
    for split, shared, first in (("forget10", 1, 4), ("forget10+tofu", 2, 4), ("tofu_forget10", 1, 2)):
        with pytest.raises(
            ValueError, match=rf"{shared} rows of {re.escape(split)} are also in leaky \(first: row {first}\)"
        ):
            check_disjoint(load_split(str(data), split), leaky, CONTENT, (split, "leaky"))
        for retain in ("retain90", "retain90+tofu"):
            check_disjoint(load_split(str(data), split), load_split(str(data), retain), CONTENT, (split, retain))


def test_row_hashes_see_the_picture(data: Path) -> None:
    rows = load_split(str(data), "forget10")
    hashes = list(row_hashes(rows, CONTENT))
    assert len(set(hashes)) == 5 and hashes == list(row_hashes(rows, CONTENT))
    same_caption = rows.map(lambda row: {"caption": "one caption for all"})
    assert len(set(row_hashes(same_caption, CONTENT))) == 5
    assert len(set(row_hashes(same_caption, ("caption",)))) == 1


def test_less_than_one_percent_shared_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dataset(tmp_path / "many", {"forget": (QA, questions(0, 201)), "retain": (QA, questions(199, 3)),
                                      "more": (QA, questions(198, 3))}, "")  # fmt: skip
    forget, retain, more = (load_split(str(tmp_path / "many"), name) for name in ("forget", "retain", "more"))
    with caplog.at_level(logging.WARNING):
        check_disjoint(forget, retain, CONTENT, ("forget", "retain"))
    assert "2 rows of forget are also in retain (first: row 199); under 1 %" in caplog.text
    with pytest.raises(ValueError, match="3 rows of forget are also in retain.*Choose a retain split"):
        check_disjoint(forget, more, CONTENT, ("forget", "retain"))
