"""Pictures of the face track: the logits an attacker sees (the paper's Figure 6), and the attack's ROC curves."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Drawn without a ground, to lie on a light page and on a dark one; on a telephone they are shown 360 pixels wide, where
# a point of type is a pixel: two panels side by side, and no type under eleven points.
_INK, _GRID = "#7D7D7D", "#7D7D7D50"  # as far from white as from the page's dark
_WIDTH, _DPI = 5.0, 160
_TYPE: Any = {
    "font.size": 12, "axes.titlesize": 12.5, "axes.labelsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11,
    "legend.fontsize": 11, "legend.frameon": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "axes.titleweight": "bold", "axes.titlecolor": _INK,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}  # fmt: skip
_FORGET, _HOLDOUT = "#D9681D", "#2E86C1"  # told apart by colour-blind readers, on light and on dark
_COLOURS = (
    "#7D7D7D",
    "#B8860B",
    "#2E86C1",
    "#D9681D",
    "#1B9E77",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#A3456F",
    "#44AA99",
)


def logit_histograms(logits: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path) -> Path:
    """Writes a PNG with a panel for each method: membership logits of forget and of holdout people, over target models.

    Args:
        logits: method -> {"forget": values, "holdout": values}. Panels share their axes; a method that forgot well
            shows two histograms that cover one another.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    _something(logits, path)
    columns = min(2, len(logits))
    lines = -(-len(logits) // columns)
    everything = np.concatenate(
        [np.asarray(values, dtype=float) for sides in logits.values() for values in sides.values()]
    )
    low, high = np.quantile(everything, [0.002, 0.998])
    bins = np.linspace(low, max(high, low + 1e-3), 31)
    with rc_context(_TYPE):
        figure = Figure(figsize=(_WIDTH, 1.55 * lines + 0.9), layout="constrained", dpi=_DPI)
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, (method, sides) in zip(panels, logits.items(), strict=False):
            for side, colour in (("forget", _FORGET), ("holdout", _HOLDOUT)):
                values = np.clip(sides[side], bins[0], bins[-1])
                panel.hist(values, bins=bins, density=True, color=colour, alpha=0.6, label=side)
                panel.axvline(float(np.median(values)), color=colour, lw=2, ls="--")
            panel.set_title(method, loc="left")
            panel.set_yticks([])
            _plain(panel)
        for panel in panels[len(logits) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
        figure.supxlabel("logit of the cosine with\nthe person's enrolment vector", fontsize=12, color=_INK)
        return _save(figure, path)


def roc_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path) -> Path:
    """Writes a PNG with the ROC curve of U-LIRA for each method, on linear and below on logarithmic axes.

    Args:
        curves: method -> (false positive rates, true positive rates).
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    _something(curves, path)
    lines = -(-len(curves) // 2)
    with rc_context(_TYPE):
        figure = Figure(figsize=(_WIDTH, 8.2 + 0.24 * lines), layout="constrained", dpi=_DPI)
        linear, logarithmic = figure.subplots(2, 1)
        for index, (method, (fpr, tpr)) in enumerate(curves.items()):
            style: dict[str, Any] = {
                "color": _COLOURS[index % len(_COLOURS)],
                "lw": 2,
                "ls": ("-", "--", ":")[index // len(_COLOURS) % 3],
            }
            linear.plot(fpr, tpr, label=f"{method} ({np.trapezoid(tpr, fpr):.2f})", **style)
            logarithmic.plot(np.clip(fpr, 1e-3, 1), np.clip(tpr, 1e-3, 1), **style)
        for axes in (linear, logarithmic):
            axes.plot([1e-3, 1], [1e-3, 1], color=_INK, lw=1, ls=":")
            axes.set(xlabel="false positive rate", ylabel="true positive rate")
            _plain(axes)
        logarithmic.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))
        linear.set_title("U-LIRA", loc="left")
        logarithmic.set_title("few false alarms (logarithmic)", loc="left")
        figure.legend(loc="outside lower left", ncols=2, title="method (area under the curve)", columnspacing=1.0,
                      handlelength=1.6, alignment="left")  # fmt: skip
        return _save(figure, path)


def _plain(axes: Any) -> None:
    axes.grid(color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _something(data: Mapping[str, Any], path: str | Path) -> None:
    if not data:
        raise ValueError(f"{path}: there is no method to draw")


def _save(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png", transparent=True)
    os.replace(temporary, path)
    return path
