"""The paper's printed tables (paper.json) and rank correlations with them.

Table 2 of the paper ranks methods by their forget metric in one domain (text: Table 4; visual: Table 5) and in the
multimodal one (Table 1) and gives Spearman's rank correlation between the rankings.
"""

import functools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORGET = {"mm": "Forget metric", "nlp": "Forget metric", "cv": "Forget accuracy"}
VISUAL_NAMES = {
    "llmu": "LLMU",
    "dpo": "dpo",
    "scrub": "scrub",
    "rmu": "RMU",
    "finetune": "retain_ft",
}  # the face track's own


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with its p-value over n pairs; None where it is not defined (under 3 pairs, or a constant
    column)."""

    rho: float | None
    p: float | None
    n: int

    def __str__(self) -> str:
        return f"not defined (n {self.n})" if self.rho is None else f"{self.rho:+.2f} (n {self.n}, p {self.p:.2g})"


@dataclass(frozen=True)
class PaperTable:
    """One printed table: `rows` by method (Table 3: method/modality), gold and base among them."""

    title: str
    model: str
    track: str
    columns: list[str]
    headers: list[str]
    source: str
    rows: Mapping[str, list[float]]


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "paper.json").read_text(encoding="utf-8"))


def table_track(table: str) -> str:
    """The track of a table; fig5 is the multimodal one's where nothing else is said."""
    return "mm" if table == "fig5" else str(_data()[table]["track"])


def paper_table(table: str, family: str = "") -> PaperTable:
    """The printed table; of Table 4 the half of `family` where it is one of the two."""
    entry = dict(_data()[table])
    entry |= entry.pop("families", {}).get(family, {})
    return PaperTable(**entry)


def rank_correlation(ours: Sequence[float | None], theirs: Sequence[float | None]) -> Correlation:
    """Spearman's rank correlation over the pairs of which both are finite numbers; ties share their mean rank.

    Numbers that differ by rounding alone (a mean over seeds) are ties.
    """
    from scipy.stats import ConstantInputWarning, spearmanr

    pairs = [(round(a, 9), round(b, 9)) for a, b in zip(ours, theirs, strict=True)
             if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]  # fmt: skip
    if len(pairs) < 3:
        return Correlation(None, None, len(pairs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        result = spearmanr([a for a, _ in pairs], [b for _, b in pairs])
    if not math.isfinite(result.statistic):
        return Correlation(None, None, len(pairs))
    return Correlation(float(result.statistic), float(result.pvalue), len(pairs))


def transfer(results: Mapping[str, str], own: Mapping[str, float]) -> list[str]:
    """Table 2 in words: how the ranking of the forget metric in one domain goes with the multimodal one.

    Args:
        results: domain (text, visual) -> the JSON that `+table=4` or `+table=5` wrote.
        own: forget metric by method of this sweep's multimodal table.
    """
    entry = _data()["2"]
    printed = entry["forget"]
    lines = []
    for domain, claimed in entry["printed"].items():
        recomputed = rank_correlation(printed[domain], printed["mm"])
        said = f"paper {claimed:+.3f} (from the numbers it prints: {recomputed})"
        file = Path(str(results.get(domain, "")))
        if file.is_file():
            theirs = forget_by_method(json.loads(file.read_text(encoding="utf-8")))
            here = str(rank_correlation([theirs.get(name) for name in entry["methods"]],
                                        [own.get(name) for name in entry["methods"]]))  # fmt: skip
        else:
            here = f"not yet: +table={'4' if domain == 'text' else '5'} makes {file}"
        lines.append(f"{domain} with multimodal: {here}; {said}")
    return lines


def forget_by_method(result: Mapping[str, Any]) -> dict[str, float]:
    """Forget metric (visual: forget accuracy) by method's multimodal name, from a table's JSON."""
    track = result["track"]
    names = VISUAL_NAMES if track == "cv" else {row["key"]: row["key"] for row in result["rows"]}
    return {names[row["key"]]: row["numbers"][FORGET[track]] for row in result["rows"]
            if row["key"] in names and row["numbers"].get(FORGET[track]) is not None}  # fmt: skip
