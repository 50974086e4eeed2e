"""The trade-off picture: what was kept (Retain metric) against what is left (Forget metric), gold and base marked."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearn.leaderboard.entries import Entry, entries
from unlearn.leaderboard.escape import one_line
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.metrics.columns import DIRECTIONS, FORGET, RETAIN, Column

# Okabe and Ito (2008), told apart by colour-blind readers; the marker changes too, so that grey print works.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#666666")
_MARKERS = ("o", "s", "^", "v", "P", "X", "D", "p", "h", "<", ">")
LEGEND_ROWS = 22  # that many fit beside the plot
_ANCHORS = {"gold": ("*", "#B8860B", 19), "base": ("d", "#000000", 12)}


def trade_off_picture(rows: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Writes a PNG with one point per run (or per pooled seeds) and track; returns its path.

    Bars are 95 % intervals, or one standard deviation over seeds. ValueError if no row has both metrics.
    """
    from matplotlib.figure import Figure

    points = [line for line in entries(rows) if {RETAIN.name, FORGET.name} <= line.numbers.keys()]
    if not points:
        raise ValueError(f"{path}: no row has a Retain and a Forget metric, so there is nothing to draw")
    tracks = list(dict.fromkeys(point.track for point in points))
    longest = max(len(line) for point in points for line in _label(point).splitlines())
    columns = math.ceil(max(sum(point.track == track for point in points) for track in tracks) / LEGEND_ROWS)
    width = 5.4 + columns * (0.5 + 0.075 * longest)  # inches: the plot, and beside it the legend
    figure = Figure(figsize=(max(8.6, width), 5.4 * len(tracks)), layout="constrained", dpi=150)
    for axes, track in zip(figure.subplots(len(tracks), squeeze=False)[:, 0], tracks, strict=True):
        _draw(axes, [point for point in points if point.track == track], track)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path


def _draw(axes: Any, points: list[Entry], track: str) -> None:
    for guide in (point for point in points if point.role == "gold"):
        axes.axhline(guide.numbers[FORGET.name], color="#B8860B", lw=1, ls=":", zorder=1)
        axes.axvline(guide.numbers[RETAIN.name], color="#B8860B", lw=1, ls=":", zorder=1)
    axes.axvspan(-0.02, LOW_RETAIN, color="#000000", alpha=0.05, lw=0, zorder=0)
    axes.text(0.01, 0.985, f"Retain under {LOW_RETAIN}", color="#666666", fontsize=8, va="top")
    models = [point for point in points if point.role == "model"]
    styles = {
        id(point): (_MARKERS[i % len(_MARKERS)], _COLOURS[i % len(_COLOURS)], 9) for i, point in enumerate(models)
    }
    for point in [*models, *(point for point in points if point.role != "model")]:
        marker, colour, size = styles.get(id(point)) or _ANCHORS[point.role]
        bars = [_bar(point, RETAIN.name), _bar(point, FORGET.name)]
        axes.errorbar(
            point.numbers[RETAIN.name],
            point.numbers[FORGET.name],
            xerr=bars[0],
            yerr=bars[1],
            fmt=marker,
            ms=size,
            color=colour,
            mec="white" if not point.low_retain else colour,
            mew=0.8,
            mfc="white" if point.low_retain else colour,
            elinewidth=1,
            capsize=2,
            zorder=3 if point.role == "model" else 4,
            label=_label(point),
        )
    axes.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=_axis(RETAIN), ylabel=_axis(FORGET),
    )  # fmt: skip
    axes.set_title(f"Forgetting against keeping ({track})", loc="left", fontsize=11)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    order = [*range(len(models), len(labels)), *range(len(models))]  # gold and base first
    crowded = len(labels) > LEGEND_ROWS
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="center left", bbox_to_anchor=(1.01, 0.5),
        frameon=False, fontsize=8 if crowded else 9, labelspacing=0.5 if crowded else 0.9,
        ncols=math.ceil(len(labels) / LEGEND_ROWS),
    )  # fmt: skip


def _axis(column: Column) -> str:
    return f"{column.name}: {column.meaning} ({DIRECTIONS[str(column.direction)]})"


def _bar(point: Entry, name: str) -> list[list[float]] | None:
    """Distances below and above the point, as matplotlib wants them."""
    value, ends = point.numbers[name], point.intervals.get(name)
    if point.seeds > 1:
        return [[point.spread[name]], [point.spread[name]]]
    if not ends or None in ends:
        return None
    return [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]


def _label(point: Entry) -> str:
    details = [point.modality] * bool(point.modality) + [f"{point.seeds} seeds"] * (point.seeds > 1)
    label = one_line(point.label + point.marks).replace("$", r"\$")  # matplotlib would read a formula
    return label + (f" ({', '.join(details)})" if details else "")
