"""Which cells are one text, which a list, which nothing."""

import math
from typing import Any

import pytest

from unlearn.data.texts import many_texts, missing, one_text, same_text, stored_list


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('["a", "b"]', ["a", "b"]),
        (" ['a', \"it's\"]\n", ["a", "it's"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),  # numpy; Python reads it as the one text "abc"
        ('["\\u00e9", null]', ["é", None]),
        ("['a', None, nan]", ["a", None, None]),
        ("['a',]", ["a"]),
        ("[]", []),
        ("[1] was the first", None),
        ('["a"] and ["b"]', None),
        ("[1, 2]", None),
        ("[sic]", None),
        ("[['a'], ['b']]", None),
        ("['a' + 'b']", None),
        ("[f'a']", None),
        ("['a]", None),
        ("['\\N{no such letter}']", None),
        ("[" * 9000 + "]" * 9000, None),
        ("plain", None),
    ],
)
def test_a_text_is_a_list_only_as_a_whole(text: str, read: list[str | None] | None) -> None:
    assert stored_list(text) == read


@pytest.mark.parametrize("cell", [None, math.nan, "", " \n", "nan", "NaN", "None", " null ", "<NA>"])
def test_missing_values_by_whatever_name(cell: Any) -> None:
    assert missing(cell)
    with pytest.raises(ValueError, match="^Row 3 of x: answer is .*, not a text; remove or mend the row"):
        one_text(cell, "Row 3 of x: answer")


@pytest.mark.parametrize("cell", ["none", "Nan", "0", "[1] was the first", "None of them.", " padded "])
def test_a_text_comes_back_as_it_is(cell: str) -> None:
    assert not missing(cell) and one_text(cell, "x") == cell


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (7, "7, of type int, not a text; store"),
        (True, "True, of type bool"),
        (1.5, "1.5, of type float"),
        (["a"], r"is a list, \['a'\], and one text is wanted"),
        ("['a', 'b']", "is a list stored as text"),
        ("[]", "is a list stored as text"),
    ],
)
def test_what_is_no_text_is_named(cell: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^Row 3 of x: answer.*{words}"):
        one_text(cell, "Row 3 of x: answer")


def test_lists_of_texts_however_stored() -> None:
    cells: Any
    assert many_texts(["one", ["two", "None"], '["three", "four"]', "['five' 'six']"], "x") == [
        "one", "two", "None", "three", "four", "five", "six",
    ]  # fmt: skip
    for cells in (
        [],
        [[]],
        ["[]"],
        [["a", None]],
        ['["a", null]'],
        [["a", " "]],
        [["a", 3]],
        [3],
        [None],
        [["a", ["b"]]],
    ):
        with pytest.raises(ValueError, match="^Row 3"):
            many_texts(cells, "Row 3")


def test_spellings_of_one_text() -> None:
    assert same_text("Jose\u0301  VA\u0301SQUEZ ") == same_text("José Vásquez") != same_text("Jose Vasquez")
