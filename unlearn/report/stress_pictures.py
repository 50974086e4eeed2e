"""The pictures of a stress run: leak@k, relearning, the leakage matrix, variants and depth, base and gold in each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import replacing
from unlearn.stress_log import BASE, FORGET, GOLD, PLAIN, PROMPTS, RETAIN

COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F3C8D", "#8C564B")
ANCHORS = {BASE: "#222222", GOLD: "#B8860B"}
Summary = Mapping[str, Any]


def draw(summary: Summary, folder: Path) -> dict[str, Path]:
    """Writes a PNG for each test that was run; {title: file}."""
    found: dict[str, Path] = {}
    for name, title, make in (
        ("variants", "The same rows asked otherwise", _variants),
        ("leak", "leak@k: what the best of k drawn answers gives away", _leak),
        ("matrix", "Leakage: 0 as gold, 1 as before unlearning", _matrix),
        ("collateral", "What it costs the others: the same of the retain people", _collateral),
        ("relearning", "Relearning: p of the forgotten answers after a few steps of training", _relearning),
        ("depth", "Depth: what base's answer loses with a block's output taken from the model", _depth),
    ):
        if (figure := make(summary)) is not None:
            with replacing(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png")
            found[title] = folder / f"{name}.png"
    return found


def colours(summary: Summary) -> dict[str, str]:
    """A colour for each model, the same in every picture."""
    others = [model["name"] for model in summary["models"] if model["name"] not in ANCHORS]
    return {**ANCHORS, **{name: COLOURS[place % len(COLOURS)] for place, name in enumerate(others)}}


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _leak(summary: Summary) -> Any:
    entries = summary["tests"].get("leak")
    if not entries:
        return None
    kinds = list(dict.fromkeys((entry["task"], entry["kind"]) for entry in entries))
    figure = _figure(5.0 * len(kinds), 3.8)
    for axes, (task, kind) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        own = [entry for entry in entries if (entry["task"], entry["kind"]) == (task, kind)]
        _lines(axes, summary, own, [entry["label"] for entry in own])
        axes.set(title=f"{task}: {kind}", xlabel="greedy, then the best of k samples", ylim=(-0.03, 1.03))
    return figure


def _relearning(summary: Summary) -> Any:
    entries = [entry for entry in summary["tests"].get("relearning", ()) if ", step " in entry["label"]]
    if not entries:
        return None
    data = list(dict.fromkeys(entry["label"].partition(",")[0] for entry in entries))
    figure = _figure(4.4 * len(data), 3.8)
    for axes, name in zip(figure.subplots(1, len(data), squeeze=False, sharey=True)[0], data, strict=True):
        own = [entry for entry in entries if entry["label"].startswith(f"{name}, ")]
        _lines(axes, summary, own, [entry["label"].split(" ")[-1] for entry in own])
        axes.set(title=f"trained on {name}", xlabel="steps", ylim=(-0.03, 1.03))
    return figure


def _lines(axes: Any, summary: Summary, entries: Sequence[Mapping[str, Any]], ticks: Sequence[str]) -> None:
    """A line for each model over entries, its intervals as a band."""
    places = list(range(len(entries)))
    for name, colour in colours(summary).items():
        numbers = [entry["models"][name] for entry in entries]
        style = "--" if name in ANCHORS else "-"
        axes.plot(places, [one["mean"] for one in numbers], style, marker="o", ms=4, color=colour, label=name)
        if all(one["interval"] for one in numbers):
            low, high = zip(*(one["interval"] for one in numbers), strict=True)
            axes.fill_between(places, low, high, color=colour, alpha=0.1, lw=0)
    axes.set_xticks(places, ticks)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.legend(frameon=False, fontsize=8)


def _matrix(summary: Summary) -> Any:
    """The models by the five tests: leakage."""
    models = [model for model in summary["models"] if model["name"] not in ANCHORS]

    def leakage(numbers: Mapping[str, Any]) -> tuple[float | None, Sequence[float] | None]:
        return numbers["leakage"]["value"], numbers["leakage"]["interval"]

    return _cells(summary, FORGET, models, leakage, (-1.0, 1.0))


def _collateral(summary: Summary) -> Any:
    """All models by the five retain twins: means."""

    def mean(numbers: Mapping[str, Any]) -> tuple[float | None, Sequence[float] | None]:
        return numbers["mean"], numbers["interval"]

    return _cells(summary, RETAIN, summary["models"], mean, (0.0, 1.0))


def _cells(
    summary: Summary, side: str, models: Sequence[Mapping[str, Any]], read: Any, limits: tuple[float, float]
) -> Any:
    """A table of cells for each kind, with intervals."""
    entries = [one for one in summary["tests"].get("matrix", ()) if one["label"].startswith(f"{side}: ")]
    if not entries:
        return None
    kinds = list(dict.fromkeys(entry["kind"] for entry in entries))
    figure = _figure(9.5, (1.1 + 0.55 * len(models)) * len(kinds))
    for axes, kind in zip(figure.subplots(len(kinds), 1, squeeze=False)[:, 0], kinds, strict=True):
        own = [entry for entry in entries if entry["kind"] == kind]
        cells = [[read(entry["models"][model["name"]]) for entry in own] for model in models]
        grid = [[float("nan") if value is None else value for value, _ in line] for line in cells]
        _heat(axes, grid, [[_text(*one) for one in line] for line in cells], limits)
        axes.set_xticks(range(len(own)), [entry["label"].partition(": ")[2] for entry in own], fontsize=8)
        axes.set_yticks(range(len(models)), [_name(model) for model in models], fontsize=8)
        axes.set_title("ROUGE-L recall" if kind == "ROUGE" else kind, loc="left", fontsize=9)
    return figure


def _variants(summary: Summary) -> Any:
    """For each task and its most telling number: models by variants, the means."""
    entries = summary["tests"].get("variants", ())
    asked = list(dict.fromkeys(entry["task"] for entry in entries))
    if not asked:
        return None
    models = summary["models"]
    figure = _figure(12.5, (1.2 + 0.4 * len(models)) * len(asked))
    for axes, task in zip(figure.subplots(len(asked), 1, squeeze=False)[:, 0], asked, strict=True):
        own = [entry for entry in entries if entry["task"] == task]
        kind = "name" if any(entry["kind"] == "name" for entry in own) else "ROUGE"
        own = [entry for entry in own if entry["kind"] == kind]
        first = [PLAIN, "worst prompt", *PROMPTS]
        own.sort(key=lambda entry: first.index(entry["label"]) if entry["label"] in first else len(first))
        grid = [[entry["models"][model["name"]]["mean"] for entry in own] for model in models]
        _heat(axes, grid, [[f"{one:.2f}" for one in line] for line in grid], (0.0, 1.0))
        axes.set_xticks(range(len(own)), [entry["label"] for entry in own], fontsize=7)
        axes.set_yticks(range(len(models)), [_name(model) for model in models], fontsize=8)
        axes.set_title(f"{task}: {'ROUGE-L recall' if kind == 'ROUGE' else 'share of answers with the name'}",
                       loc="left", fontsize=9)  # fmt: skip
    return figure


def _heat(axes: Any, grid: list[list[float]], texts: list[list[str]], limits: tuple[float, float]) -> None:
    both = limits[0] < 0
    axes.imshow(grid, cmap="RdBu_r" if both else "Oranges", vmin=limits[0], vmax=limits[1], aspect="auto", alpha=0.75)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            axes.text(column, row, text, ha="center", va="center", fontsize=7)
    axes.tick_params(length=0)


def _text(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None:
        return "—"
    return f"{value:.2f}" + (f"\n[{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")


def _name(model: Mapping[str, Any]) -> str:
    return f"{model['name']} ({model['modality']})" if model.get("modality") else str(model["name"])


def _depth(summary: Summary) -> Any:
    profile = summary.get("profile")
    if not profile:
        return None
    figure = _figure(5.2, 3.8)
    axes = figure.subplots()
    for name, colour in colours(summary).items():
        style = "--" if name in ANCHORS else "-"
        axes.plot(range(len(profile[name])), profile[name], style, marker="o", ms=4, color=colour, label=name)
    axes.set(xlabel="block (the last one gives the model's own answer and does not count)", ylabel="nats per token")
    axes.set_xticks(range(len(next(iter(profile.values())))))
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.legend(frameon=False, fontsize=8)
    return figure
