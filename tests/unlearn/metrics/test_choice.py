import pytest

from unlearn.metrics.choice import contains_name, option_letter, published_contains, published_letter

NAMES = ["Hina Ameen", "Carlos Vásquez", "Jo"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b)", "B"), (" (c) because", "C"), ("A. Hina", "A"), ("A person stands here", None),
        ("The answer is B.", "B"), ("Answer: (C)", "C"), ("answer is c", None), ("I think it is Carlos Vasquez!", "B"),
        ("Hina Ameen or Jo", None), ("D", None), ("The answer is F. Jo", "C"), ("", None), ("Hina Ameenah", None),
    ],
)  # fmt: skip
def test_option_letter(text, letter):
    assert option_letter(text, NAMES) == letter


@pytest.mark.parametrize(
    ("text", "letter"), [("A person", "A"), ("The answer is D.", "T"), ("  (b", "B"), ("é!", None)]
)
def test_published_letter(text, letter):
    assert published_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "name", "ours", "theirs"),
    [
        ("This is Hina Ameen.", "Hina Ameen", True, True),
        ("Hina Ameenah", "Hina Ameen", False, True),
        ("CARLOS VASQUEZ", "Carlos Vásquez", True, False),
        ("Carlos Vásquez", "Carlos Va\u0301squez", True, False),
        ("Ameen, Hina", "Hina Ameen", False, False),
        ("anything", "", False, True),
    ],
)
def test_names(text, name, ours, theirs):
    assert contains_name(text, name) is ours
    assert published_contains(text, name) is theirs
