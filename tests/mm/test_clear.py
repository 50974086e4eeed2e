"""CLEAR's rows as samples, and the choice of what is to be forgotten."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minibench.tables import png, write_dataset
from mm.clear import CAPTION_QUESTIONS, finetune_source, forget_sources, load_clear, with_modality
from tests.models import picture
from unlearn.config.settings import FinetuneSettings, ForgetSettings
from unlearn.data.samples import REFUSALS, read_lines
from unlearn.data.views import ForgetRetainDataset
from unlearn.registry import build_method

CAPTIONED = {"image": "image", "caption": "text", "name": "text"}
MIXED = {"image": "image", "caption": "text", "question": "text", "answer": "text"}
QA = {"question": "text", "answer": "text"}


def images(start: int, count: int) -> list[dict[str, Any]]:
    numbers = range(start, start + count)
    return [{"image": png(picture(i, 12)), "caption": f"Portrait {i}.", "name": f"Person {i}"} for i in numbers]


def texts(start: int, count: int) -> list[dict[str, Any]]:
    return [{"question": f"Who is {i}?", "answer": f"Person {i}."} for i in range(start, start + count)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data")
    broken = images(0, 3)
    broken[1]["image"]["bytes"] = b"no picture"
    write_dataset(root / "clear-mini", {
        "full+tofu": (MIXED, images(0, 4) + texts(0, 3)),
        "forget10": (CAPTIONED, images(0, 2)),
        "forget10+tofu": (MIXED, images(0, 2) + texts(0, 1)),
        "retain90+tofu": (MIXED, images(2, 2) + texts(1, 2)),
        "no_caption": ({"image": "image", "name": "text"}, images(0, 2)),
        "no_answer": ({"question": "text"}, texts(0, 2)),
        "broken": (CAPTIONED, broken),
        "no_first": (CAPTIONED, [{"caption": "Without its picture."}, *images(0, 1)]),
        "gap": (MIXED, [*images(0, 1), {"question": "Who?", "answer": ""}]),
        "names": (CAPTIONED, [{**images(9, 1)[0], "name": "PERSON 0 "}]),
        "asked": ({"image": "image", **QA}, [{**images(0, 1)[0], **texts(0, 1)[0]}, *texts(1, 1)]),
        "both": (MIXED, [{**images(i, 1)[0], **texts(i, 1)[0]} for i in range(3)] + texts(8, 1)),
        "half": (MIXED, [*images(0, 1), {**images(1, 1)[0], "question": "Who?"}]),
        "blind": (MIXED, [{"caption": "Portrait.", **texts(0, 1)[0]}]),
        "listed": (MIXED, [*images(0, 1), {"question": "Who?", "answer": "['a', 'b']"}]),
        "silent": (MIXED, [*images(0, 2), {"image": png(picture(0)), "question": "Who?", "answer": "She."}]),
    }, "")  # fmt: skip
    write_dataset(root / "tofu-mini", {"forget10": (QA, texts(0, 1)), "forget01": (QA, texts(1, 1))}, "")
    return str(root / "clear-mini")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def settings(data: str, **changes: Any) -> ForgetSettings:
    splits = {"forget_split": "forget10+tofu", "retain_split": "retain90+tofu"}
    return ForgetSettings(**{"forget_data_path": data, "retain_data_path": data, **splits, **changes})


def test_image_rows_are_captioned_and_text_rows_answered(data: str) -> None:
    source = load_clear(data, "full+tofu")
    rng = np.random.default_rng(0)
    assert len(source) == 7 and [source.has_image(i) for i in range(7)] == [True] * 4 + [False] * 3
    sample = source.sample(2, rng)
    assert (sample["answer"], sample["id"]) == ("Portrait 2.", f"{data}/full+tofu/2")
    assert sample["question"] in read_lines(CAPTION_QUESTIONS) and sample["image"].tobytes() == picture(2, 12).tobytes()
    text = source.sample(5, rng)
    assert text == {"question": "Who is 1?", "answer": "Person 1.", "image": None, "id": f"{data}/full+tofu/5"}


def test_a_picture_with_a_question_is_a_sample_of_its_own(data: str) -> None:
    """Alone, and beside a caption; ids of rows with one sample are the row numbers, as ever."""
    rng, name = np.random.default_rng(0), f"{data}/asked"
    asked = load_clear(data, "asked")
    shown = asked.sample(0, rng)
    assert (shown["question"], shown["answer"], shown["id"]) == ("Who is 0?", "Person 0.", f"{name}/0")
    assert shown["image"].tobytes() == picture(0, 12).tobytes() and asked.sample(1, rng)["image"] is None
    both = load_clear(data, "both")
    assert len(both) == 7 and [both.has_image(i) for i in range(7)] == [True] * 6 + [False]
    samples = [both.sample(i, rng) for i in range(7)]
    assert [s["answer"] for s in samples] == [
        "Portrait 0.", "Person 0.", "Portrait 1.", "Person 1.", "Portrait 2.", "Person 2.", "Person 8.",
    ]  # fmt: skip
    assert [s["id"].removeprefix(f"{data}/both/") for s in samples] == [
        "0", "0/question", "1", "1/question", "2", "2/question", "3",
    ]  # fmt: skip
    assert samples[2]["question"] in read_lines(CAPTION_QUESTIONS) and samples[3]["question"] == "Who is 1?"
    assert samples[2]["image"].tobytes() == samples[3]["image"].tobytes() == picture(1, 12).tobytes()
    silent = load_clear(data, "silent")
    assert [silent.sample(i, rng)["answer"] for i in range(3)] == ["Portrait 0.", "Portrait 1.", "She."]


def test_a_sample_that_is_shared_is_found_whatever_stands_beside_it(data: str) -> None:
    """The question about picture 0 is in `asked` alone, in `both` beside a caption; the captions are in forget10."""
    for forget, retain, rows in (("asked", "both", 1), ("both", "asked", 1), ("forget10", "both", 2)):
        with pytest.raises(ValueError, match=f"{rows} rows of {forget} are also in {retain}"):
            forget_sources(settings(data, forget_split=forget, retain_split=retain))
    with pytest.raises(ValueError, match="person of forget10 is also in names and has two spellings"):
        forget_sources(settings(data, forget_split="forget10", retain_split="names"))


def test_caption_requests_are_drawn_from_the_whole_bank_of_nine(data: str) -> None:
    source = load_clear(data, "forget10")
    rng = np.random.default_rng(0)
    bank = read_lines(CAPTION_QUESTIONS)
    assert len(bank) == len(set(bank)) == 9
    assert {source.sample(0, rng)["question"] for _ in range(200)} == set(bank)
    assert (
        source.sample(0, np.random.default_rng(5))["question"] == source.sample(1, np.random.default_rng(5))["question"]
    )


def test_a_row_knows_its_person_where_a_column_says_so(data: str) -> None:
    assert load_clear(data, "forget10").subject(1) == "Person 1"
    assert load_clear(data, "full+tofu").subject(1) is None


def test_the_refusals_are_a_hundred_clean_lines() -> None:
    lines = read_lines(REFUSALS)
    assert len(lines) == len(set(lines)) == 100 and all(line == line.strip() for line in lines)


def test_what_cannot_be_read_is_named(data: str) -> None:
    for split, message in (
        ("forget_10", "Did you mean 'forget10'"),
        ("no_caption", "split no_caption: no column 'caption'"),
        ("no_answer", "split no_answer: no column 'answer'"),
        ("broken", "image of row 1 of .*split broken is broken"),
    ):
        with pytest.raises(ValueError, match=message):
            load_clear(data, split)
    for row, split in enumerate(("no_first", "gap")):  # found at once, not when a run meets the row
        with pytest.raises(ValueError, match=f"Row .*{split}/{row} has neither an image with a caption nor"):
            load_clear(data, split)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("half", "half/1 has a text in question but not an answer to go with it"),
        ("blind", "blind/0 has a text in caption but not an image to go with it"),
        ("listed", "listed/1: answer is a list stored as text"),
    ],
)
def test_half_a_sample_is_not_left_out_in_silence(data: str, split: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"Row .*{words}"):
        load_clear(data, split)


def test_the_sources_of_a_run(data: str) -> None:
    assert len(finetune_source(FinetuneSettings(data_path=data, split="full+tofu"))) == 7
    forget, retain = forget_sources(settings(data))
    assert (forget.name, len(forget), retain.name, len(retain)) == (
        f"{data}/forget10+tofu",
        3,
        f"{data}/retain90+tofu",
        4,
    )
    for split in ("forget10", "forget10+tofu"):
        with pytest.raises(ValueError, match=f"rows of {split[:8]}.* are also in full.tofu .first: row 0"):
            forget_sources(settings(data, forget_split=split, retain_split="full+tofu"))
    sister = data.replace("clear", "tofu")
    with pytest.raises(ValueError, match="1 rows of forget10 are also in full.tofu"):
        forget_sources(settings(data, forget_data_path=sister, forget_split="forget10", retain_split="full+tofu"))


@pytest.mark.parametrize("images, texts", [("therem/CLEAR", "locuslab/TOFU"), ("data/clear-mini", "data/tofu-mini")])
@pytest.mark.parametrize("size", ["forget10", "forget05"])
def test_modality_is_the_published_choice_of_path_and_split(images: str, texts: str, size: str) -> None:
    chosen = {"text": (texts, size), "visual": (images, size), "both": (images, f"{size}+tofu")}
    for start in chosen.values():  # whatever the keys said before
        for modality, (path, split) in chosen.items():
            made = with_modality(ForgetSettings(forget_data_path=start[0], forget_split=start[1], modality=modality))
            assert (made.forget_data_path, made.forget_split, made.modality) == (path, split, modality), start
            read_off = with_modality(ForgetSettings(forget_data_path=path, forget_split=split))
            assert (read_off.modality, read_off.forget_data_path, read_off.forget_split) == (modality, path, split)


def test_modality_is_read_off_the_dataset_not_off_the_folders_around_it() -> None:
    own = ForgetSettings(forget_data_path="/home/tofu/data/my-clear", forget_split="forget10")
    assert with_modality(own).modality == "visual"
    assert with_modality(ForgetSettings(forget_data_path="mine/TOFU/", forget_split="forget10")).modality == "text"


def test_modality_needs_a_split_with_a_size() -> None:
    with pytest.raises(ValueError, match="modality=text needs a forget_split such as forget10, not 'mine'"):
        with_modality(ForgetSettings(forget_split="mine", modality="text"))


def test_a_method_that_needs_no_retain_split_runs_without_one_and_another_says_so(data: str) -> None:
    forget, retain = forget_sources(settings(data, forget_split="forget10", retain_split=None))
    assert retain is None
    ForgetRetainDataset(build_method("npo").student_views, forget=forget, retain=retain)
    with pytest.raises(ValueError, match="set retain_split"):
        ForgetRetainDataset(build_method("grad_diff").student_views, forget=forget, retain=retain)
