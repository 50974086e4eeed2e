"""The embedded faces: as many as promised, the same at every build, nobody in both sets."""

import random

import numpy as np
import pytest

from minibench import faces_mini
from minibench.faces_mini import COUNTS, FAMILY, build_faces, ensure_faces, identities, photograph


def test_sets_hold_what_the_benchmark_needs():
    people = identities(7, {name: count for name, (count, _) in COUNTS.items()})
    faces, celebrities = people["faces-mini"], people["celebrities-mini"]
    assert len(faces) >= 60 and len(celebrities) >= 60
    assert all(pictures >= 12 for _, pictures in COUNTS.values())
    assert len({*faces, *celebrities}) == len(faces) + len(celebrities)  # nobody twice, nobody in both


def test_members_of_a_family_are_hard_to_tell_apart():
    faces = identities(7, {"x": 60})["x"]
    for start in range(0, 60, FAMILY):
        first = faces[start]
        assert all(1 <= first.distance(other) <= 2 for other in faces[start + 1 : start + FAMILY])


def test_pictures_of_a_person_vary():
    face = identities(7, {"x": 1})["x"][0]
    rng = random.Random(0)
    pixels = np.stack([np.asarray(photograph(face, rng), dtype=float) for _ in range(12)])
    assert pixels.shape == (12, 48, 48, 3)
    brightness = pixels.mean((1, 2, 3))
    assert brightness.std() > 10  # light
    assert pixels.std(axis=0).mean() > 20  # pose, background, colour


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(faces_mini, "COUNTS", {"faces-mini": (5, 3), "celebrities-mini": (5, 2)})


def test_a_build_repeats_byte_for_byte(small, tmp_path):
    one, two = build_faces(tmp_path / "a", "faces-mini"), build_faces(tmp_path / "b", "faces-mini")
    files = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert len(files) == 15
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    other = build_faces(tmp_path / "c", "faces-mini", seed=8)
    assert any((one / file).read_bytes() != (other / file).read_bytes() for file in files)
    assert not list(tmp_path.glob(".build-*"))


def test_only_the_projects_own_sets_are_built(small, tmp_path, monkeypatch):
    monkeypatch.setattr(faces_mini, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert ensure_faces("data/faces-mini") == str(tmp_path / "data" / "faces-mini")
    assert (tmp_path / "data" / "faces-mini" / "faces-000" / "00.png").is_file()
    assert ensure_faces("data/other") == "data/other" and ensure_faces("therem/CLEAR") == "therem/CLEAR"
