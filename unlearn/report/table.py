"""View: the leaderboard as a table that can be sorted, once for each definition of the numbers."""

from collections.abc import Sequence
from typing import Any

from unlearn.leaderboard.table import Entry, entries
from unlearn.metrics.aggregates import MM, Track
from unlearn.report.board import Board
from unlearn.report.tradeoff import bar

# What is good: more, or gold's value; None where the number helps to read its neighbour.
_GOALS = {
    "Real metric": "up",
    "Retain metric": "up",
    "Forget metric": "gold",
    "Model Utility": "up",
    "Null floor": None,
    "KS test p-value": "up",
}
_NAMES = {"Real metric": "Real", "Retain metric": "Retain", "Forget metric": "Forget", "Model Utility": "Utility",
          "Null floor": "Floor", "KS test p-value": "KS p"}  # fmt: skip


def table(board: Board) -> dict[str, Any]:
    """Columns and lines for each definition. Gold and base come first; seeds of one method are one line."""
    return {
        name: _table(entries(rows), board.track)
        for name, rows in {"paper": board.rows, "reference": board.reference_rows()}.items()
    }


def _table(lines: Sequence[Entry], track: Track) -> dict[str, Any]:
    columns = [column for column in _columns(track) if any(column["key"] in line.numbers for line in lines)]
    return {"columns": columns, "lines": [_line(line, columns) for line in lines]}


def _columns(track: Track) -> list[dict[str, Any]]:
    """{"key", "name", "goal"} of every column, in reading order."""
    parts = track.composites["Forget metric"]
    quality = ["Forget Quality"] if track is MM else ["JS Forget Quality"]
    p_value = "KS test p-value" if track is MM else "Forget Quality"  # nlp calls the p-value its Forget Quality
    keys = ["Real metric", "Retain metric", "Forget metric", *quality, "Null floor", p_value, "Model Utility", *parts]
    names = {
        **_NAMES,
        **{part: f"Forget: {_part_name(part)}" for part in parts},
        quality[0]: "Forget Quality",
        p_value: "KS p",
    }
    goals = {**_GOALS, **dict.fromkeys(parts, "gold"), quality[0]: "up", p_value: "up"}
    return [{"key": key, "name": names[key], "goal": goals[key], "part": key in parts} for key in keys]


def _part_name(part: str) -> str:
    """`TR` for "Truth Ratio Forget"."""
    return "TR" if part.startswith("Truth Ratio") else part.split()[0]


def _line(line: Entry, columns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    cells = {
        column["key"]: {"value": line.numbers[column["key"]], "bar": bar(line, column["key"])}
        for column in columns
        if column["key"] in line.numbers
    }
    if line.role == "gold":
        cells.pop("Null floor", None)  # gold against itself has no noise to compare with
    return {
        "label": line.label, "role": line.role, "modality": line.modality, "seeds": line.seeds, "cells": cells,
        "low_retain": line.low_retain, "memorised": line.memorised,
    }  # fmt: skip
