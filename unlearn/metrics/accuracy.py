"""Is a generation right? By the rule of its benchmark, from what the log holds; no judge model.

choice    it takes the letter of the right option; the options are the lines "A. ..." of the question
cloze     it holds the answer's words, in a row (published: as a lower-case substring)
keywords  share of the row's keywords that it holds, in lower case (FIUBench)
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.choice import option_letter

_OPTION = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)
Array = NDArray[np.float64]


def options_of(question: str) -> list[str]:
    """The texts of the lines "A. ...", "B. ..." of a question, in order; empty where it is no closed question."""
    found = _OPTION.findall(question)
    known = [chr(ord("A") + place) for place in range(len(found))]
    return [text for _, text in found] if [letter for letter, _ in found] == known else []


def takes_option(generated: str, question: str, answer: str) -> float:
    """1 where `generated` takes the option that `answer` (a letter, "B. text" or a text of the options) is, else 0."""
    options = options_of(question)
    right = option_letter(answer, options)
    return float(right is not None and option_letter(generated, options) == right)


def keyword_share(generated: str, keywords: Sequence[str]) -> float:
    """Share of `keywords` that occur in `generated`, both in lower case. ValueError without keywords."""
    if not keywords:
        raise ValueError("a row without keywords has no share of them")
    return sum(word.lower() in generated.lower() for word in keywords) / len(keywords)


Rule = Callable[[str, str, str, Sequence[str]], float]  # generation, question, answer, keywords
RULES: dict[str, Rule] = {
    "choice": lambda generated, question, answer, keywords: takes_option(generated, question, answer),
    "cloze": lambda generated, question, answer, keywords: float(answer.lower() in generated.lower()),
    "keywords": lambda generated, question, answer, keywords: keyword_share(generated, keywords),
}


def accuracy(
    rule: str, generated: Sequence[str], questions: Sequence[str], answers: Sequence[str],
    keywords: Sequence[Sequence[str]],
) -> Array:  # fmt: skip
    """[N] in [0, 1]: how right each generation is by `rule`, one of RULES."""
    rows = zip(generated, questions, answers, keywords, strict=True)
    return np.array([RULES[rule](*row) for row in rows], dtype=np.float64)
