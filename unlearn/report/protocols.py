"""Where protocols disagree: the forget and the retain number of every protocol, as published and corrected."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# the number of each protocol that says what is left of the forgotten, and what of the others
FORGET = {"clear": "Forget metric", "vqa+qa": "forget accuracy", "mip": "forget accuracy", "kvw": "forget accuracy"}
RETAIN = {"clear": "Retain metric", "vqa+qa": "retain accuracy", "mip": "retain accuracy", "kvw": "retain accuracy"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def protocol_picture(models: Mapping[str, Mapping[str, Any]], path: str | Path) -> Path:
    """A PNG: one panel for the people who were forgotten, one for those who were not; of each model a hollow mark as
    published and a filled one corrected, joined where they differ.

    Args:
        models: what `protocols.json` holds under `protocols`, by the model's path.
    """
    from matplotlib.figure import Figure

    names = _short(list(models))
    figure = Figure(figsize=(10, 1.6 + 0.34 * len(models) * len(FORGET)), layout="constrained", dpi=150)
    for axes, which, title in zip(figure.subplots(1, 2, sharey=True), (FORGET, RETAIN),
                                  ("people to be forgotten", "people to be kept"), strict=True):  # fmt: skip
        for block, (protocol, number) in enumerate(which.items()):
            for place, (model, protocols) in enumerate(models.items()):
                both = protocols[protocol][number]
                height = -(block * (len(models) + 1) + place)
                colour = COLOURS[place % len(COLOURS)]
                _marks(axes, both, height, colour, names[model] if not block else None)
        middle = [-(block * (len(models) + 1) + (len(models) - 1) / 2) for block in range(len(which))]
        axes.set_yticks(middle, list(which))
        axes.set(xlim=(-0.03, 1.03), title=title, xlabel="hollow: as published, filled: corrected")
        axes.grid(axis="x", color="#DDDDDD", lw=0.6)
    figure.axes[0].legend(frameon=False, fontsize=8, loc="best")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
    return path


def _marks(axes: Any, both: Mapping[str, float | None], height: float, colour: str, label: str | None) -> None:
    published, ours = both["as_published"], both["corrected"]
    if published is not None:
        axes.plot([published, ours], [height, height], color=colour, lw=1)
        axes.plot(published, height, "o", ms=7, mfc="white", mec=colour)
    axes.plot(ours, height, "o", ms=5, color=colour, label=label)


def _short(paths: list[str]) -> dict[str, str]:
    """The last parts of each path, as many as tell them apart."""
    for count in range(1, 10):
        names = {path: "/".join(path.rstrip("/").split("/")[-count:]) for path in paths}
        if len(set(names.values())) == len(paths):
            return names
    return {path: path for path in paths}
