"""Boards on disk and a browser, each made once."""

import warnings

import pytest

from tests.unlearn.report.browser import CHROMIUM, DRIVER, Browser
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


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None or DRIVER is None:
        reason = "THE REPORT IS NOT TESTED IN A BROWSER: install Debian's chromium and chromium-driver"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("profile")) as window:
        yield window
