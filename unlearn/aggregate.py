"""From the paths of eval logs to files: rows merged into the leaderboard, and its table and picture written beside
it."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.atomic import write_text
from unlearn.leaderboard.file import board_lock, merge_rows
from unlearn.leaderboard.row import leaderboard_row
from unlearn.leaderboard.section import Section
from unlearn.leaderboard.table import latex_table, markdown_table
from unlearn.report.html import write_report
from unlearn.report.scatter import trade_off_picture
from unlearn.results import EvalLog, read_log

OUTPUTS = {"picture": ".png", "report": ".html", "markdown": ".md", "latex": ".tex"}


@dataclass(frozen=True)
class AggregateSettings:
    """The keys of config/aggregate_eval_stat.yaml. Outputs: a path, true for a file named after `save_file`, or
    false."""

    retain_result: str = ""  # the gold model's eval_log_aggregated.json
    ckpt_result: str | list[str] = ""  # the models': a path, a list of paths, or a glob
    base_result: str | None = None  # the model before unlearning
    method_name: str | None = None
    submitted_by: str = ""
    save_file: str = "leaderboard.json"
    refusals: str | None = None  # a text file, one refusal per line
    picture: bool | str = True
    report: bool | str = True  # the page to explore, one self-contained HTML file
    markdown: bool | str = False
    latex: bool | str = False


def update_leaderboard(settings: AggregateSettings, sections: Sequence[Section] = ()) -> list[dict[str, Any]]:
    """Merges a row per log, gold's and base's among them, into `save_file` and writes what else is asked for; returns
    all rows of the leaderboard.

    `sections` show the rows of other kinds that the file holds.

    Every log is read and checked before anything is written. ValueError: see leaderboard_row, find_logs and merge_rows.
    """
    if not settings.retain_result:
        raise ValueError("retain_result is empty: give the gold model's eval_log_aggregated.json.")
    outputs = _outputs(settings)
    gold = read_log(settings.retain_result)
    base = read_log(settings.base_result) if settings.base_result else None
    refusals = read_refusals(settings.refusals) if settings.refusals else None
    board = Path(settings.save_file)
    anchors = [log for log in (gold, base) if log]
    logs = [*anchors, *(log for path in find_logs(settings.ckpt_result) if (log := _unless_read(path, anchors)))]
    rows = [
        leaderboard_row(
            log, gold, base_log=base, method=None if log in anchors else settings.method_name,
            submitted_by=settings.submitted_by, refusals=refusals, relative_to=board.parent,
        )
        for log in logs
    ]  # fmt: skip
    with board_lock(board):  # the picture and the page show the rows that the file has
        rows = merge_rows(board, rows)
        if picture := outputs.get("picture"):
            trade_off_picture(rows, picture)
        if report := outputs.get("report"):
            write_report(report, rows, root=board.parent, sections=sections)
        if markdown := outputs.get("markdown"):
            write_text(markdown, markdown_table(rows, sections))
        if latex := outputs.get("latex"):
            write_text(latex, latex_table(rows, sections))
    return rows


def find_logs(patterns: str | Sequence[str]) -> list[Path]:
    """The files that paths and globs (`models/**/eval_log_aggregated.json`) name, each once, sorted within a glob.

    ValueError for a pattern without a file.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise ValueError(
                f"ckpt_result={pattern!r} names no file. Give the path of an eval_log_aggregated.json, or a glob."
            )
        found |= dict.fromkeys(files)
    if not found:
        raise ValueError("ckpt_result is empty: give the path of an eval_log_aggregated.json, several, or a glob.")
    return list(found)


def read_refusals(path: str | Path) -> list[str]:
    """The lines of a bank of refusals. ValueError if there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"refusals={path}: no such file. Correct the path, or leave the rate out with refusals=null."
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _unless_read(path: Path, known: Sequence[EvalLog]) -> EvalLog | None:
    """The log of `path`; None where it is gold's or base's own."""
    same = any(log.path and log.path.resolve() == path.resolve() for log in known)
    return None if same else read_log(path)


def _outputs(settings: AggregateSettings) -> dict[str, Path]:
    """Where picture, report and tables go. ValueError if one of them would replace the rows, or another of them."""
    board = Path(settings.save_file)
    if board.suffix.lower() in OUTPUTS.values():
        raise ValueError(f"save_file={board} is where the rows go: give it a name that ends in .json or .csv.")
    taken = {board.resolve(): "save_file"}
    outputs = {}
    for name, suffix in OUTPUTS.items():
        if wanted := getattr(settings, name):
            outputs[name] = path = Path(wanted) if isinstance(wanted, str) else board.with_suffix(suffix)
            if other := taken.get(path.resolve()):
                raise ValueError(f"{name}={path} is the file of {other} too: give one of them another name.")
            taken[path.resolve()] = name
    return outputs
