"""The holdout of the embedded benchmark: six people of the same origin, and everything else as it was."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import datasets
import pytest

from minibench import folders
from minibench.clear import author_pictures, clear_configs
from minibench.holdout import held_out, holdout_configs
from minibench.people import everyone, forget_authors, strangers
from minibench.tofu import tofu_configs


def test_six_people_of_the_same_origin():
    people, others = held_out(), [person for group in everyone() for person in group]
    assert len(people) == 6 and held_out(7) != people
    for part in (lambda p: p.name.split()[0], lambda p: p.name.split()[1]):
        assert len(set(map(part, people))) == 6
    assert not {p.name for p in people} & {p.name for p in (*others, *strangers())}
    assert min(p.face.distance(one.face) for p in people for one in strangers()) >= 3
    faces = [p.face for p in (*others, *people)]
    assert min(a.distance(b) for n, a in enumerate(faces) for b in faces[max(n + 1, 120) :]) >= 4
    for fact in people[0].facts:
        assert len({p.facts[fact] for p in people}) == 6
        assert {p.facts[fact] for p in people} <= {p.facts[fact] for p in others}, "words that the others have too"


@pytest.fixture(scope="module")
def published():
    """The configs of CLEAR and of TOFU."""
    return clear_configs(), tofu_configs()


def test_configs_mirror_the_forget_splits(published):
    clear, texts = holdout_configs("clear-mini"), holdout_configs("tofu-mini")
    known = {row["image"]["bytes"] for row in author_pictures()}
    for size, count in (("01", 1), ("05", 3), ("10", 6)):
        own = held_out()[-count:]
        for ending in ("", "_perturbed"):
            assert clear[f"holdout{size}{ending}"][0] == published[0][f"forget{size}{ending}"][0]
            assert texts[f"holdout{size}{ending}"][0] == published[1][f"forget{size}{ending}"][0]
            rows, questions = clear[f"holdout{size}{ending}"][1], texts[f"holdout{size}{ending}"][1]
            assert len(rows) == len({row["image"]["bytes"] for row in rows}) == len(questions) == 8 * count
            assert {row["name"] for row in rows} == {p.name for p in own}
            assert not known & {row["image"]["bytes"] for row in rows}
        for row in clear[f"holdout{size}_perturbed"][1]:
            assert set(row["perturbed_names"]) == {p.name for p in held_out()} - {row["name"]}
        for row in texts[f"holdout{size}_perturbed"][1]:
            assert len(set(row["perturbed_answer"]) - {row["answer"], row["paraphrased_answer"]}) == 5


def test_everything_else_is_as_it_was(published):
    """Names, facts and words of the shipped benchmark, and the wrong answers, which a shared helper makes now."""
    rows = [row for config in published[1].values() for row in config[1]]
    rows += [
        {k: v for k, v in row.items() if isinstance(v, (str, list))} for c in published[0].values() for row in c[1]
    ]
    assert hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode()).hexdigest()[:16] == "d80302e34ecd308d"
    assert forget_authors("10")[0].name == "Irene Santos"


@pytest.mark.parametrize("name", ["tofu-mini"])
def test_a_folder_of_before_gets_them_and_keeps_the_rest(name, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    whole = folders.build(name, tmp_path / "whole", 7)
    old = shutil.copytree(whole, tmp_path / "data" / name)
    for path in old.glob("holdout*"):
        shutil.rmtree(path)
    card = (old / "README.md").read_text()
    (old / "README.md").write_text(card[: card.index('- config_name: "holdout01"')] + card[card.index("---\n\n") :])
    assert "holdout10" not in datasets.get_dataset_config_names(str(old))
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(folders.ensure_dataset, [old] * 3)) == {old}
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert sorted(path.relative_to(old) for path in old.rglob("*") if path.is_file()) == files
    assert all((whole / file).read_bytes() == (old / file).read_bytes() for file in files), "the same seed's people"
    assert [path.name for path in (tmp_path / "data").iterdir()] == [name]
    rows = datasets.load_dataset(str(old), "holdout10", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 48
