"""SCRUB's two schedules."""

from batches import pack_all, views_of

from unlearn.method import StepInfo
from unlearn.registry import build_method


def test_joint_trains_both_sets_in_every_step():
    assert build_method("scrub").passes(0) is None


def test_alternating_ascends_only_in_the_first_epochs():
    method = build_method("scrub", {"schedule": "alternating", "msteps": 2})
    assert [method.passes(epoch) for epoch in range(4)] == [("forget", "retain")] * 2 + [("retain",)] * 2
    assert build_method("scrub", {"schedule": "alternating", "msteps": 0}).passes(0) == ("retain",)


def test_each_pass_has_its_own_parts_and_they_add_up_to_the_joint_loss():
    options = {"alpha": 0.5, "beta": 2.0, "gamma": 0.1}
    alternating = build_method("scrub", {**options, "schedule": "alternating"})
    student, teacher = (pack_all(v) for v in views_of(alternating))
    found = {}
    for name in ("forget", "retain"):
        step = StepInfo(step=0, total_steps=8, epoch=0, epochs=2, pass_name=name)
        found[name] = alternating.loss({name: student[name]}, {name: teacher[name]}, step)
    assert set(found["forget"]) == {"forget"} and set(found["retain"]) == {"kl", "retain"}
    joint = build_method("scrub", options).loss(student, teacher, StepInfo(0, 8, 0, 2))
    assert {**found["forget"], **found["retain"]} == joint
