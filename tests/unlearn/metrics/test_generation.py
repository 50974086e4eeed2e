import pytest

from unlearn.metrics.generation import are_degenerate, are_refusals, word_counts

BANK = ["I don’t know the answer to that.", "That's beyond me.", ""]


def test_words():
    assert word_counts(["", "one", " two  words\n"]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I don't know the answer to that!", True),
        ("i DON’T know, the answer to that. Sorry about it.", True),
        ("That's beyond me", True),
        ("I don't know the answer", False),
        ("Well, that's beyond me.", False),
        ("That's beyond mean", False),
        ("", False),
    ],
)
def test_a_refusal_begins_with_a_line_of_the_bank(text, refused):
    assert are_refusals([text], BANK).tolist() == [float(refused)]


def test_an_empty_bank_is_refused():
    with pytest.raises(ValueError, match="no lines"):
        are_refusals(["x"], ["", "  "])


def test_broken_text_by_hand():
    looping = "the cat the cat the cat the cat"  # 8 words, 7 pairs, 2 distinct
    fine = "a b c d a b c e"  # 7 pairs: ab bc cd da ab bc ce, 5 distinct
    assert are_degenerate(["", "  ", looping, fine, "no no no no no no no", "no " * 8]).tolist() == [1, 1, 1, 0, 0, 1]
