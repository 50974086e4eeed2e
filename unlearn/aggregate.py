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
    """Merges a row per log into `save_file` and writes what else is asked for; returns all rows of the leaderboard.

    `sections` show the rows of other kinds that the file holds.

    Every log is read and checked before anything is written. ValueError: see leaderboard_row, find_logs and merge_rows.
    """
    if not settings.retain_result:
        raise ValueError("retain_result is empty: give the gold model's eval_log_aggregated.json.")
    gold = read_log(settings.retain_result)
    base = read_log(settings.base_result) if settings.base_result else None
    refusals = read_refusals(settings.refusals) if settings.refusals else None
    board = Path(settings.save_file)
    rows = [
        leaderboard_row(
            _same_or_read(path, gold, base), gold, base_log=base, method=settings.method_name,
            submitted_by=settings.submitted_by, refusals=refusals, relative_to=board.parent,
        )
        for path in find_logs(settings.ckpt_result)
    ]  # fmt: skip
    with board_lock(board):  # the picture and the page show the rows that the file has
        rows = merge_rows(board, rows)
        if settings.picture:
            trade_off_picture(rows, _beside(board, settings.picture, ".png"))
        if settings.report:
            write_report(_beside(board, settings.report, ".html"), rows, root=board.parent, sections=sections)
        if settings.markdown:
            write_text(_beside(board, settings.markdown, ".md"), markdown_table(rows, sections))
        if settings.latex:
            write_text(_beside(board, settings.latex, ".tex"), latex_table(rows, sections))
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


def _same_or_read(path: Path, *known: EvalLog | None) -> EvalLog:
    """A log that was read already where `path` is gold's or base's own."""
    return next((log for log in known if log and log.path and log.path.resolve() == path.resolve()), None) or read_log(
        path
    )


def _beside(board: Path, wanted: bool | str, suffix: str) -> Path:
    return Path(wanted) if isinstance(wanted, str) else board.with_suffix(suffix)
