"""Every test runs offline and on one thread: the models are tiny, and two threads fight over the machine's cores."""

import os
import sys

from absl import logging as absl_logging

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "disabled")

import socket
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

# rouge_score brings absl, whose log handler closes its stream when logging is configured anew (Hydra does), unless that
# is the standard error of the moment: made while pytest captures, it would close the capture.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that reaches beyond this machine fails at once, instead of passing only where there is a network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address):  # type: ignore[no-untyped-def]
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser for pages of the report, where the machine has one."""
    from tests.unlearn.report.browser import CHROMIUM, DRIVER, Browser

    if CHROMIUM is None or DRIVER is None:
        reason = "THE REPORT IS NOT TESTED IN A BROWSER: install Debian's chromium and chromium-driver"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("profile")) as window:
        yield window
