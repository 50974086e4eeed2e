"""View: the leaderboard as a table that can be sorted, once for each definition of the numbers."""

from collections.abc import Sequence
from typing import Any

from unlearn.leaderboard.entries import Entry, entries
from unlearn.metrics.aggregates import Track
from unlearn.metrics.columns import FLOOR, Column, parts, shown
from unlearn.report.board import Board
from unlearn.report.tradeoff import bar


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
    """What the page must know of every column, in reading order."""
    return [
        *(_column(key, column, str(column.heading), part=False) for key, column in shown(track)),
        *(_column(key, column, f"Forget: {column.heading or column.name}", part=True) for key, column in parts(track)),
    ]


def _column(key: str, column: Column, name: str, *, part: bool) -> dict[str, Any]:
    """`goal`: what is good, more ("up") or gold's value ("gold"); None where the number helps to read its neighbour."""
    return {
        "key": key, "name": name, "goal": "gold" if part else column.direction, "part": part, "digits": column.digits,
        "significant": column.significant, "bounded": column.bounded, "interval": column.interval,
    }  # fmt: skip


def _line(line: Entry, columns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    cells = {
        column["key"]: {"value": line.numbers[column["key"]], "bar": bar(line, column["key"])}
        for column in columns
        if column["key"] in line.numbers
    }
    if line.role == "gold":
        cells.pop(FLOOR.name, None)  # gold against itself has no noise to compare with
    return {
        "label": line.label, "role": line.role, "modality": line.modality, "seeds": line.seeds, "cells": cells,
        "low_retain": line.low_retain, "memorised": line.memorised, "other_gold": line.other_gold,
        "unchecked": line.unchecked,
    }  # fmt: skip
