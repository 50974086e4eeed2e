"""Pictures of the face track: the logits an attacker sees (the paper's Figure 6), and the attack's ROC curves."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_FORGET, _HOLDOUT = "#D55E00", "#0072B2"  # Okabe and Ito (2008), told apart by colour-blind readers
_COLOURS = (
    "#000000",
    "#B8860B",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#882255",
    "#666666",
    "#44AA99",
)


def logit_histograms(logits: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path) -> Path:
    """Writes a PNG with a panel for each method: membership logits of forget and of holdout people, over target models.

    Args:
        logits: method -> {"forget": values, "holdout": values}. Panels share their axes; a method that forgot well
            shows two histograms that cover one another.
    """
    from matplotlib.figure import Figure

    _something(logits, path)
    columns = min(4, len(logits))
    lines = -(-len(logits) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * lines + 0.5), layout="constrained", dpi=150)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    everything = np.concatenate(
        [np.asarray(values, dtype=float) for sides in logits.values() for values in sides.values()]
    )
    low, high = np.quantile(everything, [0.002, 0.998])
    bins = np.linspace(low, max(high, low + 1e-3), 41)
    for panel, (method, sides) in zip(panels, logits.items(), strict=False):
        for side, colour in (("forget", _FORGET), ("holdout", _HOLDOUT)):
            values = np.clip(sides[side], bins[0], bins[-1])
            panel.hist(values, bins=bins, density=True, color=colour, alpha=0.5, label=side)
            panel.axvline(float(np.median(values)), color=colour, lw=1, ls="--")
        panel.set_title(method, loc="left", fontsize=10)
        panel.grid(color="#DDDDDD", lw=0.5)
        panel.set_axisbelow(True)
    for panel in panels[len(logits) :]:
        panel.set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("logit of the cosine with the person's enrolment vector", fontsize=9)
    figure.supylabel("density", fontsize=9)
    return _save(figure, path)


def roc_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: str | Path) -> Path:
    """Writes a PNG with the ROC curve of U-LIRA for each method, on linear and on logarithmic axes.

    Args:
        curves: method -> (false positive rates, true positive rates).
    """
    from matplotlib.figure import Figure

    _something(curves, path)
    figure = Figure(figsize=(10, 4.6), layout="constrained", dpi=150)
    linear, logarithmic = figure.subplots(1, 2)
    for index, (method, (fpr, tpr)) in enumerate(curves.items()):
        style: dict[str, Any] = {
            "color": _COLOURS[index % len(_COLOURS)],
            "lw": 1.6,
            "ls": ("-", "--", ":")[index // len(_COLOURS) % 3],
        }
        linear.plot(fpr, tpr, label=f"{method} ({np.trapezoid(tpr, fpr):.2f})", **style)
        logarithmic.plot(np.clip(fpr, 1e-3, 1), np.clip(tpr, 1e-3, 1), **style)
    for axes in (linear, logarithmic):
        axes.plot([1e-3, 1], [1e-3, 1], color="#999999", lw=1, ls=":")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.grid(color="#DDDDDD", lw=0.5)
    logarithmic.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1))
    linear.set_title("U-LIRA (area under the curve)", loc="left", fontsize=10)
    linear.legend(loc="lower right", frameon=False, fontsize=8)
    return _save(figure, path)


def _something(data: Mapping[str, Any], path: str | Path) -> None:
    if not data:
        raise ValueError(f"{path}: there is no method to draw")


def _save(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path
