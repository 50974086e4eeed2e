"""The trade-off picture: what was kept (Retain metric) against what is left (Forget metric), gold and base marked."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearn.leaderboard.entries import Entry, entries
from unlearn.leaderboard.escape import one_line
from unlearn.leaderboard.row import LOW_RETAIN
from unlearn.metrics.columns import DIRECTIONS, FORGET, RETAIN, Column
from unlearn.report.labels import label_points

# Okabe and Ito (2008), told apart by colour-blind readers; the marker changes too, so that grey print works.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#666666")
_MARKERS = ("o", "s", "^", "v", "P", "X", "D", "p", "h", "<", ">")
LEGEND_ROWS = 10  # more names than that stand beside their points
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
    groups = [[point for point in points if point.track == track] for track in tracks]
    heights = [8.6 if _crowded(group) else 5.4 for group in groups]
    beside = [len(_label(point)) for group in groups if not _crowded(group) for point in group]
    width = max(5.9 + 0.075 * max(beside) if beside else 0, 8.6)  # inches: the plot, and beside it the legend
    figure = Figure(figsize=(width, sum(heights)), layout="constrained", dpi=150)
    panels = figure.subplots(len(tracks), squeeze=False, height_ratios=heights)[:, 0]
    for axes, track, group in zip(panels, tracks, groups, strict=True):
        _draw(axes, group, track)
    for axes, group in zip(panels, groups, strict=True):
        if _crowded(group):  # after all are drawn: the names need the axes' final places
            _name_points(axes, group)
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
    if (left := _limits(points, RETAIN)[0]) < LOW_RETAIN:
        top = _limits(points, FORGET)[1]
        axes.text(left + 0.02, top - 0.02, f"Retain under {LOW_RETAIN}", color="#666666", fontsize=8, va="top")
    from matplotlib.colors import to_rgb

    crowded = _crowded(points)
    models = [point for point in points if point.role == "model"]
    styles = _styles(models, crowded)
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
            ecolor=(*to_rgb(colour), 0.3) if crowded else colour,
            capsize=0 if crowded else 2,
            zorder=3 if point.role == "model" else 4,
            label=None if crowded and point.role == "model" else _label(point),
        )
    axes.set(
        xlim=_limits(points, RETAIN), ylim=_limits(points, FORGET), xlabel=_axis(RETAIN), ylabel=_axis(FORGET),
    )  # fmt: skip
    axes.set_title(f"Forgetting against keeping ({track})", loc="left", fontsize=11)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    if crowded:
        _short_legend(axes, models)
        return
    handles, labels = axes.get_legend_handles_labels()
    names = {_label(model) for model in models}
    order = sorted(range(len(labels)), key=lambda i: labels[i] in names)  # gold and base first
    axes.legend(
        [handles[i] for i in order], [labels[i] for i in order], loc="center left", bbox_to_anchor=(1.01, 0.5),
        frameon=False, fontsize=9, labelspacing=0.9,
    )  # fmt: skip


def _limits(points: list[Entry], column: Column) -> tuple[float, float]:
    """From 0 to 1, so that pictures can be compared; or where many points share it, no more than they need."""
    values = [point.numbers[column.name] for point in points]
    margin = max(0.05, 0.12 * (max(values) - min(values)))
    low, high = (min(values) - margin, max(values) + margin) if _crowded(points) else (0.0, 1.0)
    return max(-0.02, low), min(1.02, high)


def _crowded(points: list[Entry]) -> bool:
    return sum(point.role == "model" for point in points) > LEGEND_ROWS


def _styles(models: list[Entry], crowded: bool) -> dict[int, tuple[str, str, int]]:
    """Marker, colour and size by point. Where names stand beside points, a method has one colour, and what is in
    brackets after its name, (tuned), one marker."""
    if not crowded:
        return {
            id(point): (_MARKERS[i % len(_MARKERS)], _COLOURS[i % len(_COLOURS)], 9) for i, point in enumerate(models)
        }
    names, kinds = (list(dict.fromkeys(_parts(point)[part] for point in models)) for part in (0, 1))
    return {
        id(point): (_MARKERS[kinds.index(kind) % len(_MARKERS)], _COLOURS[names.index(name) % len(_COLOURS)], 7)
        for point in models for name, kind in [_parts(point)]
    }  # fmt: skip


def _parts(point: Entry) -> tuple[str, str]:
    """("npo", "tuned") of "npo (tuned)"; no second part of a name without brackets."""
    found = re.fullmatch(r"(.+?) \(([^()]+)\)", point.label)
    return (found[1], found[2]) if found else (point.label, "")


def _short_legend(axes: Any, models: list[Entry]) -> None:
    """Gold, base, and what the markers say."""
    from matplotlib.lines import Line2D

    handles, _ = axes.get_legend_handles_labels()
    kinds = {_parts(point)[1]: style[0] for point, style in zip(models, _styles(models, True).values(), strict=True)}
    shared = _details(models)
    for kind, marker in kinds.items() if len(kinds) <= LEGEND_ROWS else ():
        label = kind or ("default settings" if len(kinds) > 1 else "a method")
        handles.append(Line2D([], [], ls="", marker=marker, color="#666666", ms=7, label=label + shared))
    if any(point.low_retain for point in models):
        words = f"hollow: Retain under {LOW_RETAIN}"
        handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec="#666666", ms=7, label=words))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3, frameon=False, fontsize=10)


def _name_points(axes: Any, points: list[Entry]) -> None:
    models = [point for point in points if point.role == "model"]
    styles, shared = _styles(models, True), _details(models)
    names = [_parts(point)[0] + point.marks + ("" if shared else _details([point])) for point in models]
    colours = [styles[id(point)][1] for point in models]
    anchors = [point for point in points if point.role != "model"]
    label_points(axes, _places(models), [_plain(name) for name in names], colours, taken=_places(anchors))


def _places(points: list[Entry]) -> list[tuple[float, float]]:
    return [(point.numbers[RETAIN.name], point.numbers[FORGET.name]) for point in points]


def _details(points: list[Entry]) -> str:
    """Modality and number of seeds in brackets, where all of the points have the same; else nothing."""
    found = {_label(point)[len(_plain(point.label + point.marks)) :] for point in points}
    return found.pop() if len(found) == 1 else ""


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
    return _plain(point.label + point.marks) + (f" ({', '.join(details)})" if details else "")


def _plain(name: str) -> str:
    return one_line(name).replace("$", r"\$")  # matplotlib would read a formula
