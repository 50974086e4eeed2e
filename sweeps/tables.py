"""A sweep's rows in the form of a table of the paper, with the paper's number beside each and rank correlations
below."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.paper import FORGET, PaperTable, paper_table, rank_correlation, transfer
from sweeps.settings import Sweep
from unlearn.atomic import write_json, write_text
from unlearn.leaderboard.escape import markdown_cell
from unlearn.leaderboard.file import role_of
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.metrics.columns import column_of

ANCHORS = {"mm": ("gold", "base"), "nlp": ("base", "gold"), "cv": ("original", "retrain")}


@dataclass(frozen=True)
class Line:
    """One line of a table: means over the seeds, their standard deviations, and what the paper prints there."""

    key: str
    modality: str
    seeds: int
    numbers: dict[str, float | None]
    spread: dict[str, float]
    paper: list[float] | None
    low_retain: bool


def write_table(sweep: Sweep, rows: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """`<save_dir>/table<N>.json` and `.md`; returns the Markdown. `rows` are leaderboard rows of this sweep's jobs."""
    assert sweep.table is not None
    printed = paper_table(sweep.table, sweep.model_family)
    lines = table_lines(sweep.table, printed, rows)
    correlations = correlate(lines, printed)
    carried = []
    if sweep.transfer and sweep.table == "1":
        own = {line.key: value for line in lines if (value := line.numbers[FORGET["mm"]]) is not None}
        carried = transfer(sweep.transfer, own)
    text = markdown(sweep, printed, lines, correlations, carried)
    file = Path(sweep.save_dir) / f"table{sweep.table}"
    write_json(file.with_suffix(".json"), {
        "table": sweep.table, "track": sweep.track, "model_family": sweep.model_family, "source": printed.source,
        "columns": printed.columns, "rows": [asdict(line) for line in lines], "seconds": seconds,
        "spearman": {column: asdict(found) for column, found in correlations.items()}, "transfer": carried,
    })  # fmt: skip
    write_text(file.with_suffix(".md"), text)
    return text


def table_lines(table: str, printed: PaperTable, rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Gold and base first, then the rows pooled over seeds, in the order of the paper's table, others after them."""
    pools: dict[tuple[str, str], list[dict[str, float | None]]] = {}
    for role in ANCHORS[printed.track] if printed.track != "cv" else ():
        if anchor := next((row[role] for row in rows if row.get(role)), None):
            pools[role, ""] = [_numbers(anchor, printed)]
    for row in rows:
        if row["method"] not in ("gold", "base") and role_of(row) == "method":
            modality = str(row.get("modality") or "") if table == "3" else ""
            pools.setdefault((str(row["method"]), modality), []).append(_numbers(row, printed))
    order = {key: place for place, key in enumerate(printed.rows)}
    lines = [_line(key, modality, pool, printed) for (key, modality), pool in pools.items()]
    return sorted(
        lines, key=lambda line: (line.key not in ANCHORS[printed.track], order.get(_paper_key(line), len(order)))
    )


def _line(key: str, modality: str, pool: Sequence[Mapping[str, float | None]], printed: PaperTable) -> Line:
    values = {name: [entry[name] for entry in pool if entry[name] is not None] for name in printed.columns}
    means = {name: float(np.mean(found)) if found else None for name, found in values.items()}  # type: ignore[arg-type]
    spread = {name: float(np.std(found, ddof=1)) for name, found in values.items() if len(found) > 1}  # type: ignore[arg-type]
    retain = means.get("Retain metric")
    return Line(key, modality, len(pool), means, spread, printed.rows.get(f"{key}/{modality}" if modality else key),
                retain is not None and retain < LOW_RETAIN and printed.track == "mm")  # fmt: skip


def _paper_key(line: Line) -> str:
    return f"{line.key}/{line.modality}" if line.modality else line.key


def _numbers(row: Mapping[str, Any], printed: PaperTable) -> dict[str, float | None]:
    """The table's columns of a row. Gold and base carry the KS p-value, not its logarithm."""
    found = {name: row.get(name) for name in printed.columns}
    if found.get("Log Forget Quality", 0) is None and row.get("KS test p-value") is not None:
        found["Log Forget Quality"] = math.log(max(row["KS test p-value"], np.finfo(np.float64).tiny))
    return found


def correlate(lines: Sequence[Line], printed: PaperTable) -> dict[str, Any]:
    """Per column, ours against the paper's, over the methods that both have (gold and base are no methods)."""
    both = [line for line in lines if line.paper is not None and line.key not in ANCHORS[printed.track]]
    return {
        name: rank_correlation(
            [line.numbers[name] for line in both], [line.paper[place] for line in both if line.paper]
        )
        for place, name in enumerate(printed.columns)
    }


def markdown(
    sweep: Sweep, printed: PaperTable, lines: Sequence[Line], correlations: Mapping[str, Any], carried: Sequence[str]
) -> str:
    """The table, each cell ours with the paper's in brackets, and the notes that it takes to read it."""
    named = any(line.modality for line in lines)
    head = ["Method", *(["Modality"] if named else []), "Seeds", *printed.headers]
    text = [head, ["---"] * len(head)]
    for line in lines:
        cells = [_cell(line, place, name) for place, name in enumerate(printed.columns)]
        name = markdown_cell(line.key + "*" * line.low_retain)
        text.append([name, *([markdown_cell(line.modality)] if named else []), str(line.seeds), *cells])
    notes = [
        f"Table {sweep.table} ({printed.title}) on {markdown_cell(sweep.model_family)}. In brackets what the "
        f"paper prints for {printed.model}.",
        "Spearman's rank correlation with the paper's column, over the methods of both: "
        + "; ".join(
            f"{header} {correlations[name]}" for header, name in zip(printed.headers, printed.columns, strict=True)
        ),
        *(
            ["Transfer as in the paper's Table 2 (rank correlation of forget metrics): " + "; ".join(carried)]
            if carried
            else []
        ),
        *(
            [f"\\*: Retain metric under {LOW_RETAIN}, greyed in the paper."]
            if any(line.low_retain for line in lines)
            else []
        ),
        *(["±: standard deviation over seeds."] if any(line.spread for line in lines) else []),
        f"Source of the printed numbers: {printed.source}.",
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in text) + "\n\n" + "".join(f"- {note}\n" for note in notes)


def _cell(line: Line, place: int, name: str) -> str:
    value = line.numbers[name]
    column = column_of(name)
    digits = column.digits if column else 1 if "accuracy" in name else 2  # the face track's own numbers: percent
    ours = "" if value is None else f"{value:.{digits}f}"
    if name in line.spread:
        ours += f" ± {line.spread[name]:.{digits}f}"
    theirs = "" if line.paper is None else f" ({line.paper[place]:.{digits}f})"
    return ours + theirs
