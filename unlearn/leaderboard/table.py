"""A leaderboard to read: runs that differ only in the seed pooled, gold and base on top, as plain text, Markdown or
LaTeX."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearn import leaderboard_faces
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.metrics.aggregates import MM, NLP, Track

_PARTS = "ROUGE / Prob. / TR"
_SHOWN = (
    "Real metric",
    "Retain metric",
    "Forget metric",
    "Forget Quality",
    "JS Forget Quality",
    "Null floor",
    "KS test p-value",
)


@dataclass(frozen=True)
class Entry:
    """One line: a run, or several seeds of one. `numbers` are means over the seeds, `spread` their standard deviations
    (several seeds), `intervals` the 95 % intervals (one seed; None: too few people). `role`: gold, base or model."""

    label: str
    role: str
    track: str
    modality: str
    seeds: int
    numbers: dict[str, float]
    spread: dict[str, float]
    intervals: dict[str, list[float] | None]
    low_retain: bool
    memorised: bool | None


def entries(rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Gold and base of the rows first, then the rows in their order, seeds pooled.

    Seeds are pooled where method, model family, split, modality and variant are the same and every seed occurs once,
    all evaluated alike; other rows stay apart, told apart by the hash of their settings or of their evaluation.
    """
    rows = list(rows)
    pools: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for role, row in [*_anchors(rows), *((_role(row), row) for row in rows)]:
        family = row.get("model_family") or row.get("model")
        pools[
            role, row["track"], row["method"], family, row.get("forget_split"), row.get("modality"), row.get("variant")
        ].append(row)
    lines: list[Entry] = []
    for (role, *_), pool in pools.items():
        seeds = [row.get("seed") for row in pool]
        one_way = len({row.get("evaluation") for row in pool}) == 1
        if len(pool) == 1 or (one_way and None not in seeds and len(set(seeds)) == len(seeds)):
            lines.append(_entry(role, pool))
        else:
            told = "settings_hash" if one_way else "evaluation"
            lines += [_entry(role, [row], mark=str(row.get(told) or row.get("model"))) for row in pool]
    return sorted(lines, key=lambda line: ("gold", "base", "model").index(line.role))


def text_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Aligned plain text, one table per track, with notes on how to read it."""
    blocks = []
    for header, body, _, notes in _grids(rows):
        cells = [header, *body]
        widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        blocks.append("\n".join([text[0], "-" * len(text[0]), *text[1:], "", *notes]))
    return "\n\n".join(blocks)


def markdown_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """GitHub Markdown; rows under the Retain limit in italics."""
    blocks = []
    for header, body, grey, notes in _grids(rows):
        text = [header, ["---"] * len(header)]
        for row, low in zip(body, grey, strict=True):
            escaped = [re.sub(r"([|*_\\])", r"\\\1", cell) for cell in row]
            text.append([f"*{cell}*" if low and cell else cell for cell in escaped])
        blocks.append(
            "\n".join(["| " + " | ".join(row) + " |" for row in text] + [""] + [f"- {note}" for note in notes])
        )
    return "\n\n".join(blocks) + "\n"


def latex_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """A booktabs tabular (packages booktabs, xcolor); rows under the Retain limit in grey."""
    blocks = []
    for header, body, grey, notes in _grids(rows):
        text = [f"\\begin{{tabular}}{{l{'l' * (len(header) - 1)}}}", "\\toprule", _latex_row(header), "\\midrule"]
        text += [_latex_row(row, grey=low) for row, low in zip(body, grey, strict=True)]
        blocks.append("\n".join([*text, "\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in notes)]))
    return "% needs \\usepackage{booktabs,xcolor}\n" + "\n\n".join(blocks) + "\n"


def _anchors(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """(role, numbers) of each gold and base that rows were compared with and that has no row of its own."""
    own = {row.get("logs", {}).get("model") for row in rows} - {None}
    found: dict[tuple[Any, ...], tuple[str, Mapping[str, Any]]] = {}
    for role in ("gold", "base"):
        for row in rows:
            anchor = row.get(role) or {}
            if anchor.get("Retain metric") is not None and anchor.get("log") not in own:
                found[role, anchor["log"], *(anchor.get(name) for name in _SHOWN)] = (role, anchor)
    return list(found.values())


def _role(row: Mapping[str, Any]) -> str:
    logs = row.get("logs") or {}
    return next((role for role in ("gold", "base") if logs.get("model") and logs.get(role) == logs["model"]), "model")


def _entry(role: str, pool: Sequence[Mapping[str, Any]], mark: str = "") -> Entry:
    first = pool[0]
    names = [*_SHOWN, *track_named(first["track"]).composites["Forget metric"]]
    values = {name: [row[name] for row in pool if row.get(name) is not None] for name in names}
    several = len(pool) > 1
    numbers = {name: float(np.mean(found)) for name, found in values.items() if found}
    label = first["method"] if role == "model" else f"{role} ({first['method']})"
    gates = [row.get("memorised") for row in pool]
    return Entry(
        label=f"{label} [{mark}]" if mark else label,
        role=role,
        track=first["track"],
        modality=first.get("modality") or "",
        seeds=len(pool),
        numbers=numbers,
        spread={name: float(np.std(found, ddof=1)) for name, found in values.items() if len(found) > 1}
        if several
        else {},
        intervals={} if several else dict(first.get("intervals") or {}),
        low_retain=numbers.get("Retain metric", 1.0) < LOW_RETAIN,
        memorised=False if False in gates else None if None in gates else True,
    )


def track_named(name: str) -> Track:
    """The track of a row."""
    return NLP if name == NLP.name else MM


def _grids(rows: Iterable[Mapping[str, Any]]) -> list[tuple[list[str], list[list[str]], list[bool], list[str]]]:
    """(header, cells, which lines are under the Retain limit, notes) for each track that has rows, and each study of
    faces."""
    rows = list(rows)
    lines = entries(row for row in rows if row["track"] != leaderboard_faces.TRACK)
    grids = []
    for track in (MM, NLP):
        own = [line for line in lines if line.track == track.name]
        js = "Forget Quality" if track is MM else "JS Forget Quality"
        header = ["Method", "Modality", "Seeds", "Real", "Retain", "Forget", _PARTS, js, "Floor", "KS p"]
        body = [
            [
                line.label + "*" * line.low_retain + "!" * (line.memorised is False),
                line.modality,
                str(line.seeds),
                *(_cell(line, name) for name in ("Real metric", "Retain metric", "Forget metric")),
                " / ".join(_plain(line, part) for part in track.composites["Forget metric"]),
                _cell(line, js),
                "" if line.role == "gold" else _plain(line, "Null floor"),
                f"{line.numbers['KS test p-value']:.2g}" if "KS test p-value" in line.numbers else "",
            ]
            for line in own
        ]
        if own:
            grids.append((header, body, [line.low_retain for line in own], _notes(own)))
    for study in leaderboard_faces.studies(rows):
        header, body = leaderboard_faces.grid(study)
        notes = [leaderboard_faces.title(study[0]), *leaderboard_faces.reading(study[0])]
        grids.append((header, body, [False] * len(body), notes))
    return grids


def _plain(line: Entry, name: str) -> str:
    return f"{line.numbers[name]:.2f}" if name in line.numbers else ""


def _cell(line: Entry, name: str) -> str:
    """0.71 [0.66, 0.75] for one run, 0.71 ± 0.02 for several seeds."""
    if name not in line.numbers:
        return ""
    ends = line.intervals.get(name)
    if line.seeds > 1:
        return f"{line.numbers[name]:.2f} ± {line.spread.get(name, float('nan')):.2f}"
    return _plain(line, name) + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends and None not in ends else "")


def _notes(lines: Sequence[Entry]) -> list[str]:
    notes = [
        "Retain and Real: higher is better. Forget: gold's value is the goal; one of its three parts at zero makes "
        "it 0.",
        "Forget Quality: 1 = same truth ratios as gold. Floor: what two models without difference score on average.",
    ]
    shown = [line.intervals[name] for line in lines for name in _SHOWN if name in line.intervals]
    if any(shown):
        notes.append("[low, high]: 95 % interval over people. Overlapping intervals are no test of a difference.")
    if None in shown:
        notes.append("No interval: fewer than four people, too few to say how other people would come out.")
    if any(line.seeds > 1 for line in lines):
        notes.append("±: standard deviation over seeds.")
    if any(line.low_retain for line in lines):
        notes.append(
            f"*: Retain metric under {LOW_RETAIN}: the model lost what it should keep; its forgetting says little."
        )
    if any(line.memorised is False for line in lines):
        notes.append("!: base does not know the forget set clearly better than gold: the comparison means little.")
    return notes


def _latex_row(cells: Sequence[str], grey: bool = False) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    escaped = ["".join(special.get(character, character) for character in cell) for cell in cells]
    return " & ".join(f"\\textcolor{{gray}}{{{cell}}}" if grey and cell else cell for cell in escaped) + r" \\"
