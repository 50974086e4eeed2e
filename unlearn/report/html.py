"""leaderboard.html: one self-contained page of pictures, tables and answers, for people who look before they read."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from unlearn.atomic import finite, write_text
from unlearn.leaderboard.entries import drawable, evaluated
from unlearn.leaderboard.file import role_of
from unlearn.leaderboard.section import Section, rows_of
from unlearn.metrics.columns import meanings
from unlearn.report.answers import answers
from unlearn.report.authors import authors
from unlearn.report.board import Board, load_boards
from unlearn.report.compare import compare
from unlearn.report.cost import cost
from unlearn.report.curves import curves
from unlearn.report.ecdf import ecdf
from unlearn.report.privacy import privacy
from unlearn.report.table import table
from unlearn.report.thumbnails import Thumbnails
from unlearn.report.tradeoff import tradeoff
from unlearn.report.training import load_trainings

TEXT_BUDGET = 6_000_000  # characters of answers on the page
PICTURE_BUDGET = 6_000_000  # characters of embedded pictures
_STYLES = ("page.css",)
_SCRIPTS = (
    "core.js",
    "tradeoff.js",
    "table.js",
    "ecdf.js",
    "answers.js",
    "authors.js",
    "privacy.js",
    "compare.js",
    "curves.js",
    "cost.js",
    "start.js",
)
GATE = "Forget metric, base minus gold"


def write_report(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    root: str | Path,
    text_budget: int = TEXT_BUDGET,
    picture_budget: int = PICTURE_BUDGET,
    sections: Sequence[Section] = (),
    redact: bool = False,
) -> Path:
    """Writes the page of a leaderboard atomically and returns its path.

    Args:
        rows: leaderboard rows. Where a row's eval logs are gone the page is built without the views that need them, and
            says so.
        root: the folder from which the paths in the rows' `logs` start (the leaderboard file's own).
        text_budget, picture_budget: characters of answers and of pictures; what is left out is said on the page.
        sections: what shows rows of other kinds than those from eval logs.
        redact: numbers only, no text and no picture of a person.
    Raises:
        ValueError: there are no rows that the page can show.
    """
    rows, _ = drawable(rows, sections)
    if not rows:
        raise ValueError(f"{path}: the leaderboard has no rows, so there is nothing to report")
    own = "\n".join(part for section in sections if (part := section.html(rows_of(section, rows), Path(root))))
    rows = evaluated(rows)
    if not rows and not own:
        raise ValueError(f"{path}: no row of the leaderboard is of a kind that the page can show")
    if not rows:
        write_text(path, render_plain(own))
        return Path(path)
    boards = load_boards(rows, root, redact=redact)
    pictures = Thumbnails(picture_budget)
    views = [_views(board, Path(root), pictures, text_budget // len(boards)) for board in boards]
    data = {
        "boards": views, "meanings": meanings(), "pictures": pictures.embedded, "pictures_left_out": pictures.left_out,
        "pictures_missing": pictures.missing,
    }  # fmt: skip
    write_text(path, render(data, own))
    return Path(path)


def render_plain(sections: str) -> str:
    """The page of a leaderboard that has rows of sections alone: no charts to explore, so no scripts."""
    page = files("unlearn.report") / "page"
    parts = {"styles": (page / "page.css").read_text(encoding="utf-8"), "sections": sections}
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], (page / "plain.html").read_text(encoding="utf-8"))


def render(data: Mapping[str, Any], sections: str = "") -> str:
    """The page around its data and the sections' own markup. Nothing of `data` becomes markup: it is JSON without
    `<`, and the scripts write it as text."""
    from plotly.offline import get_plotlyjs

    page = files("unlearn.report") / "page"
    text = {name: (page / name).read_text(encoding="utf-8") for name in ("page.html", *_STYLES, *_SCRIPTS)}
    parts = {
        "styles": "\n".join(text[name] for name in _STYLES),
        "plotly": get_plotlyjs(),
        "data": script_json(data),
        "sections": sections,
        "scripts": "\n".join(text[name] for name in _SCRIPTS),
    }
    return re.sub(
        r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], text["page.html"]
    )  # one pass: data may hold such marks


def script_json(data: Any) -> str:
    """JSON that is safe inside <script>: `</script>` and `<!--` in an answer cannot end or open anything."""
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))  # ASCII: half a surrogate pair is no UTF-8
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _views(board: Board, root: Path, pictures: Thumbnails, text_budget: int) -> dict[str, Any]:
    pictures.look_in(run.measured.path.parent for run in board.readable if run.measured)
    trainings, notes = load_trainings(board, root)
    return {
        "title": board.title,
        "track": board.track.name,
        "facts": _facts(board),
        "gates": _gates(board),
        "problems": [{"label": run.label, "role": run.role, "why": run.problem} for run in board.runs if run.problem],
        "tradeoff": tradeoff(board),
        "table": table(board),
        "ecdf": ecdf(board),
        "answers": answers(board, pictures, text_budget),
        "authors": authors(board),
        "privacy": privacy(board),
        "compare": compare(board),
        "curves": curves(board, trainings),
        "training_notes": notes,
        "cost": cost(board, trainings),
    }


def _facts(board: Board) -> dict[str, Any]:
    """What was compared, in numbers, for the top of the page."""
    row, methods = board.rows[-1], [row for row in board.rows if role_of(row) == "method"]
    return {
        "runs": len(methods),
        "methods": len({str(row["method"]) for row in methods}),
        "items": sum((row.get("items") or {}).values()),
        "forget_items": (row.get("items") or {}).get(board.track.forget.label),
        "forget_people": (row.get("people") or {}).get(board.track.forget.label),
    }


def _gates(board: Board) -> list[dict[str, Any]]:
    """The memorisation gate of METRICS, once per base: whether there was something to forget."""
    found = {}
    for row in board.rows:
        base = row.get("base") or {}
        found[str(base.get("model"))] = {
            "memorised": row.get("memorised"), "gap": row.get(GATE), "interval": (row.get("intervals") or {}).get(GATE),
            "base": base.get("Forget metric"), "gold": (row.get("gold") or {}).get("Forget metric"),
        }  # fmt: skip
    return list(found.values())
