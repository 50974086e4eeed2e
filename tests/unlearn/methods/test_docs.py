"""The documents name what exists: every method has its section, every departure its guarding test."""

import re
from pathlib import Path

import pytest

from unlearn.registry import method_names, option_names

ROOT = Path(__file__).parents[3]


def test_every_method_has_a_section_that_names_its_options():
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text, flags=re.M | re.S))
    for name in method_names():
        section = sections["grad_diff" if name.startswith("grad_diff") else name]
        assert [o for o in option_names(name) if f"`{o}`" not in section] == [], name


def test_every_test_named_in_fidelity_exists():
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    missing = [f"{f}::{n}" for f, n in named if f"def {n}(" not in (ROOT / f).read_text(encoding="utf-8")]
    assert missing == []


def test_every_departure_names_a_test():
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    items = re.split(r"^\d+\. ", text, flags=re.M)[1:]
    if not items:
        pytest.fail("no numbered departures found")
    assert [item.splitlines()[0] for item in items if not re.search(r"`tests/\S+::\w+`", item)] == []
