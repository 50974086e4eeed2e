"""A stress run for people: the table of every model beside base and gold, the pictures, and one page of both."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.atomic import write_json, write_text
from unlearn.leaderboard.stress import AREA, DEPTH, MEAN, WORST, find, summarise
from unlearn.report.stress_pictures import draw
from unlearn.stress_log import BASE, GOLD, PLAIN

SUMMARY, PAGE, TABLE = "stress_summary.json", "stress.html", "stress.md"
NOTE = (
    "Means over rows with 95 % intervals over people (leaving one out); none below four people. `*`: the paired "
    "interval of model - gold leaves 0 out. Gold, not 0, is where a number should land."
)


def write_stress(folder: Path) -> str:
    """Writes stress_summary.json, stress.md, stress.html and the pictures; returns the table.

    ValueError for a run that is damaged or whose models were asked about other rows.
    """
    summary = summarise(folder)
    write_json(folder / SUMMARY, summary)
    pictures = draw(summary, folder)
    lines = headline(summary)
    names = ordered(summary)
    head = ["test", "what", *names]
    rows = [[test, what, *(cell(entry["models"].get(name)) for name in names)] for test, what, entry in lines]
    markdown = _markdown(head, rows)
    write_text(folder / TABLE, f"{markdown}\n{NOTE}\n\n{_curves(summary)}\n{_seconds(summary)}\n")
    write_text(folder / PAGE, _page(summary, head, rows, pictures))
    return f"{markdown}\n{NOTE}\n{_curves(summary)}"


def ordered(summary: Mapping[str, Any]) -> list[str]:
    """base, gold, then the models."""
    return [model["name"] for model in summary["models"]]


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(test, what, entry) of the numbers that say most, in reading order."""
    found: list[tuple[str, str, Mapping[str, Any]]] = []

    def add(test: str, what: str, entry: Mapping[str, Any] | None) -> None:
        if entry is not None:
            found.append((test, what, entry))

    tests = summary["tests"]
    for entry in tests.get("variants", ()):
        if entry["label"] in (PLAIN, WORST) and entry["kind"] in ("p", "name"):
            add("variants", f"{_said(entry)}, {entry['label']}", entry)
    for entry in tests.get("leak", ()):
        add("leak@k", f"{_said(entry)}, {entry['label']}", entry)
    for entry in tests.get("quantisation", ()):
        if entry["kind"] in ("p", "name"):
            add("quantisation", f"{_said(entry)}, {entry['label']}", entry)
    for entry in tests.get("relearning", ()):
        data, _, what = entry["label"].partition(", ")
        last = max(int(one["label"].split(" ")[-1]) for one in tests["relearning"] if "step" in one["label"])
        if what in (AREA, "step 0", f"step {last}"):
            add("relearning", f"{data}: {_said(entry)}, {what}", entry)
    for entry in tests.get("depth", ()):
        add("depth", "like gold inside (0 base, 1 gold)", find([entry], entry["task"], DEPTH, "score"))
    for entry in tests.get("probe", ()):
        add("probe", "person told from the states", find([entry], entry["task"], MEAN, "named"))
    for entry in tests.get("gradient", ()):
        add("gradient", f"membership AUC of {entry['task'].removeprefix('eval_')}, {entry['kind']}", entry)
    return found


def cell(numbers: Mapping[str, Any] | None) -> str:
    """`.31 [.22, .42]*`: mean, interval over people, and a mark where it is not gold's."""
    if numbers is None or numbers["mean"] is None:
        return "—"
    ends = numbers["interval"]
    text = short(numbers["mean"]) + (f" [{short(ends[0])}, {short(ends[1])}]" if ends else "")
    apart = numbers.get("difference")
    differs = apart is not None and apart[1] is not None and (apart[1] > 0 or apart[2] < 0)
    return text + ("*" if differs else "")


def short(value: float) -> str:
    """Two digits, without the zero before the point."""
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _said(entry: Mapping[str, Any]) -> str:
    kinds = {"p": "p", "ROUGE": "ROUGE-L recall", "name": "name said", "choice": "right option"}
    return f"{kinds.get(entry['kind'], entry['kind'])} of {entry['task'].removeprefix('eval_')}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _curves(summary: Mapping[str, Any]) -> str:
    """When a memory is back, and how far a model gets from gold meanwhile."""
    lines = []
    for data, models in summary["curves"].items():
        said = []
        for name, facts in models.items():
            back = "never" if facts["first_step"] is None else f"step {facts['first_step']}"
            peak = facts["peak"]
            apart = "" if name == GOLD else f", {peak['difference']:+.2f} from gold at step {peak['step']}"
            said.append(f"{name} {back}{apart}")
        lines.append(f"Relearning from {data}, first step at 90 % of base's p: {'; '.join(said)}.")
    return "".join(f"{line}\n" for line in lines)


def _seconds(summary: Mapping[str, Any]) -> str:
    said = [f"{test} {sum(times.values()) / len(times):.0f}" for test, times in summary["seconds"].items()]
    return f"Seconds per model, on average: {', '.join(said)}."


def _page(
    summary: Mapping[str, Any], head: Sequence[str], rows: Sequence[Sequence[str]], pictures: Mapping[str, Path]
) -> str:
    """One self-contained file."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in cells) + "</tr>"

    models = "".join(
        f"<li>{html.escape(model['name'])}: {html.escape(model['path'])}"
        f"{' (' + html.escape(model['modality']) + ')' if model.get('modality') else ''}</li>"
        for model in summary["models"]
    )
    figures = "".join(
        f'<figure><img alt="{html.escape(title)}" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}"><figcaption>{html.escape(title)}</figcaption></figure>'
        for title, path in pictures.items()
    )
    curves = "".join(f"<p>{html.escape(text)}</p>" for text in _curves(summary).splitlines())
    return _FRAME.format(
        models=models, head=line(head, "th"), rows="".join(line(row, "td") for row in rows), note=html.escape(NOTE),
        curves=curves, figures=figures, seconds=html.escape(_seconds(summary)), base=BASE, gold=GOLD,
    )  # fmt: skip


_FRAME = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Stress</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}}
table{{border-collapse:collapse;font-size:13px}}td,th{{border:1px solid #ddd;padding:3px 8px;text-align:left}}
th{{background:#f4f4f4}}img{{max-width:100%}}figure{{margin:2em 0}}figcaption{{color:#555}}
tr:hover{{background:#fafafa}}</style>
<h1>Does it really forget?</h1>
<ul>{models}</ul>
<p>{note}</p>
<table>{head}{rows}</table>
{curves}
{figures}
<p>{seconds}</p>
</html>
"""
