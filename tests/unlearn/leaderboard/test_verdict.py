"""The verdict of a certificate: each kind from evidence that plants it, and the first that holds."""

from dataclasses import replace

import pytest

from unlearn.leaderboard.verdict import Evidence, Finding, verdict

MARGIN = 0.05


def finding(name: str, low: float, high: float, needed: int | None = None) -> Finding:
    """One whose 95 % interval is [low, high] and whose 90 % interval lies a tenth inside."""
    middle, inner = (low + high) / 2, 0.9 * (high - low) / 2
    return Finding(name, 0.5 + middle, 0.5, 0.9, middle, [low, high], [middle - inner, middle + inner], needed)


EQUAL = finding("p of captions", -0.02, 0.02)
GOOD = Evidence(True, "gold", [EQUAL], [finding("membership", -0.03, 0.02)], [finding("kept", -0.01, 0.02)],
                [finding("worst prompt", -0.04, 0.03)], MARGIN)  # fmt: skip

KINDS = {
    "nothing to forget": replace(GOOD, gate=False),
    "not forgotten": replace(GOOD, direct=[finding("p", 0.06, 0.2)]),
    "fragile": replace(GOOD, stress=[finding("leak@64", 0.06, 0.4)]),
    "over-forgotten": replace(GOOD, direct=[finding("p", -0.3, -0.06)]),
    "damaged": replace(GOOD, retain=[finding("kept", -0.3, -0.04)]),
    "like gold within 0.05": GOOD,
    "undecided": replace(GOOD, direct=[finding("p", -0.02, 0.09, needed=35)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind: str) -> None:
    found = verdict(KINDS[kind])
    assert found.name == kind and found.reasons
    assert found.people_needed == (35 if kind == "undecided" else None)


def test_the_first_that_holds() -> None:
    """All faults at once, then without the first of them, and so on."""
    faults = {"gate": False, "direct": KINDS["not forgotten"].direct, "stress": KINDS["fragile"].stress,
              "auc": [finding("membership", -0.4, -0.1)], "retain": KINDS["damaged"].retain}  # fmt: skip
    every = replace(GOOD, **faults)
    seen = []
    for name in faults:
        seen.append(verdict(every).name)
        every = replace(every, **{name: getattr(GOOD, name)})
    assert seen == ["nothing to forget", "not forgotten", "fragile", "over-forgotten", "damaged"]
    assert verdict(every).name == "like gold within 0.05"


@pytest.mark.parametrize(("low", "high", "name"), [
    (0.05, 0.4, "undecided"),  # the bound itself is not above it
    (0.0500001, 0.4, "not forgotten"),
    (-0.4, -0.05, "undecided"),
    (-0.4, -0.0500001, "over-forgotten"),
])  # fmt: skip
def test_the_margin_is_the_bound_of_the_interval_not_of_the_mean(low: float, high: float, name: str) -> None:
    assert verdict(replace(GOOD, direct=[finding("p", low, high)])).name == name


def test_membership_below_golds_counts_by_its_interval_alone() -> None:
    assert verdict(replace(GOOD, auc=[finding("membership", -0.4, -0.001)])).name == "over-forgotten"
    assert verdict(replace(GOOD, auc=[finding("membership", -0.4, 0.001)])).name == "undecided"


def test_damage_takes_both_interval_and_margin() -> None:
    assert verdict(replace(GOOD, retain=[finding("kept", -0.06, -0.01)])).name == "like gold within 0.05"  # mean -.035
    assert verdict(replace(GOOD, retain=[finding("kept", -0.3, 0.01)])).name == "like gold within 0.05"
    assert verdict(replace(GOOD, retain=[finding("kept", -0.11, -0.01)])).name == "damaged"


@pytest.mark.parametrize(("left_out", "said"), [
    ({"gate": None}, "not shown that the model knew"),
    ({"against": None}, "neither a gold model nor people held out"),
    ({"direct": []}, "were not asked about"),
    ({"auc": []}, "Membership was not tested"),
    ({"stress": None}, "No stress test was run"),
    ({"absent": ["depth"]}, "Stress tests left out: depth"),
])  # fmt: skip
def test_a_test_left_out_leads_to_undecided_only(left_out: dict[str, object], said: str) -> None:
    found = verdict(replace(GOOD, **left_out))  # type: ignore[arg-type]
    assert found.name == "undecided" and any(said in reason for reason in found.reasons)
    for kind in ("not forgotten", "over-forgotten", "damaged"):
        faulty = replace(KINDS[kind], **{key: value for key, value in left_out.items() if key != "direct"})
        assert verdict(faulty).name == kind, "what was found stays found"


def test_few_people_are_no_ground_for_a_verdict() -> None:
    bare = replace(EQUAL, interval95=None, interval90=None, difference=0.4)
    found = verdict(replace(GOOD, direct=[bare]))
    assert found.name == "undecided" and "fewer than four people" in found.reasons[0]
