"""Spearman by hand; the table's lines, means and marks; what the paper's own numbers say about its Table 2."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sweeps.paper import FORGET, forget_by_method, paper_table, rank_correlation, table_track, transfer
from sweeps.settings import Sweep
from sweeps.tables import correlate, table_lines, write_table
from sweeps.tuning import choose

NUMBERS = ("Real metric", "Retain metric", "Forget metric", "Forget Quality")


def row(method: str, values: tuple[float, ...], *, seed: int = 1, modality: str = "both") -> dict[str, Any]:
    anchors = {"gold": dict(zip(NUMBERS, (0.7, 0.8, 0.1, 1.0), strict=True)),
               "base": dict(zip(NUMBERS, (0.6, 0.8, 0.9, 0.2), strict=True))}  # fmt: skip
    return {"method": method, "seed": seed, "modality": modality, **dict(zip(NUMBERS, values, strict=True)), **anchors}


def test_rank_correlation_by_hand() -> None:
    found = rank_correlation([10, 20, 30, 40, 50], [0.2, 0.1, 0.4, 0.3, 0.5])
    assert found.rho == pytest.approx(1 - 6 * 4 / (5 * 24)) and found.n == 5  # squared rank differences 1+1+1+1+0
    tied = rank_correlation([1, 2, 2, 4], [1, 3, 2, 4])  # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: 4.5 / sqrt(4.5 * 5)
    assert tied.rho == pytest.approx(4.5 / math.sqrt(22.5))
    assert rank_correlation([1, 2, 3, None, math.nan, 6], [3, 2, 1, 9, 9, math.inf]).rho == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, None, math.nan, 6], [3, 2, 1, 9, 9, math.inf]).n == 3
    for undefined in (
        rank_correlation([1, 2], [1, 2]),
        rank_correlation([1, 1, 1], [1, 2, 3]),
        rank_correlation([], []),
    ):
        assert undefined.rho is None and "not defined" in str(undefined)


def test_the_printed_tables_are_whole() -> None:
    for table, count in {"1": 13, "3": 32, "4": 12, "5": 10, "6": 10}.items():
        printed = paper_table(table)
        assert len(printed.rows) == count and printed.track == table_track(table)
        assert {len(values) for values in printed.rows.values()} == {len(printed.columns)} == {len(printed.headers)}
        assert FORGET[printed.track] in printed.columns
    assert len(paper_table("4", "mistral").rows) == 10 and "Mistral" in paper_table("4", "mistral").model
    assert paper_table("4", "llama-mini").rows["LLMU"] == [0.38, 0.03, 0.01, -2.31]


def test_lines_are_gold_and_base_then_the_papers_order_pooled_over_seeds() -> None:
    rows = [
        row("scrub", (0.5, 0.7, 0.6, 0.3)),
        row("npo", (0.4, 0.30, 0.2, 0.5)),
        row("npo", (0.6, 0.32, 0.4, 0.7), seed=2),
        row("twins", (0.5, 0.7, 0.6, 0.3)),
        row("dpo", (0.5, 0.9, 0.3, 0.4)),
    ]
    lines = table_lines("1", paper_table("1"), rows)
    assert [line.key for line in lines] == ["gold", "base", "dpo", "npo", "scrub", "twins"]
    npo = lines[3]
    assert npo.numbers["Real metric"] == pytest.approx(0.5) and npo.spread["Real metric"] == pytest.approx(0.02**0.5)
    assert npo.seeds == 2 and npo.low_retain and not lines[2].low_retain and npo.paper == [0.46, 0.14, 0.11, 0.76]
    assert lines[5].paper is None, "a method that the paper's table lacks"
    found = correlate(lines, paper_table("1"))
    # ours dpo .3, npo .3, scrub .6 against .22, .11, .36: ranks 1.5, 1.5, 3 and 2, 1, 3; gold, base and twins do not
    # count
    assert found["Forget metric"].rho == pytest.approx(1.5 / math.sqrt(1.5 * 2)) and found["Forget metric"].n == 3


def test_table_3_keeps_the_modalities_apart() -> None:
    numbers = {"both": 0.3, "text": 0.1, "visual": 0.2}
    rows = [row("npo", (0.5, 0.5, number, 0.5), modality=name) for name, number in numbers.items()]
    lines = table_lines("3", paper_table("3"), rows)[2:]
    assert [(line.key, line.modality, line.numbers["Forget metric"]) for line in lines] == [
        ("npo", "text", 0.1), ("npo", "visual", 0.2), ("npo", "both", 0.3)
    ]  # fmt: skip
    assert lines[1].paper == [0.48, 0.43, 0.24, 0.84]


def test_gold_and_base_of_table_4_get_the_logarithm_of_their_p_value() -> None:
    anchor = {"Real metric": 0.5, "Retain metric": 0.5, "Forget metric": 0.5, "KS test p-value": math.exp(-3)}
    ours = {
        **anchor,
        "method": "npo",
        "Log Forget Quality": -7.0,
        "gold": {**anchor, "KS test p-value": 1.0},
        "base": anchor,
    }
    lines = {line.key: line.numbers["Log Forget Quality"] for line in table_lines("4", paper_table("4"), [ours])}
    assert lines == {"base": pytest.approx(-3), "gold": 0.0, "npo": -7.0}


def test_files_of_a_table_and_table_2s_correlations_from_them(tmp_path: Path) -> None:
    methods = {"LLMU": 0.2, "dpo": 0.1, "scrub": 0.6, "idk": 0.5, "RMU": 0.0, "retain_ft": 0.9}
    other = tmp_path / "text.json"
    other.write_text(json.dumps({"track": "nlp", "rows": [{"key": name, "numbers": {"Forget metric": number**2}}
                                                            for name, number in methods.items()]}))  # fmt: skip
    sweep = Sweep(
        save_dir=str(tmp_path), table="1", transfer={"text": str(other), "visual": str(tmp_path / "none.json")}
    )
    text = write_table(sweep, [row(name, (0.5, 0.6, number, 0.5)) for name, number in methods.items()], 1.0)
    assert (tmp_path / "table1.md").read_text() == text and "| npo" not in text and "0.20 (0.25)" in text
    assert "text with multimodal: +1.00 (n 6" in text and "visual with multimodal: not yet: +table=5 makes" in text
    assert "paper +0.705 (from the numbers it prints: -0.27 (n 6" in text, (
        "its printed columns do not give what it prints"
    )
    kept = json.loads((tmp_path / "table1.json").read_text())
    assert kept["spearman"]["Forget metric"]["n"] == 6 and [line["key"] for line in kept["rows"]][:2] == [
        "gold",
        "base",
    ]
    assert kept["spearman"]["Real metric"] == {"rho": None, "p": None, "n": 6}, "a constant column has no ranking"
    assert forget_by_method(kept)["RMU"] == 0.0


def test_the_face_tracks_methods_bear_the_multimodal_names() -> None:
    rows = [{"key": key, "numbers": {"Forget accuracy": float(place)}} for place, key in
            enumerate(("original", "retrain", "finetune", "scrub", "llmu", "rmu", "dpo"))]  # fmt: skip
    assert forget_by_method({"track": "cv", "rows": rows}) == {
        "retain_ft": 2,
        "scrub": 3,
        "LLMU": 4,
        "RMU": 5,
        "dpo": 6,
    }
    assert transfer({}, {})[1].startswith("visual with multimodal: not yet")


def test_tuning_takes_the_nearest_to_gold_that_keeps_retain_else_the_one_that_keeps_most() -> None:
    numbers = {("npo", "a"): (0.79, 0.5), ("npo", "b"): (0.77, 0.2), ("npo", "c"): (0.5, 0.1), ("ga", "a"): (0.2, 0.1),
               ("ga", "b"): (0.3, 0.9)}  # fmt: skip
    rows = {key: {"Retain metric": retain, "Forget metric": forget} for key, (retain, forget) in numbers.items()}
    base, gold = {"Retain metric": 0.8, "Forget metric": 0.9}, {"Retain metric": 0.8, "Forget metric": 0.1}
    assert choose(rows, base, gold, 0.95) == {"npo": "b", "ga": "b"}
