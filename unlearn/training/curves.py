"""The curves of `eval_while_train`: what is still known of the forget and of the retain rows, by epoch."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLES = {"forget": ("#D55E00", "s"), "retain": ("#0072B2", "o")}


def watch_picture(history: Sequence[Mapping[str, Any]], path: str | Path, *, rule: Any = None) -> Path:
    """Writes a PNG, one panel for the answers' probability and one for ROUGE-L; returns its path.

    Args:
        history: the evaluations, each with `epoch`, `step` and `eval_<split>_<quantity>`.
        rule: marks the bound on retain, the target and the best evaluation (watch.Rule); None marks nothing.
    """
    from matplotlib.figure import Figure

    quantities = [name for name in ("probability", "rouge") if f"eval_forget_{name}" in history[0]]
    figure = Figure(figsize=(5.2 * len(quantities), 3.8), layout="constrained", dpi=150)
    for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        for split, (colour, marker) in STYLES.items():
            if (key := f"eval_{split}_{quantity}") in history[0]:
                points = [(record["epoch"], record[key]) for record in history]
                axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=5, lw=1.6, label=split)
        if rule is not None and quantity == "probability":
            _draw_rule(axes, history, rule)
        title = (
            "probability of the answer, $p^{1/T}$" if quantity == "probability" else "ROUGE-L recall of the generation"
        )
        axes.set(xlabel="epoch", ylim=(-0.02, 1.02), title=title)
        axes.grid(color="#DDDDDD", lw=0.6)
        axes.legend(frameon=False, fontsize=8)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path


def _draw_rule(axes: Any, history: Sequence[Mapping[str, Any]], rule: Any) -> None:
    bound = rule.keep_retain * history[0]["eval_retain_probability"]
    axes.axhline(bound, color=STYLES["retain"][0], lw=1, ls=":", label=f"{rule.keep_retain:g} of retain's start")
    if rule.target is not None:
        axes.axhline(rule.target, color=STYLES["forget"][0], lw=1, ls=":", label="forget_target")
    best = rule.best(history)
    axes.axvline(best["epoch"], color="#666666", lw=1, ls="--", label=f"best (step {best['step']})")
