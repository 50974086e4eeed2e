"""ROUGE recall of a generation against its reference (Lin 2004), by rouge_score with Porter stemming.

rouge_score's own tokenizer keeps ASCII letters only: "Vásquez" becomes "v squez", and a Cyrillic name scores 0 against
itself. The `unicode` tokenizer keeps every letter and digit and gives the same tokens on ASCII text.

rouge_score pulls in nltk and scipy.stats, a second of every start, so it is imported when a pair is first scored.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")  # letters and digits of any script


class UnicodeTokenizer:
    """Lower-cased words of any script, composed (NFC), those of more than 3 letters stemmed as rouge_score does."""

    def __init__(self) -> None:
        from rouge_score import tokenizers

        self._stem = lru_cache(maxsize=65536)(tokenizers.porter.PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """The words of `text`."""
        words = _WORD.findall(unicodedata.normalize("NFC", text).lower())
        return [self._stem(word) if len(word) > 3 else word for word in words]


def rouge_recall(
    predictions: Sequence[str], references: Sequence[str], *, unicode: bool = True
) -> dict[str, NDArray[np.float64]]:
    """{"rouge1_recall": [N], "rougeL_recall": [N]}, each in [0, 1]; an empty text scores 0.

    `unicode=False` takes rouge_score's own tokenizer, as the released code does. ValueError if the lengths differ.
    """
    scores = _scores(predictions, references, unicode)
    return {"rouge1_recall": scores[:, 0], "rougeL_recall": scores[:, 1]}


def rouge_l_f1(predictions: Sequence[str], references: Sequence[str], *, unicode: bool = True) -> NDArray[np.float64]:
    """ROUGE-L F1 [N]: unlike recall, it falls when a generation runs on."""
    return _scores(predictions, references, unicode)[:, 2]


def rouge_l_f1_unstemmed(predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """ROUGE-L F1 [N] with rouge_score's own tokenizer and no stemming, as some public code takes it."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = zip(references, predictions, strict=True)
    return np.array([scorer.score(*pair)["rougeL"].fmeasure for pair in pairs], dtype=np.float64)


def _scores(predictions: Sequence[str], references: Sequence[str], unicode: bool) -> NDArray[np.float64]:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    pairs = [
        _pair(prediction, reference, unicode) for prediction, reference in zip(predictions, references, strict=True)
    ]
    return np.array(pairs, dtype=np.float64).reshape(len(pairs), 3)


@lru_cache(maxsize=65536)  # recall and F1 of one pair come together, and a gold log is scored beside every model
def _pair(prediction: str, reference: str, unicode: bool) -> tuple[float, float, float]:
    if unicode and prediction.isascii() and reference.isascii():
        return _pair(prediction, reference, False)  # the same tokens
    scores = _scorer(unicode).score(target=reference, prediction=prediction)
    return scores["rouge1"].recall, scores["rougeL"].recall, scores["rougeL"].fmeasure


@cache
def _scorer(unicode: bool) -> Any:
    from rouge_score import tokenizers
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = UnicodeTokenizer() if unicode else tokenizers.DefaultTokenizer(use_stemmer=True)
    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True, tokenizer=tokenizer)
