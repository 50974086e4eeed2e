"""A leaderboard to read: one table per track and gold log as plain text, Markdown or LaTeX."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unlearn.leaderboard.entries import Entry, by_gold, drawable, entries, evaluated
from unlearn.leaderboard.escape import latex_cell, markdown_cell, one_line
from unlearn.leaderboard.privacy import AUC as MEMBERSHIP
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.leaderboard.section import Grid, Section, rows_of
from unlearn.leaderboard.tracks import track_named, tracks
from unlearn.metrics.aggregates import Track
from unlearn.metrics.columns import FLOOR, FORGET, QUALITY, Column, parts, shown

__all__ = ["Entry", "entries", "latex_table", "markdown_table", "text_table", "track_named"]


def text_table(rows: Iterable[Mapping[str, Any]], sections: Sequence[Section] = ()) -> str:
    """Aligned plain text, one table per track and gold log and those of the sections, with notes on how to read it."""
    return "\n\n".join(plain_text(header, body, notes) for header, body, _, notes in _grids(rows, sections))


def plain_text(header: Sequence[str], body: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """One table in aligned columns, its notes under it."""
    cells = [[one_line(cell) for cell in row] for row in (header, *body)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:], "", *map(one_line, notes)])


def markdown_table(rows: Iterable[Mapping[str, Any]], sections: Sequence[Section] = ()) -> str:
    """GitHub Markdown; rows under the Retain limit in italics."""
    blocks = []
    for header, body, grey, notes in _grids(rows, sections):
        text = [header, ["---"] * len(header)]
        for row, low in zip(body, grey, strict=True):
            escaped = map(markdown_cell, row)
            text.append([f"*{cell}*" if low and cell else cell for cell in escaped])
        lines = ["| " + " | ".join(row) + " |" for row in text]
        blocks.append("\n".join([*lines, "", *(f"- {markdown_cell(note)}" for note in notes)]))
    return "\n\n".join(blocks) + "\n"


def latex_table(rows: Iterable[Mapping[str, Any]], sections: Sequence[Section] = ()) -> str:
    """A booktabs tabular (packages booktabs, xcolor); rows under the Retain limit in grey."""
    blocks = []
    for header, body, grey, notes in _grids(rows, sections):
        text = [f"\\begin{{tabular}}{{l{'l' * (len(header) - 1)}}}", "\\toprule", _latex_row(header), "\\midrule"]
        text += [_latex_row(row, grey=low) for row, low in zip(body, grey, strict=True)]
        blocks.append("\n".join([*text, "\\bottomrule", "\\end{tabular}", *(f"% {one_line(note)}" for note in notes)]))
    return "% needs \\usepackage{booktabs,xcolor}\n" + "\n\n".join(blocks) + "\n"


def _grids(rows: Iterable[Mapping[str, Any]], sections: Sequence[Section]) -> list[Grid]:
    """A table for each track and gold that has rows, its lines under the Retain limit grey; then the sections'."""
    rows, problems = drawable(rows, sections)
    groups = by_gold(evaluated(rows))
    grids = [_grid(track, entries(group)) for track in tracks() for group in groups if group[0]["track"] == track.name]
    grids += [grid for section in sections for grid in section.grids(rows_of(section, rows))]
    if problems:
        left_out = f"{len(problems)} rows are not shown: {'; '.join(problems[:3])}{'; ...' * (len(problems) > 3)}."
        if not grids:
            grids.append(Grid(["Method"], [], [], []))
        grids[-1].notes.append(left_out)
    return grids


def _grid(track: Track, lines: Sequence[Entry]) -> Grid:
    """The parts of the Forget metric share a cell beside it."""
    together = " / ".join(column.heading or column.name for _, column in parts(track))
    header = ["Method", "Modality", "Seeds"]
    body = [[line.label + line.marks, line.modality, str(line.seeds)] for line in lines]
    for key, column in shown(track):
        if column.page_only or not any(key in line.numbers for line in lines):
            continue
        header.append(key if column is QUALITY else str(column.heading))
        for line, cells in zip(lines, body, strict=True):
            cells.append(_cell(line, key, column))
        if column is FORGET:
            header.append(together)
            for line, cells in zip(lines, body, strict=True):
                cells.append(" / ".join(_plain(line, key, part) for key, part in parts(track)))
    return Grid(header, body, [line.low_retain for line in lines], _notes(lines))


def _plain(line: Entry, key: str, column: Column) -> str:
    return column.text(line.numbers[key]) if key in line.numbers else ""


def _cell(line: Entry, key: str, column: Column) -> str:
    """0.71 [0.66, 0.75] for one run, 0.71 ± 0.02 for several seeds."""
    if key not in line.numbers or (column is FLOOR and line.role == "gold"):  # gold has no noise against itself
        return ""
    text, ends = _plain(line, key, column), line.intervals.get(key)
    if not column.interval:
        return text
    if line.seeds > 1:
        return f"{text} ± {column.text(line.spread.get(key, float('nan')))}"
    return text + (f" [{column.text(ends[0])}, {column.text(ends[1])}]" if ends and None not in ends else "")


def _notes(lines: Sequence[Entry]) -> list[str]:
    notes = [
        "Retain and Real: higher is better. Forget: gold's value is the goal; one of its three parts at zero makes "
        "it 0.",
        "Forget Quality: 1 = same truth ratios as gold. Floor: what two models without difference score on average.",
    ]
    keys = [key for key, column in shown(track_named(lines[0].track)) if column.interval]
    ends = [line.intervals[key] for line in lines for key in keys if key in line.intervals]
    if any(ends):
        notes.append("[low, high]: 95 % interval over people. Overlapping intervals are no test of a difference.")
    if None in ends:
        notes.append("No interval: fewer than four people, too few to say how other people would come out.")
    if any(MEMBERSHIP in line.numbers for line in lines):
        notes.append(
            "AUC: can forgotten people be told from people whom nobody was trained on? Gold's value is the goal: near "
            "1 they are remembered, near 0 over-forgotten. Privacy: 1 = as gold. Memorisation, Overall: gold's is the "
            "goal."
        )
    if any(line.seeds > 1 for line in lines):
        notes.append("±: standard deviation over seeds.")
    if any(line.low_retain for line in lines):
        notes.append(
            f"*: Retain metric under {LOW_RETAIN}: the model lost what it should keep; its forgetting says little."
        )
    if any("(inference-time" in line.label for line in lines):
        notes.append(
            "inference-time: no weight was changed. Prompts that a classifier flags are disturbed; where it misses, "
            "the model answers as it always did."
        )
    if any(line.memorised is False for line in lines):
        notes.append("!: base does not know the forget set clearly better than gold: the comparison means little.")
    if any(line.other_gold for line in lines):
        notes.append(
            "†: measured against another gold log than the gold above: aggregate it again (ckpt_result) to compare."
        )
    if unchecked := list(dict.fromkeys(fact for line in lines for fact in line.unchecked)):
        notes.append(
            f"The logs do not say, so that it was not compared with how gold was asked: {', '.join(unchecked)}."
        )
    return notes


def _latex_row(cells: Sequence[str], grey: bool = False) -> str:
    escaped = map(latex_cell, cells)
    return " & ".join(f"\\textcolor{{gray}}{{{cell}}}" if grey and cell else cell for cell in escaped) + r" \\"
