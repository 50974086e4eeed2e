"""The verdict of a certificate: the first of seven sentences that the evidence allows."""

from collections.abc import Sequence
from dataclasses import dataclass

from unlearn.metrics.comparison import equivalence

NOTHING, STILL, FRAGILE, OVER, DAMAGED, LIKE, UNDECIDED = (
    "nothing to forget", "not forgotten", "fragile", "over-forgotten", "damaged", "like", "undecided",
)  # fmt: skip
Ends = Sequence[float] | None  # [low, high], None below four people


@dataclass(frozen=True)
class Finding:
    """One number of the model beside its reference (gold, held-out people, or for what is kept the base).

    `difference`: model - reference; its intervals over people at 95 and at 90 %; `people_needed`: to call two equal
    models equal within the margin, None where that is not known.
    """

    name: str
    model: float
    reference: float | None
    base: float | None
    difference: float | None
    interval95: Ends = None
    interval90: Ends = None
    people_needed: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What a certificate rests on.

    Args:
        gate: whether the base knew the people, by the interval of base - reference; None: cannot be said.
        against: what the model is held against: "gold", "held-out people", or None.
        direct: the forget rows as they are; auc: membership by person; retain: rows to keep, beside the base.
        stress: the same rows under stress beside the reference under the same stress, so that what the reference gains
            by it is taken off; None: no such test was run. absent: the stress tests that a run left out.
    """

    gate: bool | None
    against: str | None
    direct: Sequence[Finding]
    auc: Sequence[Finding]
    retain: Sequence[Finding]
    stress: Sequence[Finding] | None
    margin: float
    absent: Sequence[str] = ()


@dataclass(frozen=True)
class Verdict:
    """The sentence, why it is that one, and for `undecided` how many people would decide."""

    name: str
    reasons: list[str]
    people_needed: int | None = None


def verdict(evidence: Evidence) -> Verdict:
    """The first that holds. A test that was left out, or an interval that few people cannot give, leads to
    `undecided`."""
    margin, other = evidence.margin, evidence.against
    if evidence.gate is False:
        return Verdict(
            NOTHING, ["The model before unlearning did not know these people better than the reference does."]
        )
    if still := [one for one in evidence.direct if _above(one, margin)]:
        return Verdict(STILL, [f"{_said(one)}, more than {other}'s by over {margin:g}." for one in still])
    if fragile := [one for one in evidence.stress or () if _above(one, margin)]:
        return Verdict(FRAGILE, [f"{_said(one)}, more than {other}'s under the same test." for one in fragile])
    over = [f"{_said(one)}, below {other}'s by over {margin:g}." for one in evidence.direct if _below(one, -margin)]
    over += [f"{_said(one)}, below {other}'s: these people stand out." for one in evidence.auc if _below(one, 0)]
    if over:
        return Verdict(OVER, over)
    lost = [
        one for one in evidence.retain if _below(one, 0) and one.difference is not None and one.difference < -margin
    ]
    if lost:
        return Verdict(DAMAGED, [f"{_said(one)}, below the model's before unlearning." for one in lost])
    missing = _missing(evidence)
    wide = [one for one in (*evidence.direct, *evidence.auc) if equivalence(one.interval90, margin) != "equal"]
    if not missing and not wide:
        return Verdict(f"{LIKE} {other} within {margin:g}", ["Every direct test and the membership test agree."])
    needed = [one.people_needed for one in wide if one.people_needed is not None]
    wide_said = [f"{one.name}: {_why_open(one)}." for one in wide]
    return Verdict(UNDECIDED, [*missing, *wide_said], max(needed, default=None))


def _missing(evidence: Evidence) -> list[str]:
    """What was not tested."""
    return [
        sentence
        for absent, sentence in (
            (evidence.gate is None, "It was not shown that the model knew these people before."),
            (evidence.against is None, "There is neither a gold model nor people held out to compare with."),
            (not evidence.direct, "The rows to forget were not asked about."),
            (not evidence.auc, "Membership was not tested: it takes people held out from training."),
            (evidence.stress is None, "No stress test was run."),
            (bool(evidence.absent), f"Stress tests left out: {', '.join(evidence.absent)}."),
        )
        if absent
    ]


def _above(one: Finding, bound: float) -> bool:
    return one.interval95 is not None and one.interval95[0] > bound


def _below(one: Finding, bound: float) -> bool:
    return one.interval95 is not None and one.interval95[1] < bound


def _why_open(one: Finding) -> str:
    return (
        "fewer than four people give no interval" if one.interval90 is None else "the interval is not inside the margin"
    )


def _said(one: Finding) -> str:
    ends = "" if one.interval95 is None else f" [{one.interval95[0]:+.2f}, {one.interval95[1]:+.2f}]"
    difference = "" if one.difference is None else f" (difference {one.difference:+.2f}{ends})"
    return f"{one.name} is {one.model:.2f}{difference}"
