"""What a stress run asks of the embedded benchmark (mm/stress_plan.py)."""

import pytest

from minibench.people import forget_authors
from mm import track
from mm.stress_plan import HIDDEN, hide_name, load_plan
from unlearn.metrics.choice import contains_name


@pytest.fixture(scope="module")
def plan():
    return load_plan(track.settings("stress", {"relearn": {"data": ["few", "text", "retain", "stranger"]}}))


def test_the_five_tests_and_their_twins(plan):
    labels = ["image → name", "image → caption", "name → facts", "image + name → facts", "image → facts"]
    assert list(plan.forget) == list(plan.retain) == labels
    assert [len(task.items) for task in plan.forget.values()] == [48] * 5
    assert [len(task.items) for task in plan.retain.values()] == [48] * 5, "as many, spread over all people"
    assert len({plan.retain["name → facts"].items[place].author for place in range(48)}) > 20
    assert plan.tests == ("variants", "leak", "matrix", "quantisation", "relearning", "depth", "probe")


def test_questions_beside_the_first_picture_of_whom_they_name(plan):
    named, hidden = plan.forget["image + name → facts"], plan.forget["image → facts"]
    facts, captions = plan.forget["name → facts"], plan.forget["image → caption"]
    first = {}
    for place in range(48):
        item = captions.items[place]
        first.setdefault(item.author, item.sample["id"])
    people = {author.name for author in forget_authors("10")}
    assert set(first) == people
    for place in range(48):
        text, one, two = (task.items[place] for task in (facts, named, hidden))
        assert text.author == one.author == two.author and one.author in people
        assert contains_name(text.sample["question"], one.author) and text.sample["image"] is None
        assert one.sample["question"] == text.sample["question"] and one.sample["id"] == first[one.author]
        assert one.sample["image"].tobytes() == two.sample["image"].tobytes()
        assert not contains_name(two.sample["question"], one.author) and HIDDEN in two.sample["question"].lower()
        assert one.sample["answer"] == two.sample["answer"] == text.sample["answer"]


@pytest.mark.parametrize(("text", "name", "hidden"), [
    ("Where was Jaime Vásquez born?", "Jaime Vasquez", "Where was this person born?"),
    ("JAIME VASQUEZ'S books, and Jaime Vasquez", "Jaime Vásquez", "This person'S books, and this person"),
    ("Who is Jaime?", "Jaime Vasquez", "Who is Jaime?"),
])  # fmt: skip
def test_a_name_is_hidden_whatever_its_accents(text, name, hidden):
    assert hide_name(text, name) == hidden


def test_what_relearning_trains_on(plan):
    sizes = {name: (len(source), len(test.items)) for name, (source, test) in plan.relearning.items()}
    assert sizes["few"] == (12, 36) and sizes["text"] == (48, 48)
    assert sizes["retain"][0] > 400 and sizes["stranger"][0] >= 48
    taught = {plan.relearning["few"][0].subject(place) for place in range(12)}
    strangers = {plan.relearning["stranger"][0].subject(place) for place in range(48)}
    assert len(taught) == 6 and len(strangers) == 6 and not taught & strangers
    asked = plan.relearning["few"][1]
    rows = {asked.items[place].row_id for place in range(36)}
    assert not rows & {plan.relearning["few"][0].items[place].row_id for place in range(12)}


def test_other_wordings(plan):
    (names, _, cue), (facts, _, paraphrase) = plan.varied
    sample = facts.items[0].sample
    assert cue(names.items[0].sample) == "This is a photo of"
    assert paraphrase(sample) != sample["question"] and contains_name(paraphrase(sample), facts.items[0].author)


def test_without_questions_there_is_a_matrix_of_two():
    plan = load_plan(track.settings("stress", {"text_data_path": None, "relearn": {"data": ["retain"]}}))
    assert list(plan.forget) == ["image → name", "image → caption"] and len(plan.varied) == 1


def test_strangers_need_a_holdout(monkeypatch):
    def load(path, split, *_):
        raise ValueError(f"{path} has no split {split!r}.")

    monkeypatch.setattr("mm.stress_plan.load_clear", load)
    with pytest.raises(ValueError, match="relearn.data has 'stranger', people whom no model was trained on.*holdout10"):
        load_plan(track.settings("stress", {"relearn": {"data": ["stranger"]}}))
