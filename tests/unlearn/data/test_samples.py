"""Draws, fixed choices and content hashes: the same in every process, different where keys differ."""

import subprocess
import sys

import pytest

from unlearn.atomic import content_hash
from unlearn.data.samples import draw, stable_choice


def test_a_draw_depends_on_every_part_of_its_key() -> None:
    keys = [(42, 0, 0, 0), (42, 0, 0, 1), (42, 0, 1, 0), (42, 1, 0, 0), (43, 0, 0, 0), (42, 0, 0, 0, 1)]
    values = {key: draw(*key).integers(2**60) for key in keys}
    assert len(set(values.values())) == len(keys)
    assert all(draw(*key).integers(2**60) == value for key, value in values.items())


def test_stable_choice_is_fixed_by_its_key_and_spreads() -> None:
    options = [str(number) for number in range(9)]
    picked = [stable_choice(options, f"forget10/{row}") for row in range(200)]
    assert picked == [stable_choice(options, f"forget10/{row}") for row in range(200)]
    assert set(picked) == set(options)


def test_choices_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = "from unlearn.data.samples import *; from unlearn.atomic import content_hash;"
    code += " print(stable_choice('abcdefgh', 'x'), content_hash('x'), draw(1, 2).integers(99))"
    runs = {
        subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, text=True) for seed in "12"
    }
    assert len(runs) == 1


@pytest.mark.parametrize("other", [("a", "bc"), ("abc",), ("ab", "c", None), ("ab", None), (b"ab", "C"), ("c", "ab")])
def test_content_hashes_tell_rows_apart(other: tuple[str | bytes | None, ...]) -> None:
    assert content_hash("ab", "c") == content_hash(b"ab", b"c") != content_hash(*other)
    assert content_hash(None) != content_hash("") != content_hash("None")
