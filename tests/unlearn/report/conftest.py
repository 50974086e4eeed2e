"""A board on disk and its page, made once."""

import pytest

from tests.unlearn.report.logs import write_board
from unlearn.report.html import write_report


@pytest.fixture(scope="session")
def board(tmp_path_factory):
    """(folder, rows) of an mm leaderboard with three seeds of one method."""
    root = tmp_path_factory.mktemp("board")
    return root, write_board(root)


@pytest.fixture(scope="session")
def page(board):
    """The report of `board`."""
    root, rows = board
    return write_report(root / "leaderboard.html", rows, root=root)
