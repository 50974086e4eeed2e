"""The pictures of one budget for all: each method's numbers beside gold's, and who is on the Pareto front."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.metrics.columns import FORGET, RETAIN
from unlearn.report.labels import label_points

Line = Mapping[str, Any]  # of results.json
TUNED, PLAIN, GOLD, FRONT = "#0072B2", "#999999", "#B8860B", "#D55E00"
SHOWN, NAMED = 0.5, 8  # Retain from which the front is drawn, what keeps less being named above; names beside points


def methods_picture(lines: Sequence[Line], columns: Sequence[tuple[str, str]], path: Path) -> Path:
    """A row for each method, the nearest to gold in Forget on top, and a panel for each (key, heading): its defaults
    hollow, tuned filled with its interval; gold and base as lines."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    anchors, tuned, plain = _parts(lines)
    goal = _value(anchors["gold"], FORGET.name)
    best = {**plain, **tuned}  # where no tuned run succeeded, the defaults alone
    names = sorted(best, key=lambda name: (abs(_value(best[name], FORGET.name) - goal), name), reverse=True)
    figure = Figure(figsize=(3.4 * len(columns) + 2.4, 1.3 + 0.25 * len(names)), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (key, heading) in zip(panels, columns, strict=True):
        for anchor, colour, style in (("gold", GOLD, "-"), ("base", "#000000", ":")):
            axes.axvline(_value(anchors[anchor], key), color=colour, ls=style, lw=1.3, zorder=1, label=anchor)
        for place, name in enumerate(names):
            if name in tuned:
                one = tuned[name]["numbers"][key]
                axes.plot(one["value"], place, "o", color=TUNED, ms=5.5, zorder=4)
                if one["ends"]:
                    axes.plot(one["ends"], [place, place], color=TUNED, lw=1.2, alpha=0.5, zorder=2)
            if name in plain:
                axes.plot(_value(plain[name], key), place, "o", mfc="white", mec=PLAIN, ms=5.5, zorder=3)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.8, len(names) - 0.2))
        axes.set_title(heading, fontsize=10, loc="left")
        axes.grid(color="#E5E5E5", lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(names)), names)
    handles = [*panels[0].get_legend_handles_labels()[0],
               Line2D([], [], marker="o", ls="", color=TUNED, ms=5.5, label="tuned"),
               Line2D([], [], marker="o", ls="", mfc="white", mec=PLAIN, ms=5.5, label="at its defaults")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return _save(figure, path)


def front_picture(lines: Sequence[Line], path: Path) -> Path:
    """What is kept against how far Forget ends from gold's: right and down is better. Named are the front and the
    NAMED nearest to gold."""
    from matplotlib.figure import Figure

    anchors, tuned, plain = _parts(lines)
    goal = _value(anchors["gold"], FORGET.name)

    def place(line: Line) -> tuple[float, float]:
        return _value(line, RETAIN.name), abs(_value(line, FORGET.name) - goal)

    rows = [*tuned.values(), *plain.values()]
    shown = [line for line in rows if place(line)[0] >= SHOWN]
    figure = Figure(figsize=(9.5, 6.2), layout="constrained", dpi=130)
    axes = figure.subplots()
    for kind, own, colour, fill in (("tuned", tuned, TUNED, TUNED), ("at its defaults", plain, PLAIN, "white")):
        points = [place(line) for line in own.values() if line in shown]
        if points:
            axes.plot(*zip(*points, strict=True), "o", ms=6, mec=colour, mfc=fill, ls="", zorder=3, label=kind)
    front = sorted(place(line) for line in shown if line["front"])
    axes.plot(*_stairs(front), color=FRONT, lw=1.2, zorder=2, label="Pareto front")
    for name, marker, colour in (("gold", "*", GOLD), ("base", "d", "#000000")):
        axes.plot(
            *place(anchors[name]), marker, color=colour, ms=13 if name == "gold" else 9, ls="", zorder=4, label=name
        )
    best = sorted(shown, key=lambda line: place(line)[1])[:NAMED]
    named = [line for line in shown if line["front"] or line in best]
    left_out = sorted(line["label"] for line in rows if line not in shown)
    axes.set(xlabel="Retain metric: what is kept (higher is better)", ylim=(-0.03, None),
             ylabel="distance of the Forget metric from gold's (lower is better)")  # fmt: skip
    axes.set_title("What forgets as gold does, and what it costs", loc="left", fontsize=11)
    if left_out:
        axes.set_title(
            f"not shown, Retain under {SHOWN}: {', '.join(left_out)}", loc="right", fontsize=8, color="#666666"
        )
    axes.grid(color="#E5E5E5", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    colours = [FRONT if line["front"] else "#333333" for line in named]
    others = [place(line) for line in (*shown, *anchors.values()) if line not in named]
    label_points(axes, [place(line) for line in named], [line["label"] for line in named], colours, others, 8)
    return _save(figure, path)


def _parts(lines: Sequence[Line]) -> tuple[dict[str, Line], dict[str, Line], dict[str, Line]]:
    """(gold and base, the tuned rows, those at their defaults) by name."""
    anchors = {line["label"]: line for line in lines if line["label"] in ("gold", "base")}
    rows = [line for line in lines if line["label"] not in anchors]
    tuned, plain = ({line["method"]: line for line in rows if line["tuned"] == kind} for kind in (True, False))
    return anchors, tuned, plain


def _value(line: Line, key: str) -> float:
    return float(line["numbers"][key]["value"])


def _stairs(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """A front as steps, from what keeps least to what keeps most."""
    xs, ys = [], []
    for number, (x, y) in enumerate(points):
        if number:
            xs.append(points[number - 1][0])
            ys.append(y)
        xs.append(x)
        ys.append(y)
    return xs, ys


def _save(figure: Any, path: Path) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path
