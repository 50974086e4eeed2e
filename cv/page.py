"""The face track as a section of the leaderboard and its page: the table of each study, and on the page its logit
histograms and ROC curves."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cv.leaderboard import SHOWN, TRACK, cell, grid, reading, studies, title
from unlearn.leaderboard.section import Grid

# What a study leaves beside its models: file, heading, what to see in it
PICTURES = (
    (
        "histograms.png",
        "What the attacker sees",
        "Membership logits of the people that the target models forgot and of people they never saw; dashed: "
        "medians. Where a method forgot well the two cover one another, as for retrain.",
    ),
    (
        "roc.png",
        "How far the attack gets",
        "ROC curves of U-LIRA. Dotted: guessing. Below, logarithmic: how many members are found at few false alarms.",
    ),
)
ANCHORS = ("original", "retrain")


class Faces:
    """The face track's rows, a table and a `<section>` for each study; `study` in a row is its folder, from the
    leaderboard's."""

    def owns(self, row: Mapping[str, Any]) -> bool:
        return row.get("track") == TRACK

    def grids(self, rows: Sequence[Mapping[str, Any]]) -> list[Grid]:
        return [grid(study) for study in studies(rows)]

    def html(self, rows: Sequence[Mapping[str, Any]], root: Path) -> str:
        return "\n".join(_study(study, root, place) for place, study in enumerate(studies(rows)))


FACES = Faces()


def _study(rows: Sequence[Mapping[str, Any]], root: Path, place: int) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in ("Method", *SHOWN))
    body = "".join(_line(row) for row in rows)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in reading(rows[0]))
    pictures = "".join(_picture(root / str(rows[0].get("study") or "."), *picture) for picture in PICTURES)
    nav = "" if place else ' data-nav="Faces"'
    return f"""<section id="faces{place or ""}"{nav} class="card"><h2>Forgetting a face</h2>
<p class="how">{html.escape(title(rows[0]))}: what a face recogniser still knows of the people it forgot, and how well
an attacker with shadow models tells them from people never seen.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table of the face track">
<table class="faces"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<div class="small">{notes}</div>
{pictures}</section>"""


def _line(row: Mapping[str, Any]) -> str:
    kind = ' class="anchor"' if row["method"] in ANCHORS else ""
    cells = "".join(
        f'<td>{value}<span class="range">{ends}</span></td>' for value, ends in (cell(row, name) for name in SHOWN)
    )
    return f"<tr{kind}><td>{html.escape(str(row['method']))}</td>{cells}</tr>\n"


def _picture(folder: Path, name: str, heading: str, text: str) -> str:
    """The picture inside the page; a note where it is gone or no PNG."""
    file = folder / name
    content = file.read_bytes() if file.is_file() else b""
    if not content.startswith(b"\x89PNG"):
        return f'<p class="empty">{html.escape(f"{file} is gone; cv/run.py draws it again.")}</p>'
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return f'<h3>{heading}</h3><p class="how">{text}</p><img class="figure" alt="{heading}: {text}" src="{uri}">\n'
