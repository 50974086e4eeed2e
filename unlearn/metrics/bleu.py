"""BLEU of a generation against its one reference (Papineni 2002), as MLLMU-Bench and MIP-Editor report it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def bleu(generated: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """[N] sentence BLEU up to 4-grams over the words between white space, an n-gram that never matches counted as .1
    (nltk's smoothing 1). An empty generation scores 0. ValueError if the lengths differ."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    if len(generated) != len(references):
        raise ValueError(f"{len(generated)} generations for {len(references)} references")
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu([reference.split()], text.split(), smoothing_function=smooth) if text.split() else 0.0
        for text, reference in zip(generated, references, strict=True)
    ]
    return np.array(scores, dtype=np.float64)
