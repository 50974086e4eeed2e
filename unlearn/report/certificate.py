"""The certificate as one self-contained page that prints on two sheets of A4, for readers who do not know the field.

It loads nothing, runs no script and holds no picture and no name of a forgotten person (examples, which do, only on
request).
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from unlearn.atomic import finite, write_json, write_text

MEANINGS = {
    "nothing to forget": "The model did not know these people before; there was nothing to remove.",
    "not forgotten": "The model still knows more of these people than the reference does.",
    "fragile": "Asked plainly the model no longer tells, but under a stress test it does.",
    "over-forgotten": "The model knows less than one that never heard of these people; that makes them stand out.",
    "damaged": "These people are forgotten, but other knowledge was lost with them.",
    "like": "On every test that was run, the model answers like the reference.",
    "undecided": "The tests that were run cannot decide.",
}
COLOURS = {"like": "#1b7f4d", "undecided": "#8a6d00", "nothing to forget": "#555555"}
ALARM = "#b3261e"


def write_certificate(facts: Mapping[str, Any], path: str | Path, examples: Sequence[Mapping[str, str]] = ()) -> Path:
    """Writes the page and `<path>.json` (with the suffix .json) beside it, atomically; returns the page's path."""
    path = Path(path)
    write_text(path, page(facts, examples))
    write_json(path.with_suffix(".json"), finite({**facts, **({"examples": list(examples)} if examples else {})}))
    return path


def page(facts: Mapping[str, Any], examples: Sequence[Mapping[str, str]] = ()) -> str:
    """The page's HTML. Everything of `facts` becomes text, never markup."""
    name = str(facts["verdict"]["name"])
    kind = "like" if name.startswith("like") else name
    parts = [
        _banner(name, MEANINGS[kind], COLOURS.get(kind, ALARM), facts),
        _request(facts),
        _section("Before: did the model know these people?", _gate(facts)),
        _section("Now: asked directly", _direct(facts)),
        _section("Do these people stand out? (membership)", _membership(facts)),
        _section("Under stress", _stress(facts)),
        _section("What else the model knows", _kept(facts)),
        _section("Examples", _examples(examples)) if examples else "",
        _section("What this does not show", _list(facts["not tested"])),
        _section("For the record", _record(facts)),
    ]
    return _PAGE.replace("{{body}}", "\n".join(parts))


def _banner(name: str, meaning: str, colour: str, facts: Mapping[str, Any]) -> str:
    reasons = _list(facts["verdict"]["reasons"])
    needed = facts["verdict"].get("people_needed")
    more = f"<p>About {needed} people would be needed to decide.</p>" if needed else ""
    return (
        f'<header><p class="kind">Certificate of unlearning</p><h1 style="border-color:{colour};color:{colour}">'
        f"{escape(name)}</h1><p>{escape(meaning)}</p>{reasons}{more}</header>"
    )


def _request(facts: Mapping[str, Any]) -> str:
    request = facts["request"]
    rows = ", ".join(f"{count} in {name}" for name, count in request["rows"].items())
    people = " ".join(f"<code>{escape(one)}</code>" for one in request["people"])
    said = [
        ("People", f"{len(request['people'])}, by hash (the salt is the owner's): {people}"),
        ("Rows about them", escape(rows)),
        ("Method", escape(f"{request['method']}, modality {request['modality']}")),
        ("Held against", escape(str(facts["against"] or "nothing"))),
        *([("Training stopped", escape(request["stop rule"]))] if request["stop rule"] else []),
        ("Margin", f"{facts['margin']:g}: smaller differences count as none"),
        ("Date", escape(request["date"])),
    ]
    return _section("The request", _pairs(said))


def _gate(facts: Mapping[str, Any]) -> str:
    words = {True: "Yes.", False: "No.", None: "That was not shown."}[facts["gate"]["memorised"]]
    return f"<p>{words}</p>" + _table(facts["gate"]["numbers"], "before", "reference")


def _direct(facts: Mapping[str, Any]) -> str:
    note = "<p>“Left over”: 0 is the reference, 1 the model before unlearning.</p>"
    return note + _table(facts["direct"], "now", "reference", leakage=True, before=True)


def _membership(facts: Mapping[str, Any]) -> str:
    if not facts["privacy"]:
        return "<p>Not tested.</p>"
    note = (
        "<p>How well a guesser tells these people from people never seen, by the model’s certainty alone: 1 means "
        "that they still look trained on, the reference’s value that they do not, 0 that they stand out by being "
        f"avoided.{_held_out(facts['holdout'])}</p>"
    )
    return note + _table(facts["privacy"], "now", "reference", before=True)


def _held_out(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return ""
    blind = facts["blind AUC"]
    words = "" if blind is None else f" Their texts alone would tell them apart with {blind:.2f} (by chance 0.50)."
    return f" Never seen: {facts['people']} people held out, {facts['rows']} rows.{words}"


def _stress(facts: Mapping[str, Any]) -> str:
    if facts["stress"] is None:
        return "<p>Not tested.</p>"
    return _table(facts["stress"], "now", "reference")


def _kept(facts: Mapping[str, Any]) -> str:
    cost = facts["cost"]
    said = [
        f"{name} {value:+.2f} ({meaning})."
        for name, meaning, value in (
            ("Refuses where it should answer:", "share of answers, now minus before", cost["Over-refusal"]),
            (
                "Lost near the forgotten:",
                "probability lost there beyond what is lost elsewhere",
                cost["Knowledge hole"],
            ),
        )
        if value is not None
    ]
    return _table(facts["kept"], "now", "before") + (f"<p>{' '.join(said)}</p>" if said else "")


def _examples(examples: Sequence[Mapping[str, str]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one['question'])}</td><td>{escape(one['answer'])}</td><td>{escape(one['generated'])}</td></tr>"
        for one in examples
    )
    return f"<table><tr><th>question</th><th>true answer</th><th>the model now</th></tr>{rows}</table>"


def _record(facts: Mapping[str, Any]) -> str:
    pairs = []
    data: dict[str, list[str]] = {}  # the same for all models, as a rule: then said once
    for name, hashes in facts["hashes"].items():
        said = [f"{key} {value}" for key, value in hashes.items() if value is not None and not isinstance(value, dict)]
        pairs.append((name, " · ".join(f"<code>{escape(one)}</code>" for one in said)))
        if isinstance(hashes.get("data"), dict):
            tasks = " · ".join(f"<code>{escape(f'{task} {value}')}</code>" for task, value in hashes["data"].items())
            data.setdefault(tasks, []).append(name)
    pairs += [("data" if len(data) == 1 else f"data, {', '.join(names)}", tasks) for tasks, names in data.items()]
    if facts["made by"]["command"]:
        pairs.append(("command", f"<code>{escape(facts['made by']['command'])}</code>"))
    pairs += [("not checked", escape(one)) for one in facts["made by"]["unchecked"]]
    return f'<div class="small">{_pairs(pairs)}</div>'


def _table(
    findings: Sequence[Mapping[str, Any]], now: str, reference: str, *, leakage: bool = False, before: bool = False
) -> str:
    if not findings:
        return "<p>No such number.</p>"
    head = ["", *(["before"] if before else []), now, reference, "difference, 95 % interval", ""]
    head += ["left over"] if leakage else []
    body = []
    for one in findings:
        cells = [escape(one["name"]), *([_number(one["base"])] if before else []), _number(one["model"])]
        cells += [_number(one["reference"]), _difference(one), _bar(one)]
        cells += [_number(one.get("leakage"))] if leakage else []
        body.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{word}</th>' for word in head)}</tr>{''.join(body)}</table>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _difference(one: Mapping[str, Any]) -> str:
    if one["difference"] is None:
        return "–"
    ends = one["interval95"]
    return f"{one['difference']:+.2f}" + ("" if ends is None else f" [{ends[0]:+.2f}, {ends[1]:+.2f}]")


def _bar(one: Mapping[str, Any]) -> str:
    """The difference and its interval on a line from -1 to 1."""
    if one["difference"] is None:
        return ""
    ends = one["interval95"] or [one["difference"]] * 2
    low, high, place = (60 + 58 * max(-1.0, min(1.0, value)) for value in (*ends, one["difference"]))
    return (
        '<svg width="120" height="12" role="img" aria-label="difference">'
        '<line x1="2" x2="118" y1="6" y2="6" class="axis"/>'
        f'<line x1="60" x2="60" y1="1" y2="11" class="axis"/><line x1="{low:.1f}" x2="{high:.1f}" y1="6" y2="6" '
        f'class="ends"/><circle cx="{place:.1f}" cy="6" r="3"/></svg>'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs) + "</dl>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Certificate of unlearning</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
@page { size: A4; margin: 14mm }
body { font: 13px/1.4 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 50rem; margin: 1rem auto }
body { padding: 0 1rem }
h1 { font-size: 1.9rem; margin: .2rem 0; padding-left: .6rem; border-left: .5rem solid }
h2 { font-size: 1rem; margin: .9rem 0 .2rem; break-after: avoid }
.kind { text-transform: uppercase; letter-spacing: .08em; color: #555; margin: 0 }
p, ul { margin: .2rem 0 } section { break-inside: avoid }
table { border-collapse: collapse; width: 100%; font-size: 12px } th { text-align: left; font-weight: 600 }
td, th { padding: .12rem .5rem .12rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .2rem 0 }
dt { color: #555 } dd { margin: 0 }
code { font-size: 11px; overflow-wrap: anywhere } .small { font-size: 11px }
.axis { stroke: #bbb } .ends { stroke: #0072b2; stroke-width: 3 } circle { fill: #0b3d61 }
@media print {
  @page { margin: 11mm 13mm }
  body { margin: 0; padding: 0; max-width: none; font-size: 10px; line-height: 1.3 } h1 { font-size: 1.5rem }
  h2 { font-size: 12px; margin-top: .55rem } table { font-size: 9.5px } td, th { padding: .03rem .5rem .03rem 0 }
  code, .small { font-size: 8.5px } svg { height: 9px }
}
</style></head><body>
{{body}}
</body></html>
"""
