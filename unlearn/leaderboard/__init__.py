"""From eval logs to rows, files and tables. Reads JSON only: no model, no torch."""

from unlearn.leaderboard.file import merge_rows
from unlearn.leaderboard.row import LOW_RETAIN, leaderboard_row
from unlearn.leaderboard.table import markdown_table, text_table

__all__ = ["LOW_RETAIN", "leaderboard_row", "markdown_table", "merge_rows", "text_table"]
