"""Answers that the original model writes: recipes, the file that keeps them, and what the views make of them."""

from dataclasses import replace
from typing import Any

import pytest

from tests.sources import ListSource
from unlearn.data.views import Draw, ForgetRetainDataset
from unlearn.data.written import (
    BANK,
    Answer,
    answers_path,
    load_answers,
    read_bank,
    recipe_of,
    recipes,
    save_answers,
)
from unlearn.method import View

ALTERNATES = [[Answer("", f"{row} {k}\u2028é") for k in range(3)] for row in range(5)]


def dataset(*views: View, images: int = 3, texts: int = 2, **options: Any) -> ForgetRetainDataset:
    return ForgetRetainDataset(views, forget=ListSource(images, texts, "f"), retain=None, seed=3, **options)


def test_a_file_comes_back_as_it_was_and_only_for_its_recipe(tmp_path: Any) -> None:
    path, ids = answers_path(tmp_path, "alternate"), [f"f/{row}" for row in range(5)]
    recipe = recipes([View("alternate", written=3)])["alternate"]
    assert load_answers(path, recipe, ids) is None
    save_answers(path, recipe, ids, ALTERNATES)
    assert path.name == "answers_alternate.jsonl" and path.read_text().count("\n") == 16
    assert load_answers(path, recipe, ids) == ALTERNATES
    assert load_answers(path, {**recipe, "seed": 1}, ids) is None
    assert load_answers(path, recipe, [*ids[:4], "f/9"]) is None
    path.write_text(path.read_text()[:-9])
    assert load_answers(path, recipe, ids) is None


def test_anchors_keep_their_question(tmp_path: Any) -> None:
    answers = [[Answer("What is worn?", "A hat."), Answer("Where?", "Outdoors.")], []]
    save_answers(tmp_path / "a", {}, ["x", "y"], answers)
    assert load_answers(tmp_path / "a", {}, ["x", "y"]) == answers


def test_recipes_say_what_is_asked() -> None:
    found = recipes([View("forget"), View("alternate", written=4), View("corrupted"), View("anchor")])
    assert list(found) == ["alternate", "corrupted", "anchor"]
    alternate, corrupted, anchor = found.values()
    assert (alternate["temperature"], alternate["answers"], alternate["max_new_tokens"]) == (1.0, 4, 200)
    assert "{question}" in alternate["prompt"] and "{answer}" in alternate["prompt"]
    assert corrupted["corrupted"] and corrupted["temperature"] == 0.0
    assert anchor["questions"] == read_bank(BANK) and not anchor["corrupted"]
    assert recipe_of(View("forget")) is None


def test_the_bank_asks_for_nobody_and_is_large_enough(tmp_path: Any) -> None:
    bank = read_bank(BANK)
    assert len(bank) >= 8 and not any(word in question for question in bank for word in ("name", "Who", "author"))
    (tmp_path / "bank").write_text("\n".join([*bank[:7], bank[0]]))
    with pytest.raises(ValueError, match="bank holds 7 different questions; at least 8 are needed"):
        read_bank(tmp_path / "bank")
    with pytest.raises(ValueError, match="at least 8"):
        dataset(View("forget"), View("anchor", text=str(tmp_path / "bank")))


def test_each_epoch_draws_one_of_the_alternates_for_the_questions_own_prompt() -> None:
    data = dataset(View("forget"), View("alternate", written=3))
    with pytest.raises(KeyError):
        _ = data[Draw(0, 0)]  # nobody has written them: never the true answers
    data.written["alternate"] = ALTERNATES
    drawn = set()
    for epoch in range(12):
        for row in range(5):
            views = data[Draw(epoch, row)]["views"]
            assert (views["alternate"]["question"], views["alternate"]["id"]) == (
                views["forget"]["question"], views["forget"]["id"],
            )  # fmt: skip
            assert Answer("", views["alternate"]["answer"]) in ALTERNATES[row]
            assert views["alternate"]["answer"] == data[Draw(epoch, row)]["views"]["alternate"]["answer"]
            drawn.add((row, views["alternate"]["answer"]))
    assert len(drawn) == 15


def test_only_items_with_a_picture_have_an_anchor() -> None:
    data = dataset(View("forget"), View("anchor"))
    data.written["anchor"] = [[Answer(q, f"{row}") for q in ("What is worn?", "Where?")] for row in range(5)]
    asked = set()
    for epoch in range(8):
        for row in range(5):
            views = data[Draw(epoch, row)]["views"]
            assert ("anchor" in views) == (row < 3)
            if row < 3:
                anchor = views["anchor"]
                assert anchor["answer"] == str(row) and anchor["image"].tobytes() == views["forget"]["image"].tobytes()
                asked.add(anchor["question"])
    assert asked == {"What is worn?", "Where?"}
    for options in ({"images": 0}, {"epoch_over": "retain", "retain": ListSource(1, 1)}):
        with pytest.raises(ValueError, match="needs forget rows with a picture"):
            made = {"retain": None, **options}
            images = made.pop("images", 3)
            ForgetRetainDataset((View("anchor"),), forget=ListSource(int(str(images)), 2), seed=3, **made)  # type: ignore[arg-type]


def test_a_view_has_several_answers_written_only_where_one_is_drawn() -> None:
    with pytest.raises(ValueError, match="view 'corrupted' cannot have written = 2"):
        View("corrupted", written=2)
    with pytest.raises(ValueError, match="written = 0"):
        replace(View("alternate"), written=0)
