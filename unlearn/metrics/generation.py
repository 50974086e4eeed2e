"""What recall does not see: how long a generation is, and whether it refuses to answer."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def word_counts(generations: Sequence[str]) -> NDArray[np.float64]:
    """Words per generation [N], split at white space. Recall rewards run-on text: read it beside this."""
    return np.array([len(text.split()) for text in generations], dtype=np.float64)


def are_refusals(generations: Sequence[str], refusals: Iterable[str]) -> NDArray[np.float64]:
    """1 where a generation begins with a line of the bank `refusals`, word by word, else 0 [N].

    Case, punctuation and the kind of apostrophe do not count; a refusal in words that the bank lacks is not recognised.
    ValueError for an empty bank.
    """
    bank = [words for line in refusals if (words := _words(line))]
    if not bank:
        raise ValueError("the bank of refusals has no lines")
    refused = [any(text[: len(line)] == line for line in bank) for text in map(_words, generations)]
    return np.array(refused, dtype=np.float64)


def are_degenerate(generations: Sequence[str]) -> NDArray[np.float64]:
    """1 where a generation is empty, or has 8 words or more of whose neighbouring pairs fewer than half are distinct
    (broken, repeating text), else 0 [N]."""
    return np.array([_degenerate(text.split()) for text in generations], dtype=np.float64)


def _degenerate(words: list[str]) -> bool:
    pairs = list(zip(words, words[1:], strict=False))
    return not words or (len(words) >= 8 and 2 * len(set(pairs)) < len(pairs))


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)
