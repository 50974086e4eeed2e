"""Names beside the points of a picture, where a legend would be too long to read: none covers another or a point."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

RADII = (9, 16, 24, 34, 46, 60, 76, 94, 114, 136, 160, 190)  # in points, from a marker's middle to its name
ANGLES = 24
GAP = 1.5  # points around a name


def label_points(axes: Any, places: Sequence[tuple[float, float]], names: Sequence[str], colours: Sequence[str],
                 taken: Sequence[tuple[float, float]] = (), size: float = 9) -> None:  # fmt: skip
    """Writes a name beside each place (in the axes' data), as near as there is room, with a line to what is far.

    The names of the most crowded places are set first. `taken`: points without a name here that stay free as well.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    figure.draw_without_rendering()  # only now the axes have their place
    renderer, unit = FigureCanvasAgg(figure).get_renderer(), figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    points = axes.transData.transform(np.array(list(places), dtype=float).reshape(-1, 2))
    others = axes.transData.transform(np.array(list(taken), dtype=float).reshape(-1, 2))
    near = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    boxes = [_box(x, y, 5 * unit, 5 * unit) for x, y in [*points, *others]]
    for place in np.argsort(np.sort(near, axis=1)[:, : min(6, len(points))].sum(axis=1)):
        dark = [0.65 * part for part in to_rgb(colours[place])]  # yellow and sky blue are hard to read on white
        text = axes.text(0, 0, names[place], fontsize=size, color=dark, ha="center", va="center", zorder=6)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white", alpha=0.85)])
        extent = text.get_window_extent(renderer)
        half = extent.width / 2 + GAP * unit, extent.height / 2 + GAP * unit
        middle, box = _free(points[place], half, boxes, frame, unit)
        boxes.append(box)
        text.set_position(axes.transData.inverted().transform(middle))
        away = middle - points[place]
        if max(abs(away[0]) - half[0], abs(away[1]) - half[1]) > 7 * unit:
            edge = points[place] + away * (1 - min(1, *(h / abs(a) for h, a in zip(half, away, strict=True) if a)))
            ends = axes.transData.inverted().transform([points[place], edge])
            axes.plot(*ends.T, color=colours[place], lw=0.6, alpha=0.7, zorder=2, label="_line")


def _free(point: Any, half: tuple[float, float], boxes: list[Any], frame: Any, unit: float) -> tuple[Any, Any]:
    """(middle, box) of the nearest place for a name of this half size that covers least."""
    best: tuple[float, Any, Any] | None = None
    for radius in RADII:
        for turn in range(ANGLES):
            angle = 2 * math.pi * turn / ANGLES
            way = np.array([math.cos(angle), math.sin(angle)])
            middle = point + way * (radius * unit) + way * half
            box = _box(middle[0], middle[1], *half)
            outside = box[0] < frame.x0 or box[1] < frame.y0 or box[2] > frame.x1 or box[3] > frame.y1
            covered = sum(_overlap(box, other) for other in boxes)
            cost = 1e6 * outside + 10 * covered + radius
            if best is None or cost < best[0]:
                best = cost, middle, box
        if best is not None and best[0] <= radius:
            break
    assert best is not None
    return best[1], best[2]


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x - width, y - height, x + width, y + height


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
