"""Who is in which split: the published sizes, the JSON on disk, and what bad lists get."""

import json

import pytest
import torch

from cv.data.photos import Photos
from cv.data.splits import make_splits, read_splits, write_splits


def photos(people: int, each: int = 6, seed: int = 0) -> Photos:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (people * each, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Photos(pixels, torch.arange(people).repeat_interleave(each), tuple(f"person {i:03d}" for i in range(people)))


@pytest.fixture(scope="module")
def published():
    return make_splits(photos(200, 1), models=128, seed=42)


def test_published_sizes_for_200_people(published):
    assert [split.group for split in published] == ["A"] * 64 + ["B"] * 64
    for split in published:
        assert {size: len(people) for size, people in split.forget.items()} == {"01": 2, "05": 10, "10": 20}
        assert {size: len(people) for size, people in split.holdout.items()} == {"01": 2, "05": 10, "10": 20}
        assert len(split.train) == len(split.test) == 100 and not set(split.train) & set(split.test)
        assert {size: len(split.retain(size)) for size in ("01", "05", "10")} == {"01": 98, "05": 90, "10": 80}
        assert set(split.forget["10"]) < set(split.train) and set(split.holdout["10"]) < set(split.test)


def test_smaller_forget_sets_are_inside_larger_ones(published):
    for sets in (published[0].forget, published[0].holdout):
        assert set(sets["01"]) < set(sets["05"]) < set(sets["10"])


def test_forget_and_holdout_change_places_in_the_second_half(published):
    a, b = published[0], published[64]
    assert a.forget == b.holdout and a.holdout == b.forget
    assert not set(a.forget["10"]) & set(a.holdout["10"])
    assert all(split.forget == a.forget for split in published[:64])


def test_the_others_are_drawn_anew_for_each_model_from_neither_set(published):
    fixed = {*published[0].forget["10"], *published[0].holdout["10"]}
    others = [frozenset(split.train) - fixed for split in published]
    assert all(len(drawn) == 80 for drawn in others)
    assert len(set(others)) == 128
    share = sum("person 000" in split.train for split in published) if "person 000" not in fixed else 64
    assert 40 < share < 88  # 80 of 160, 128 times


def test_splits_survive_the_disk(tmp_path):
    data = photos(40)
    splits = make_splits(data, models=4, seed=1)
    write_splits(splits, tmp_path)
    assert read_splits(tmp_path, data) == splits
    record = json.loads((tmp_path / "split_002.json").read_text())
    assert record["group"] == "B" and record["retain_90"] == list(splits[2].retain("10"))


def test_a_split_of_other_photos_is_refused(tmp_path):
    data = photos(40)
    write_splits(make_splits(data, models=4, seed=1), tmp_path)
    with pytest.raises(ValueError, match="split_000.json belongs to other photos"):
        read_splits(tmp_path, photos(40, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["holdout_10"].__setitem__(0, r["forget_10"][0]), "is in forget and in holdout"),
        (lambda r: r["train"].append(r["holdout_10"][0]), "is held out and yet trained on"),
        (lambda r: r["train"].remove(r["forget_10"][0]), "was never trained on"),
        (lambda r: r.pop("forget_05"), "split_001.json is damaged .KeyError"),
    ],
)
def test_a_split_edited_by_hand_is_checked(tmp_path, change, message):
    data = photos(40)
    write_splits(make_splits(data, models=4, seed=1), tmp_path)
    record = json.loads((tmp_path / "split_001.json").read_text())
    change(record)
    (tmp_path / "split_001.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        read_splits(tmp_path, data)


def test_a_missing_split_is_noticed(tmp_path):
    data = photos(40)
    with pytest.raises(ValueError, match="holds no splits; run `python cv/prepare.py"):
        read_splits(tmp_path, data)
    write_splits(make_splits(data, models=4, seed=1), tmp_path)
    (tmp_path / "split_001.json").unlink()
    with pytest.raises(ValueError, match="lacks some of its splits"):
        read_splits(tmp_path, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forget": ["person 001"], "holdout": ["Person 001"]}, "person 001 is in forget and in holdout"),
        ({"forget": ["person 001", "person 001"]}, "names somebody twice"),
        ({"holdout": ["Nobody"]}, "holdout: 'Nobody' is nobody in the photos"),
        ({"forget": ["person 001"], "holdout": ["person 002", "person 003"]}, "forget names 1 people and holdout 2"),
        ({"models": 6}, "models=6 must be a multiple of 4"),
    ],
)
def test_wrong_lists_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_splits(photos(40), **({"models": 4, "seed": 0} | options))


def test_exactly_the_given_people_are_forgotten_and_as_many_held_out():
    names = [f"person {i:03d}" for i in range(6)]
    for given in (names[:1], names[:2], names):  # 10 % would be four
        split = make_splits(photos(40), models=4, seed=0, forget=[name.upper() for name in given])[0]
        assert split.forget["10"] == tuple(given) and len(split.holdout["10"]) == len(given)
        assert split.forget["01"] == tuple(given[:1])
        assert len(split.train) == 20 and set(given) <= set(split.train)
    held = make_splits(photos(40), models=4, seed=0, forget=names[:1], holdout=["PERSON 030"])[0]
    assert held.forget["10"] == ("person 000",) and held.holdout["10"] == ("person 030",)
    assert len(make_splits(photos(40), models=4, seed=0)[0].forget["10"]) == 4


JOSE = ("Jos\u00e9", "Jose\u0301", "jos\u00e9", "Jose")  # composed, decomposed, lower case, without an accent


@pytest.mark.parametrize(
    ("names", "forget", "message"),
    [
        (JOSE[:2], None, "are two spellings of one name; put their pictures under one"),
        ((JOSE[0], JOSE[2]), ["Lee"], "are two spellings of one name"),
        ((JOSE[0], JOSE[3]), ["jose"], "'jose' may be .* or 'Jose'; spell the one you mean exactly"),
    ],
)
def test_one_person_under_two_spellings_is_refused(names, forget, message):
    base = photos(40)
    data = Photos(base.pixels, base.labels, (*names, "Lee", *base.identities[3:]))
    with pytest.raises(ValueError, match=message):
        make_splits(data, models=4, seed=0, forget=forget)


def test_two_people_who_differ_by_an_accent_can_be_named():
    base = photos(40)
    data = Photos(base.pixels, base.labels, (JOSE[0], JOSE[3], *base.identities[2:]))
    assert make_splits(data, models=4, seed=0, forget=["Jose"])[0].forget["10"] == ("Jose",)


def test_accents_do_not_keep_a_person_from_being_found():
    base = photos(40)
    data = Photos(base.pixels, base.labels, ("Guillermo Muñoz", *base.identities[1:]))
    assert make_splits(data, models=4, seed=0, forget=["Guillermo Munoz"])[0].forget["01"] == ("Guillermo Muñoz",)


def test_a_person_with_too_few_photos_is_named():
    data = photos(3, each=6)
    short = Photos(data.pixels[:-1], data.labels[:-1], data.identities)
    data.check_enrolment(5)
    with pytest.raises(ValueError, match="person 002 has 5 photos, and enrolment takes 5"):
        short.check_enrolment(5)
