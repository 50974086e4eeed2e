"""Data as its owners store it, through the scripts: the same numbers as from the form that the benchmark has."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minibench.tables import png, write_dataset
from tests.bad_input import BASE, MIXED, photos, run_script
from tests.models import picture

LLAMA = "minibench/weights/llama-mini"
NAMES = ("Mira Okonkwo", "Tomas Vell", "Yuna Sato", "Piet Larkin")
TOWNS = ("Basel", "Dakar", "Havana", "Quito")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def log_of(folder: Path) -> dict[str, Any]:
    """The one task of an evaluation, without the times."""
    (task,) = json.loads((folder / "eval_log_aggregated.json").read_text()).values()
    return task


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_lists_that_went_through_csv_are_scored_as_lists(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": f"Where was {name} born?", "answer": f"{name} was born in {town}.",
         "paraphrased_answer": f"The birthplace of {name} is {town}.",
         "perturbed_answer": [f"{name} was born in {other}." for other in TOWNS if other != town]}
        for name, town in zip(NAMES, TOWNS, strict=True)
    ]  # fmt: skip
    lines(tmp_path / "real.jsonl", rows)
    lines(tmp_path / "python.jsonl", [{**row, "perturbed_answer": str(row["perturbed_answer"])} for row in rows])
    cells = [[*list(row.values())[:3], json.dumps(row["perturbed_answer"]).replace('"', '""')] for row in rows]
    table = "".join(";".join(f'"{cell}"' for cell in row) + "\n" for row in [list(rows[0]), *cells])
    (tmp_path / "sheet.csv").write_text(table, encoding="utf-8-sig")
    for split in ("real", "python", "sheet"):
        task = f"{{eval_task: a, split: {split}, base_answer: paraphrased_answer, wrong_answers: perturbed_answer}}"
        run_script("nlp/eval.py", f"model_path={LLAMA}", f"data_path={tmp_path}", f"save_dir={tmp_path}/e_{split}",
                   f"tasks=[{task}]", "generation.max_new_tokens=2")  # fmt: skip
    real = log_of(tmp_path / "e_real")
    assert [len(losses) for losses in real["average_perturb_loss"].values()] == [3] * 4
    assert log_of(tmp_path / "e_python") == log_of(tmp_path / "e_sheet") == real


def test_tagged_and_named_pictures_are_those_of_upright_bytes(tmp_path: Path) -> None:
    """The same faces as bytes, as a phone stores them (lying, with a tag), and as names of 16 bit or RGBA files."""

    def row(number: int, image: Any) -> dict[str, Any]:
        others = [name for name in NAMES if name != NAMES[number]]
        return {"image": image, "name": NAMES[number], "perturbed_names": others}

    faces = [picture(number, 48) for number in range(4)]
    kinds = {"image": "image", "name": "text", "perturbed_names": "texts"}
    write_dataset(tmp_path / "upright", {"faces": (kinds, [row(i, png(face)) for i, face in enumerate(faces)])}, "")
    (tmp_path / "named" / "images").mkdir(parents=True)
    for number, face in enumerate(faces):
        tags = face.getexif()
        tags[0x112] = 6  # "turn me by 90 degrees clockwise"
        lying = face.transpose(Image.Transpose.ROTATE_90)
        (lying.convert("RGBA") if number % 2 else lying).save(
            tmp_path / "named" / "images" / f"{number}.png", exif=tags
        )
    lines(tmp_path / "named" / "faces.jsonl", [row(i, f"images/{i}.png") for i in range(4)])
    for form in ("upright", "named"):
        run_script("mm/eval.py", f"model_path={BASE}", f"data_path={tmp_path}/{form}", f"save_dir={tmp_path}/e_{form}",
                   "tasks=[{eval_task: a, split: faces, question: face, answer: name, base_answer: name, "
                   "wrong_answers: perturbed_names}]", "generation.max_new_tokens=2")  # fmt: skip
    upright, named = log_of(tmp_path / "e_upright"), log_of(tmp_path / "e_named")
    for row_id, loss in upright["avg_gt_loss"].items():
        assert named["avg_gt_loss"][row_id] == pytest.approx(loss, abs=1e-6)
    shown = [
        sorted(file.name for file in (tmp_path / f"e_{form}" / "thumbnails").iterdir()) for form in ("upright", "named")
    ]
    assert shown[0] == shown[1] and len(shown[0]) == 4


def test_pictures_with_questions_are_trained_on_and_forgotten_from_a_folder_of_files(tmp_path: Path) -> None:
    """FIUBench's form: JSON lines that name pictures; 3 rows with a caption beside the question are 6 samples."""
    (tmp_path / "own").mkdir()
    for number in range(4):
        picture(number, 48).save(tmp_path / "own" / f"{number}.png")
    asked = [
        {"image": f"{i}.png", "question": "Where does this person live?", "answer": f"In {TOWNS[i]}."} for i in range(4)
    ]
    lines(
        tmp_path / "own" / "full.jsonl",
        [{**row, "caption": f"A portrait of {NAMES[i]}."} for i, row in enumerate(asked[:3])],
    )
    lines(tmp_path / "own" / "forget.jsonl", asked[:2])
    lines(tmp_path / "own" / "retain.jsonl", asked[2:])
    own = tmp_path / "own"
    how = ("batch_size=1", "num_epochs=1", "gradient_accumulation_steps=1")
    run_script("mm/finetune.py", f"data_path={own}", "split=full", f"save_dir={tmp_path}/m", *how)
    run_script("mm/forget.py", f"model_path={tmp_path}/m", f"forget_data_path={own}", f"retain_data_path={own}",
               "forget_split=forget", "retain_split=retain", "forget_loss=grad_diff", f"save_dir={tmp_path}/f",
               *how)  # fmt: skip
    steps = [json.loads((tmp_path / run / "run.json").read_text())["steps"] for run in ("m", "f")]
    assert steps == [6, 2]


def test_marks_in_a_question_about_a_picture_are_text(tmp_path: Path) -> None:
    """`<image>` in a row's question makes no second picture, and `</s>` ends no prompt; a token that the model has no
    embedding for is named although the prompt holds a picture."""
    from transformers import AutoProcessor

    from unlearn.models.families import load_family
    from unlearn.models.start import Start
    from unlearn.pipeline import load_collator

    plain, marked = "Who is in image here?", "Who </s> is <image> in <image> image here?"
    collator = load_collator(Start.of(BASE), load_family("llava-mini"), 2048)

    def ids(question: str) -> list[int]:
        return collator.encode_prompt({"question": question, "answer": "", "image": picture(0, 12), "id": question}).ids

    special = set(collator.tokenizer.all_special_ids) | {collator.image_token_id}
    marks = [[token for token in ids(question) if token in special] for question in (plain, marked)]
    assert marks[0] == marks[1] and collator.image_token_id in marks[0]

    row = {**photos(0, 1)[0], "question": marked, "answer": "Person 0 </s> <image>."}
    write_dataset(tmp_path / "own", {"all": (MIXED, [row, *photos(1, 1)])}, "Small.\n")
    words = ("mm/finetune.py", f"data_path={tmp_path}/own", "split=all", "max_steps=2", f"save_dir={tmp_path}/run")
    run_script(*words)
    log = [json.loads(line) for line in (tmp_path / "run/train_log.jsonl").read_text().splitlines()]
    assert any(0 < line.get("train_loss", 0) < 100 for line in log)

    processor = AutoProcessor.from_pretrained(BASE)
    processor.tokenizer.add_tokens(["Zyx"])
    shutil.copytree(BASE, tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    row = {**row, "question": "Who is Zyx?"}
    write_dataset(tmp_path / "outside", {"all": (MIXED, [row])}, "Small.\n")
    with pytest.raises(ValueError, match="'Who is Zyx.' holds the token 'Zyx' .* has embeddings for ids below"):
        run_script("mm/finetune.py", f"data_path={tmp_path}/outside", "split=all", f"model_path={tmp_path}/base",
                   f"save_dir={tmp_path}/none")  # fmt: skip
    assert not (tmp_path / "none").exists()
