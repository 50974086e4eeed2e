"""A folder of the user's own: what is read from it, and what is refused before a model loads."""

import json
from pathlib import Path
from typing import Any

import pytest

from mm.own_data import OwnData
from tests.bad_input import BASE, run_script
from tests.models import picture

NAMES = ("Ann Lee", "Bo Sand", "Cy Reed", "Di Vale", "Ed Marsh", "Flo Hart")
TOWNS = ("Turin", "Lyon", "Porto", "Graz", "Bergen", "Tartu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def rows_of_six() -> list[dict[str, Any]]:
    rows = []
    for number, (name, town) in enumerate(zip(NAMES, TOWNS, strict=True)):
        rows.append({"person": name, "image": f"images/{number}.png", "answer": f"{name} in {town}."})
        rows.append({"person": name, "question": f"Where does {name} live?", "answer": f"In {town}.",
                     "paraphrase": f"{town} is home."})  # fmt: skip
    return rows


def folder(path: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    (path / "images").mkdir(parents=True)
    for number in range(6):
        picture(number, 12).save(path / "images" / f"{number}.png")
    lines = rows_of_six() if rows is None else rows
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return path


def test_splits_and_tasks(tmp_path: Path) -> None:
    own = OwnData(str(folder(tmp_path / "p")), forget=["ann lee"], holdout=["Flo Hart"])
    assert own.MODALITY == "both"
    counts = {split: len(own.training_rows("p", split)) for split in ("full", "forget", "retain", "holdout")}
    assert counts == {"full": 10, "forget": 2, "retain": 8, "holdout": 2}
    assert own.retain_of("forget") == "retain"


def test_wrong_answers_are_those_of_people_of_the_same_status(tmp_path: Path) -> None:
    own = OwnData(str(folder(tmp_path / "p")), forget=NAMES[:3])
    asked = own.questions("", "forget", None)
    assert {row.id: sorted(row.wrong) for row in asked["own_forget"]}["1"] == ["In Lyon.", "In Porto."]
    assert {row.id: sorted(row.wrong) for row in asked["own_retain"]}["7"] == ["In Bergen.", "In Tartu."]
    assert asked["own_forget"][1].base == "Turin is home."
    names = asked["own_forget_names"]
    assert [row.answer for row in names] == list(NAMES[:3]) and names[0].wrong == ("Bo Sand", "Cy Reed")


def test_csv_with_another_separator_and_encoding(tmp_path: Path) -> None:
    path = folder(tmp_path / "p")
    (path / "rows.jsonl").unlink()
    lines = ["person|question|answer|wrong"]
    lines += [f"{name}|Where?|In {town}.|In Rome.; In Oslo." for name, town in zip(NAMES, TOWNS, strict=True)]
    (path / "rows.csv").write_text("\n".join(lines), encoding="utf-16")
    own = OwnData(str(path), forget=["Ann Lee"])
    assert own.questions("", "forget", None)["own_forget"][0].wrong == ("In Rome.", "In Oslo.")
    assert own.MODALITY == "text"


def with_cell(place: int, **cells: Any) -> list[dict[str, Any]]:
    rows = rows_of_six()
    rows[place] |= cells
    return rows


BAD: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any], str]] = {
    "an unknown person": (None, {"forget": ["Zed"]}, "names 'Zed', whom no row"),
    "two places": (None, {"forget": ["Ann Lee"], "holdout": ["Ann Lee"]}, "both to be forgotten and in the"),
    "everybody": (None, {"forget": list(NAMES)}, "of whom 0 stay"),
    "an empty answer": (with_cell(3, answer=" "), {}, "Row 3 of .*rows.jsonl: its answer is empty"),
    "a missing picture": (with_cell(2, image="images/9.png"), {}, "Row 2 of .*there is no picture images/9.png"),
    "a picture outside": (with_cell(2, image="../x.png"), {}, "Row 2 of .*lies outside"),
    "two spellings": (with_cell(2, person="ANN LEE"), {}, "'Ann Lee' and 'ANN LEE'"),
    "an id twice": (with_cell(2, id="1"), {}, "two rows with the id '1'"),
    "an unknown column": (with_cell(0, caption="x"), {}, "has a column 'caption'"),
    "one wrong answer": (with_cell(1, question="What?"), {"forget": ["Ann Lee"]}, "wrong answer.s., and 2 are needed"),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(BAD))
def test_what_is_refused(what: str, tmp_path: Path) -> None:
    rows, names, said = BAD[what]
    with pytest.raises(ValueError, match=said):
        OwnData(str(folder(tmp_path / "p", rows)), **names).questions("", "forget", None)


def test_pictures_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "p")
    (path / "images" / "2.png").write_text("no picture")
    with pytest.raises(ValueError, match="row 4 of .*broken"):
        OwnData(str(path), forget=["Ann Lee"]).training_rows("p", "retain")


def test_the_scripts_forget_and_ask(tmp_path: Path) -> None:
    path = folder(tmp_path / "p")
    own = [f"own_data.path={path}", "own_data.forget=[Ann Lee,Bo Sand,Cy Reed]"]
    run_script("mm/forget.py", *own, f"model_path={BASE}", "forget_loss=npo", "max_steps=1", "batch_size=2",
               f"save_dir={tmp_path}/npo")  # fmt: skip
    record = json.loads((tmp_path / "npo" / "run.json").read_text())
    assert record["settings"]["modality"] == "both" and record["settings"]["retain_split"] == "retain"
    run_script("mm/eval.py", *own, f"model_path={tmp_path}/npo", "generation.max_new_tokens=2")
    log = json.loads((tmp_path / "npo/eval_results/eval_log_aggregated.json").read_text())
    assert {name: len(task["gt_loss"]) for name, task in log.items()} == {
        "own_retain.json": 6, "own_forget.json": 6, "own_retain_names.json": 3, "own_forget_names.json": 3,
    }  # fmt: skip
