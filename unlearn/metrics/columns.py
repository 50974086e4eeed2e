"""The columns of the leaderboard: what a number is called, how it is made, shown and read. The only list of them.

A metric with a column of its own is a function on `Answers` in a file of this folder, and a line here: row, tables
(text, Markdown, LaTeX), picture, page and sweeps read this list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unlearn.metrics.accuracy import accuracy
from unlearn.metrics.aggregates import METRICS, Track
from unlearn.metrics.bleu import bleu
from unlearn.metrics.generation import are_degenerate, are_refusals, word_counts
from unlearn.metrics.probability import answer_probability, choice_probability
from unlearn.metrics.rouge import rouge_l_f1, rouge_recall
from unlearn.metrics.truth_ratio import knowledge, truth_ratio

Array = NDArray[np.float64]
DIRECTIONS = {"up": "higher is better", "gold": "gold's is the goal"}


@dataclass(frozen=True)
class Answers:
    """One task of a log, N rows in order. Losses are nats per token: `right` and `base` [N], `wrong` N arrays of any
    length; `choice`: the right answer competes with the wrong ones; `tokens` [N] and `refusals` (the bank) may be
    unknown; so may `rule` with `questions` and `keywords` [N] be, by which a benchmark calls a generation right."""

    right: Array
    base: Array
    wrong: Sequence[Array]
    generated: Sequence[str]
    references: Sequence[str]
    choice: bool = True
    tokens: Array | None = None
    refusals: Sequence[str] | None = None
    rule: str | None = None
    questions: Sequence[str] = ()
    keywords: Sequence[Sequence[str]] = ()

    @cached_property
    def ratios(self) -> Array:
        """R [N]."""
        return truth_ratio(self.base, self.wrong)


@dataclass(frozen=True)
class Column:
    """One number of a row.

    Args:
        name: its key in the row; of a number per item the first part of it ("ROUGE" for "ROUGE Retain", ...).
        per_item: its values [N] for the answers of a task: then the row has their mean for every task, with an
            interval; None for what is made of several (composites, Forget Quality).
        needs: the field of `Answers` without which it is not measured (null in the row).
        heading: in tables and on the page, of a number per item for the forget task; None: in the row alone.
        direction: "up" (more is better), "gold" (gold's value is the goal), None (helps to read its neighbour).
        digits: behind the point, or significant ones.
        bounded: it lies in [0, 1], so that it has a meter and a heat map.
        interval: shown with its ends. page_only: not in the text tables, which are narrow.
        texts: made of what was said, so that it is computed before a log is redacted (leaderboard/redact.py).
        keys: by `Track.quality`, where the key is not the name.
    """

    name: str
    per_item: Callable[[Answers], Array] | None = None
    direction: str | None = None
    digits: int = 2
    needs: str | None = None
    heading: str | None = None
    meaning: str = ""
    significant: bool = False
    bounded: bool = True
    interval: bool = True
    page_only: bool = False
    texts: bool = True
    keys: Mapping[str, str] = field(default_factory=dict)

    def key(self, track: Track) -> str:
        """The row's key that stands under the heading."""
        return f"{self.name} {track.forget.label}" if self.per_item else self.keys.get(track.quality, self.name)

    def text(self, value: float) -> str:
        """`value` with the column's digits."""
        return f"{value:.{self.digits}{'g' if self.significant else 'f'}}"


def _accuracy(answers: Answers) -> Array:
    return accuracy(str(answers.rule), answers.generated, answers.questions, answers.references, answers.keywords)


def _probability(answers: Answers) -> Array:
    return choice_probability(answers.right, answers.wrong) if answers.choice else answer_probability(answers.right)


RETAIN = Column("Retain metric", direction="up", heading="Retain", meaning="what should be kept")
FORGET = Column("Forget metric", direction="gold", heading="Forget", meaning="what is still known")
QUALITY = Column(
    "Forget Quality", direction="up", heading="Forget Quality", keys={"ks": "JS Forget Quality"},
    meaning="1 − Jensen–Shannon distance (base 2) between the truth ratios of model and gold on the forget set: 1 "
    "means that they cannot be told apart",
)  # fmt: skip
FLOOR = Column(
    "Null floor", heading="Floor", interval=False,
    meaning="the Forget Quality that two models without any difference get on average at this sample size",
)  # fmt: skip
COLUMNS: tuple[Column, ...] = (
    Column("Real metric", direction="up", heading="Real", meaning="what is known of real people and places"),
    RETAIN,
    FORGET,
    QUALITY,
    FLOOR,
    Column("KS test p-value", direction="up", heading="KS p", significant=True, bounded=False, interval=False,
           keys={"ks": "Forget Quality"},
           meaning="p-value of a two-sample Kolmogorov–Smirnov test on the same truth ratios"),
    Column("Model Utility", direction="up", heading="Utility", page_only=True,
           meaning="harmonic mean of ROUGE, probability and truth ratio score on everything but the forget set"),
    Column("Membership AUC", direction="gold", heading="AUC",
           meaning="chance that a forgotten row looks more like training data (lower loss) than one of people whom "
           "nobody was trained on: near 1 remembered, near 0 over-forgotten, both stand out"),
    Column("Privacy score", direction="up", heading="Privacy", interval=False,
           meaning="harmonic mean over four membership attacks of 1 − |AUC − gold's| / the largest possible gap"),
    Column("Memorisation score", direction="gold", heading="Memorisation", interval=False,
           meaning="harmonic mean of 1 − extraction strength, 1 − exact memorisation, 1 − probability of the "
           "paraphrase, 1 − 1 / (1 + R) on the forget set: high where little is known by heart"),
    Column("overall", direction="gold", heading="Overall", interval=False,
           meaning="harmonic mean of Memorisation, Privacy and Utility"),
    Column("Knowledge hole", direction="gold", heading="Hole", page_only=True, interval=False, bounded=False,
           meaning="how much more probability base lost on the tenth of retain rows nearest to a forgotten one than on "
           "the rest"),
    Column("Over-refusal", direction="gold", heading="Over-refusal", page_only=True, interval=False, bounded=False,
           meaning="refusal rate outside the forget tasks, minus base's"),
    # numbers per item, in the order of a row's keys
    Column("Prob.", _probability, "up", heading="Prob.", texts=False, meaning="probability of the right answer"),
    Column("ROUGE", lambda answers: rouge_recall(answers.generated, answers.references)["rougeL_recall"], "up",
           heading="ROUGE", meaning="ROUGE-L recall: words of the reference found in the generation"),
    Column("Truth Ratio", lambda answers: knowledge(answers.ratios), "up", heading="TR", texts=False,
           meaning="truth ratio score, mean of max(0, 1 − R)"),
    Column("ROUGE-L F1", lambda answers: rouge_l_f1(answers.generated, answers.references), "up",
           meaning="ROUGE-L F1: unlike recall it falls when a generation runs on"),
    Column("BLEU", lambda answers: bleu(answers.generated, answers.references), "up",
           meaning="sentence BLEU, 4-grams, smoothed"),
    Column("Accuracy", _accuracy, "up", needs="rule",
           meaning="share of generations that are right by their benchmark's rule (option, cloze, keywords)"),
    Column("Generation words", lambda answers: word_counts(answers.generated), bounded=False,
           meaning="words of a generation"),
    Column("Generation tokens", lambda answers: np.asarray(answers.tokens), needs="tokens", bounded=False,
           texts=False, meaning="tokens of a generation"),
    Column("Refusal rate", lambda answers: are_refusals(answers.generated, answers.refusals or ()), needs="refusals",
           meaning="share of generations that begin with a line of the refusal bank"),
    Column("Degenerate rate", lambda answers: are_degenerate(answers.generated),
           meaning="share of generations that are empty, or have 8 words or more of whose neighbouring pairs fewer "
           "than half are distinct"),
)  # fmt: skip


def add_column(column: Column) -> None:
    """A column from outside (a plugin), behind the others. ValueError for a name that is there already."""
    global COLUMNS
    if any(column.name == other.name for other in COLUMNS):
        raise ValueError(f"there is a column {column.name!r} already")
    COLUMNS = (*COLUMNS, column)


def per_item() -> tuple[Column, ...]:
    """The numbers that are means over items."""
    return tuple(column for column in COLUMNS if column.per_item)


def meanings() -> list[list[str]]:
    """[heading, what it means] of every number that is shown."""
    return [[column.heading, f"{column.meaning}."] for column in COLUMNS if column.heading]


def column_of(key: str) -> Column | None:
    """The column of a row's key ("Retain metric", "Prob. Forget FaceRec"); None where there is none."""
    exact = next((column for column in COLUMNS if column.name == key and not column.per_item), None)
    fitting = [column for column in per_item() if key.startswith(f"{column.name} ")]
    return exact or max(fitting, key=lambda column: len(column.name), default=None)


def parts(track: Track) -> list[tuple[str, Column]]:
    """(key, column) of the numbers that the Forget metric is made of: a broken one makes it 0, so they stand beside
    it."""
    return [(key, column) for key in track.composites[FORGET.name] if (column := column_of(key))]


def shown(track: Track) -> list[tuple[str, Column]]:
    """(key, column) of what has a heading, in reading order, without `parts`."""
    return [
        (column.key(track), column)
        for column in COLUMNS
        if column.heading and not (column.per_item and column.name in METRICS)
    ]  # fmt: skip
