"""Rows with columns of their own (the face track's) on the leaderboard: whoever knows them hands them in as a section.

text_table(rows, sections=[...])    write_report(path, rows, root=..., sections=[...])
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Grid(NamedTuple):
    """One table as text. `grey`: which lines say little; `notes`: how to read it, a sentence each."""

    header: list[str]
    lines: list[list[str]]
    grey: list[bool]
    notes: list[str]


class Section(Protocol):
    """A kind of rows with its own table and its own part of the page."""

    def owns(self, row: Mapping[str, Any]) -> bool:
        """Whether the row is of this kind; every other method gets only such rows."""

    def grids(self, rows: Sequence[Mapping[str, Any]]) -> list[Grid]:
        """The rows as tables, for plain text, Markdown and LaTeX."""

    def html(self, rows: Sequence[Mapping[str, Any]], root: Path) -> str:
        """Its `<section>`s, complete without scripts; one with `data-nav="Name"` gets a link on top of the page.

        `root` is the leaderboard's folder, from which paths in the rows start.
        """


def rows_of(section: Section, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that a section owns, in their order."""
    return [row for row in rows if section.owns(row)]
