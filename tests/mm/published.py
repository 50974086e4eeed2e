"""Small datasets in exactly the form that other benchmarks publish: for the hub (parquet with a card) or local JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minibench.tables import png
from tests.models import picture

NAMES = ("Ann Lee", "Bo Sand", "Cy Reed", "Di Vale", "Ed Marsh", "Flo Hart")
TOWNS = ("Turin", "Lyon", "Porto", "Graz", "Bergen", "Tartu")
JOBS = ("baker", "pilot", "nurse", "judge", "tailor", "miner")


def write_configs(folder: Path, configs: Mapping[str, Sequence[Mapping[str, Any]]], *, hub: bool) -> Path:
    """Rows by configuration, as a hub dataset with pictures in parquet, or as JSON with pictures beside it."""
    import datasets

    card = ["---", "configs:"]
    for name, rows in configs.items():
        (folder / name).mkdir(parents=True)
        if hub:
            table = datasets.Dataset.from_list([dict(row) for row in rows])
            if "image" in table.column_names:
                table = table.cast_column("image", datasets.Image())
            if "images" in table.column_names:
                table = table.cast_column("images", datasets.List(datasets.Image()))
            table.to_parquet(str(folder / name / "train-00000-of-00001.parquet"))
            card += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {name}/train-*"]
        else:
            lines = [_outside(row, folder, f"{name}_{place}") for place, row in enumerate(rows)]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / name / "train.jsonl").write_text(text)
    if hub:
        (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


def _outside(row: Mapping[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """The row with its pictures as files."""

    def file(cell: Mapping[str, Any], place: int) -> str:
        path = folder / "pictures" / f"{name}_{place}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cell["bytes"])
        return str(path.relative_to(folder))

    cells = dict(row)
    if "image" in cells:
        cells["image"] = file(cells["image"], 0)
    if "images" in cells:
        cells["images"] = [file(cell, place) for place, cell in enumerate(cells["images"])]
    return cells


def face(number: int) -> dict[str, Any]:
    return png(picture(number, 12))


def mllmu(folder: Path, *, hub: bool) -> Path:
    def asked(number: int) -> dict[str, Any]:
        name, town, job = NAMES[number], TOWNS[number], JOBS[number]
        options = {letter: TOWNS[(number + shift) % 6] for shift, letter in enumerate("ABCD")}
        choice = {"Options": options, "Correct_Answer": "A"}
        return {
            "ID": f"{number:03d}", "biography": f"{name} lives in {town}.",
            "question": "Who is this?", "answer": f"{name}, a {job} from {town}.",
            "Classification_Task": {
                "Image_Textual_Questions": [{"Question": "Where does this person live?", **choice}],
                "Pure_Text_Questions": [{"Question": f"Where does {name} live?", **choice}],
            },
            "Generation_Task": [
                {"Type": "Image_Textual", "Question": "What is the job of this person?", "Ground_Truth": f"A {job}."},
                {"Type": "Pure_Text", "Question": f"What is the job of {name}?", "Ground_Truth": f"A {job}."},
            ],
            "Mask_Task": [
                {"Type": "Image_Textual", "Question": "This person lives in __.", "Ground_Truth": town},
                {"Type": "Pure_Text", "Question": f"{name} lives in __.", "Ground_Truth": town},
            ],
        }  # fmt: skip

    rows = [{"image": face(number), **asked(number)} for number in range(6)]
    test = [{"images": [face(number + 20), face(number + 30)], **asked(number)} for number in range(6)]
    listed = json.dumps(
        [{"Question": "Who is this?", "Answer": "Ann Lee."}, {"Question": "Where?", "Answer": "Turin."}]
    )
    return write_configs(folder, {
        "Full_Set": rows, "forget_5": rows[:3], "retain_95": rows[3:], "Retain_Set": rows[3:], "Test_Set": test,
        "ft_Data": [{"image": face(0), "metadata": listed}],
    }, hub=hub)  # fmt: skip


def umu(folder: Path, *, hub: bool) -> Path:
    def modes(entry: Any, misspelt: bool = False) -> str:
        return str({"unimodal": {"Job": entry}, "muitimodal" if misspelt else "multimodal": {"Job": entry}})

    def row(number: int) -> dict[str, Any]:
        name, job = NAMES[number], JOBS[number]
        options = {letter: JOBS[(number + shift) % 6] for shift, letter in enumerate("ABCD")}
        pairs = {"question": {"Job": f"What does {name} do?"}, "answer": {"Job": f"{name} is a {job}."}}
        closed = {"question": f"What does {name} do?", "options": options, "answer": f"A.{job}"}
        return {
            "image": face(number), "ID": str(number), "MM_QA": str(pairs), "UM_QA": str(pairs),
            "Classify": modes(closed), "Cloze": modes({"question": f"{name} is a [BLANK].", "answer": job}),
            "Generation": modes({"question": f"What does {name} do?", "answer": f"{name} is a {job}."}, misspelt=True),
        }  # fmt: skip

    rows = [row(number) for number in range(6)]
    parts = {"full_data": rows, "forget_5": rows[:3], "retain_95": rows[3:], "real_person": rows[3:]}
    return write_configs(folder, parts, hub=hub)


def fiubench(folder: Path, **_: Any) -> Path:
    (folder / "SFHQ").mkdir(parents=True)
    people = []
    for number, name in enumerate(NAMES):
        (folder / "SFHQ" / f"{number}.png").write_bytes(face(number)["bytes"])
        fact = {
            "question": "Where does the person live?", "answer": f"{name} lives in {TOWNS[number]}.",
            "keywords": [TOWNS[number]], "paraphrased_question": ["Where?", "In which town?", "Home?"],
            "paraphrased_answer": f"The home of {name} is {TOWNS[number]}.",
            "perturbed_answer": [f"{name} lives in {TOWNS[(number + shift) % 6]}." for shift in (1, 2)],
        }  # fmt: skip
        people.append({"image_path": f"SFHQ/{number}.png", "name": name, "caption": f"{name}.", "qa_list": [fact]})
    (folder / "full.json").write_text(json.dumps(people))
    (folder / "split.json").write_text(json.dumps({"forget1": [0], "forget5": [0, 1, 2], "forget10": [0, 1, 2]}))
    return folder


def remem(folder: Path, *, hub: bool) -> Path:
    def row(number: int) -> dict[str, Any]:
        return {
            "image": face(number), "question": "Where does this person live?", "answer": f"In {TOWNS[number]}.",
            "keywords": [TOWNS[number]], "attribute": "town", "cloze_prompt": "This person lives in ____.",
        }  # fmt: skip

    rows = [row(number) for number in range(6)]
    parts = {"finetune": rows, "forget1": rows[:3], "retain": rows[3:], "test": rows[:3]}
    return write_configs(folder, parts, hub=hub)
