"""What a free text says of a closed question: which option it takes, whether it names somebody.

Beside our rules stand the published ones, whose results differ: "A person ..." is answer A for them, and "Hina Ameenah"
holds "Hina Ameen".
"""

import re
import unicodedata
from collections.abc import Sequence

_FIRST = re.compile(r"^\W*([A-Za-z])\s*(?:$|[).:,\]])")
_SAID = re.compile(r"\b[Aa]nswer(?:\s+is)?\s*:?\s*\(?([A-Z])(?:$|[).:,\]\s])")


def option_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that `text` takes, or None.

    In this order: a letter alone at the start ("b) ..."); a letter after "answer (is)"; the only option whose text
    occurs. A letter beyond the options counts for neither of the first two.
    """
    known = [chr(ord("A") + place) for place in range(len(options))]
    for pattern in (_FIRST, _SAID):
        found = pattern.search(text)
        if found is not None and found[1].upper() in known:
            return found[1].upper()
    named = [letter for letter, option in zip(known, options, strict=True) if contains_name(text, option)]
    return named[0] if len(named) == 1 else None


def published_letter(text: str) -> str | None:
    """The first ASCII letter or digit of the text, upper case, as public code takes it ("The answer is D." is T)."""
    found = re.search(r"[A-Za-z0-9]", text)
    return None if found is None else found[0].upper()


def contains_name(text: str, name: str) -> bool:
    """Whether the words of `name` occur in a row in `text`, whatever the case and accents. An empty name never does."""
    words, wanted = _words(text), _words(name)
    return bool(wanted) and any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def published_contains(text: str, name: str) -> bool:
    """Whether the ASCII letters and digits of `name` occur in those of `text`, in lower case, as public code asks."""
    return _ascii(name) in _ascii(text)


def _words(text: str) -> list[str]:
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return re.findall(r"\w+", plain.casefold())


def _ascii(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
